"""The event-sequence model: four ways of using time, two origins of it."""

import functools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies as st

from seqserve.models.config import TimeUse
from seqserve.models.networks.events import EventModel

WAYS = get_args(TimeUse)
EVENTS = np.array([[2, 4, 1, 3]])
ELAPSED = np.array([[0.0, 0.3, 2.5, 0.1]], "float32")


def model(way: TimeUse, seed: int = 1, dropout: float = 0.0) -> EventModel:
    """A network with weights that are not near zero, as trained ones are."""
    network = EventModel(5, 6, 7, dropout, way)
    random = np.random.default_rng(seed)
    network.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in network.get_weights()])
    return network


@pytest.mark.parametrize("way", WAYS)
def test_padding_is_invisible_in_training_too(way: TimeUse) -> None:
    """A row's answers are the same alone and beside a longer one, whatever time stands in its padding."""
    network = model(way)
    alone = network((EVENTS, ELAPSED), training=True)
    events = np.concatenate([np.pad(EVENTS, ((0, 0), (0, 3))), [[1, 5, 2, 3, 4, 4, 1]]])
    elapsed = np.concatenate([np.pad(ELAPSED, ((0, 0), (0, 3)), constant_values=9), np.ones((1, 7))])
    padded = network((events, elapsed.astype("float32")), training=True)
    for head, wanted in alone.items():
        np.testing.assert_allclose(padded[head][0, :4], wanted[0], atol=1e-5)
    last = network.last(events, elapsed.astype("float32"))
    for head, wanted in alone.items():
        np.testing.assert_allclose(last[head][0], wanted[0, -1], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_time_counts_unless_it_is_not_used(way: TimeUse) -> None:
    """Another elapsed time gives another answer; `none` gives the very same one."""
    network = model(way)
    one, other = network((EVENTS, ELAPSED)), network((EVENTS, ELAPSED * 3 + 1))
    same = [np.array_equal(one[head], other[head]) for head in one]
    assert same == [way == "none"] * 3


def test_the_influence_of_an_old_event_falls_with_elapsed_time() -> None:
    """With the time gate, what the first event was moves the last answer less, the longer ago it is."""
    random = np.random.default_rng(3)
    rest = random.integers(1, 6, (200, 2))
    network, weights = model("time_gate"), [model("time_gate", seed).get_weights() for seed in range(10)]
    last = tf.function(network.last, reduce_retracing=True)

    def influence(elapsed: float, seed: int) -> float:
        """How far the first of three events moves the answers, over many sequences."""
        network.set_weights(weights[seed])
        waits = np.tile(np.array([0, elapsed, elapsed], "float32"), (200, 1))
        answers = [
            np.concatenate(
                [np.reshape(value, (200, -1)) for value in last(events, tf.constant(waits)).values()], 1
            )
            for first in (1, 2)
            for events in [tf.constant(np.concatenate([np.full((200, 1), first), rest], axis=1))]
        ]
        return float(np.abs(answers[0] - answers[1]).mean())

    # the mean of ten networks: in a single one, forgetting now and then moves a state away from saturation
    waits = (0.0, 1.0, 3.0, 9.0)
    falls = [float(np.mean([influence(elapsed, seed) for seed in range(10)])) for elapsed in waits]
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] < 0.5 * falls[0]


@functools.cache
def gate_and_standard() -> tuple[EventModel, EventModel, Callable[..., Any]]:
    """A time gate, `none` with all but its recurrent weights, and both compiled: eager loops are slow."""
    gate, standard = model("time_gate"), model("none", seed=2)
    for part in ("embedding", "bigram", "next_event", "to_next", "to_end"):
        getattr(standard, part).set_weights(getattr(gate, part).get_weights())
    return gate, standard, tf.function(lambda timed: (gate((EVENTS, timed)), standard((EVENTS, timed))))


@given(st.floats(0, 10))
def test_with_time_constant_the_model_is_one_with_a_standard_lstm(elapsed: float) -> None:
    """The whole model's answers are those of `none` with the gate's weights and a smaller forget bias."""
    gate, standard, answers = gate_and_standard()
    kernel, recurrent_kernel, bias, rate = gate.recurrent.get_weights()
    bias[7:14] -= np.log1p(np.exp(rate)) * elapsed
    standard.recurrent.set_weights([kernel, recurrent_kernel, bias])
    got, wanted = answers(tf.fill(ELAPSED.shape, np.float32(elapsed)))
    for head in got:
        np.testing.assert_allclose(got[head], wanted[head], atol=3e-6)


@pytest.mark.parametrize("way", WAYS)
def test_config_round_trip(way: TimeUse) -> None:
    """The model can be rebuilt from its configuration, and takes its weights back."""
    network = EventModel(5, 6, 7, 0.3, way, daily=False, unseen=0.1)
    again = EventModel.from_config(network.get_config())
    again.set_weights(network.get_weights())
    assert again.get_config() == network.get_config()
    for head, value in network((EVENTS, ELAPSED)).items():
        np.testing.assert_array_equal(again((EVENTS, ELAPSED))[head], value)


def test_only_training_hides_events_and_never_padding() -> None:
    """A hidden event is read as one of no known kind; which are hidden differs from call to call."""
    network = EventModel(5, 6, 7, 0.0, "none", unseen=0.5)
    network.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in network.get_weights()])
    events, elapsed = np.repeat(np.pad(EVENTS, ((0, 0), (0, 2))), 400, 0), np.zeros((400, 6), "float32")
    answers = np.asarray(network((events, elapsed), training=True)["next_event"])[:, :4]
    kinds = len(np.unique(answers[:, 3].round(4), axis=0))
    assert kinds == 2**4  # each of four events hidden or not, and nothing else
    hidden = np.asarray(network((np.full_like(events, network.unseen_id), elapsed))["next_event"])[0, 0]
    assert 0.4 < np.isclose(answers[:, 0], hidden, atol=1e-5).all(axis=1).mean() < 0.6
    assert len(np.unique(np.asarray(network((events, elapsed))["next_event"])[:, 3], axis=0)) == 1
