"""The event-sequence model: four ways of using time, two origins of it."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seqserve.models.check import check_version
from seqserve.models.check.steps import StepDiffers
from seqserve.models.clock import Clock
from seqserve.models.config import ConfigInvalid, EventsConfig, TimeUse, read_config
from seqserve.models.data import Case
from seqserve.models.export import export_version
from seqserve.models.recipes.events import EventsRecipe, features_of
from seqserve.models.sequence import EventModel
from seqserve.service.contract.features import UNSEEN_EVENT_TYPE, SequenceEncoder
from seqserve.service.contract.manifest import FILE_NAME, Elapsed, parse_manifest
from seqserve.service.errors import UnknownCategory
from tests.trained import Trained, Wanted

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
    """With the time gate, what the first event was moves the last answer the less the longer ago it is."""
    random = np.random.default_rng(3)
    rest = random.integers(1, 6, (200, 2))
    network, weights = model("time_gate"), [model("time_gate", seed).get_weights() for seed in range(10)]
    last = tf.function(network.last, reduce_retracing=True)

    def influence(elapsed: float, seed: int) -> float:
        """How far the answers after three events are apart by the first, over many sequences."""
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

    # the mean of ten networks: what is forgotten frees a state of one from its bounds now and then
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


def config(**changed: Any) -> EventsConfig:
    """A configuration of a model of waiting times; `changed` has sections by name."""
    table: dict[str, Any] = {
        "name": "waits",
        "task": "events",
        "data": {"kind": "log", "event": "event", "elapsed": "minutes", "unit": "minutes"},
        "model": {"embedding": 4, "units": 6, "dropout": 0.1},
        "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01},
        "serving": {"buckets": [4, 32]},
    }
    found = read_config(
        {
            key: {**value, **changed.get(key, {})} if isinstance(value, dict) else value
            for key, value in table.items()
        },
        "tests",
    )
    assert isinstance(found, EventsConfig)
    return found


def test_a_configuration_without_the_new_fields_means_what_it_did() -> None:
    """An old card's configuration is of a time gate, and of time since the previous event."""
    assert (config().model.time, config().data.origin) == ("time_gate", "previous")


def test_the_phase_of_the_day_is_told_if_wanted() -> None:
    """Only with it are 23.5 hours and 24.5, which are near alike by size, told apart."""
    hours = np.array([[23.5, 24.5]])

    def apart(daily: bool) -> float:
        clock = Clock(1.0, 3600.0, daily)
        early, late = np.asarray(clock(np.log1p(hours).astype("float32")))[0, :, : clock.fixed]
        return float(np.abs(early - late).max())

    assert apart(daily=False) < 0.1 < 0.4 < apart(daily=True)


def test_only_training_hides_events_and_never_padding() -> None:
    """Hidden, an event is read as one of no known kind; what is hidden differs from call to call."""
    network = EventModel(5, 6, 7, 0.0, "none", unseen=0.5)
    network.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in network.get_weights()])
    events, elapsed = np.repeat(np.pad(EVENTS, ((0, 0), (0, 2))), 400, 0), np.zeros((400, 6), "float32")
    told = np.asarray(network((events, elapsed), training=True)["next_event"])[:, :4]
    kinds = len(np.unique(told[:, 3].round(4), axis=0))
    assert kinds == 2**4  # each of four events hidden or not, and nothing else
    hidden = np.asarray(network((np.full_like(events, network.unseen_id), elapsed))["next_event"])[0, 0]
    assert 0.4 < np.isclose(told[:, 0], hidden, atol=1e-5).all(axis=1).mean() < 0.6
    assert len(np.unique(np.asarray(network((events, elapsed))["next_event"])[:, 3], axis=0)) == 1


CASE = Case(("a", "b", "a", "c"), (0.0, 60.0, 300.0, 360.0))


def test_up_to_the_last_event_a_row_is_a_prefix() -> None:
    """Every prefix of every case is a row, with its own times, and is answered at its last step alone."""
    cases = [CASE, Case(("a", "b"), (0.0, 120.0))]
    settings = config(data={"origin": "last"})
    assert features_of(CASE, settings.data)["minutes"] == [6.0, 5.0, 1.0, 0.0]
    task = EventsRecipe(settings, cases, cases).task
    rows = task.draw(np.random.default_rng(0))
    assert sorted(rows.lengths) == [1, 1, 2, 2, 3, 4]
    (events, elapsed), targets, weights = rows.batch(np.array([2, 3]))
    assert (events > 0).sum(axis=1).tolist() == [3, 4]
    ratio = elapsed[1] / np.log1p([6.0, 5.0, 1.0, 1.0])  # 1.0: log1p(0) divides nothing
    np.testing.assert_allclose(ratio[:3], ratio[0], rtol=1e-6)
    np.testing.assert_allclose(elapsed[0] / ratio[0], np.log1p([5.0, 4.0, 0.0, 0.0]), rtol=1e-6)
    assert weights["next_event"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    assert weights["to_end"].tolist() == weights["next_event"].tolist()
    assert weights["to_next"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert targets["next_event"][[0, 1], [2, 3]].tolist() == [2, 3]  # c, and the end


@pytest.fixture(params=[("conv1x1", "last"), ("concat", "previous"), ("none", "previous")], ids="-".join)
def version(request: pytest.FixtureRequest, trained: Trained, log_data: Path) -> Path:
    """A model of each kind that the small `shop` is not, trained by the real command."""
    way, origin = request.param
    model = {"time": way, "unseen": 0.1 * (way == "concat"), "daily": way != "conv1x1"}
    settings = config(model=model, data={"origin": origin})
    return trained(Wanted(settings, log_data)) / "waits/1"


def test_each_way_is_trained_certified_and_measured(version: Path) -> None:
    """`check` passes, the manifest says what elapsed time is, and the card has the quality."""
    told = check_version(version)
    manifest = parse_manifest((version / "assets" / FILE_NAME).read_bytes())
    assert manifest.card is not None
    feature = manifest.features["minutes"]
    assert isinstance(feature, Elapsed)
    assert feature.origin == manifest.card["config"]["data"]["origin"]
    has_step = any("'step': event by event equals the whole" in line for line in told)
    assert has_step == ("step" in manifest.signatures) == (feature.origin == "previous")
    assert 0.2 < manifest.card["metrics"]["accuracy"] < 1
    stamps = {"timestamps": [f"2026-01-01T00:0{minute}:00Z" for minute in (0, 1, 5, 6)]}
    events = {"event": list(manifest.features["event"].labels[:4])}
    encoder = SequenceEncoder(manifest, "serving_default")
    if manifest.card["config"]["model"]["unseen"]:
        told_of = encoder.encode({"event": ["nonsense"], "minutes": [0.0]}).warnings
        assert told_of == (UNSEEN_EVENT_TYPE,)
    else:
        with pytest.raises(UnknownCategory):
            encoder.encode({"event": ["nonsense"], "minutes": [0.0]})
    by_stamps = encoder.encode({**events, "minutes": stamps}).row.inputs
    case = Case(tuple(events["event"]), CASE.seconds)
    data = read_config(manifest.card["config"], "card").data
    by_minutes = encoder.encode(features_of(case, data)).row.inputs
    np.testing.assert_allclose(by_stamps["minutes"], by_minutes["minutes"], rtol=1e-6)


Step = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda step: lambda **x: step(**{**x, "minutes": x["minutes"] * 0}), "output '.*' of 'step' is off"),
        (lambda step: lambda **x: {**step(**x), "memory": x["memory"]}, "of 'step' is off"),
        (lambda step: lambda **x: {**step(**x), "hidden": step(**x)["hidden"][::-1]}, "in a batch of [2-9]"),
    ],
    ids=["elapsed ignored", "memory kept as it was", "rows mixed up"],
)
@pytest.mark.slow
def test_a_step_that_differs_from_the_whole_is_refused(
    broken: Callable[[Step], Step], told: str, tmp_path: Path
) -> None:
    """Certification advances the goldens event by event, so such a version never ships."""
    random = np.random.default_rng(1)
    cases = [
        Case(tuple(random.choice(["a", "b", "c"], 9)), tuple(np.cumsum(random.uniform(0, 900, 9)).tolist()))
        for _ in range(12)
    ]
    recipe = EventsRecipe(config(), cases, cases)
    network = recipe.task.network
    network.set_weights([random.normal(size=weight.shape) for weight in network.get_weights()])
    draft = recipe.draft(1, {})
    spoiled = replace(draft, functions={**draft.functions, "step": broken(draft.functions["step"])})
    with pytest.raises(StepDiffers, match=told):
        export_version(spoiled, tmp_path)
    check_version(export_version(draft, tmp_path))


def test_a_feature_may_not_be_named_as_the_state_is() -> None:
    """The step's inputs would clash."""
    with pytest.raises(ConfigInvalid, match="named 'memory'"):
        config(data={"elapsed": "memory"})


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=6))
@settings(max_examples=25)
def test_a_time_is_read_alike_wherever_it_stands(days: list[float]) -> None:
    """Bit for bit: a phase multiplies what single precision rounds otherwise at another place in a batch."""
    clock = Clock(1.5, 86400.0)
    elapsed = np.log1p(np.array(days)).astype(np.float32) / 1.5
    alone = np.concatenate([np.asarray(clock(np.full((1, 1), x)))[0] for x in elapsed])  # (times, channels)
    among = np.asarray(clock(np.resize(elapsed, (7, 33)))).reshape(7 * 33, -1)[: len(days)]
    np.testing.assert_array_equal(among[:, :4], alone[:, :4])
    assert np.isfinite(among).all()
