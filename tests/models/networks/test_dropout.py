"""Dropout: what is dropped, where, and that a row's noise is its own."""

from collections.abc import Sequence
from random import Random

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from seqserve.models.config import Noise
from seqserve.models.networks.dropout import (
    Dropouts,
    MaskedStateLSTMCell,
    Masks,
    Place,
    noise_shape,
    row_uniforms,
)
from seqserve.models.networks.forecaster import Forecaster

STEPS, COLUMNS, UNITS, ROWS, RATE = 8, 5, 6, 40, 0.4
NOTHING = Place(0.0, (1, 1))
SHARED: dict[Noise, tuple[int, ...]] = {  # the axes of (batch, time, features) along which all is alike
    "element": (),
    "feature": (1,),
    "spatial": (1,),
    "step": (2,),
    "sample": (1, 2),
}


def places(before: Place = NOTHING, after: Place = NOTHING, inside: float = 0.0) -> Dropouts:
    """Dropout at the places named, and nowhere else."""
    return Dropouts(before, after, Place(inside, (UNITS,)))


def drawn(dropouts: Dropouts, seed: int = 1) -> Masks:
    """Masks for ROWS rows."""
    return dropouts.masks(np.random.default_rng(seed).random((ROWS, dropouts.size), np.float32))


def network(dropouts: Dropouts) -> Forecaster:
    """A small network whose head is not at its start, where it answers 0 whatever it sees."""
    model = Forecaster(STEPS, 2, COLUMNS, 3, UNITS, dropouts, samples=4)
    model.head.kernel.assign(np.random.default_rng(0).normal(size=model.head.kernel.shape))
    return model


def windows(seed: int = 0) -> tf.Tensor:
    """ROWS windows as the LSTM takes them."""
    return tf.constant(np.random.default_rng(seed).normal(size=(ROWS, STEPS, COLUMNS)).astype("float32"))


@pytest.mark.parametrize("noise", SHARED)
def test_what_is_dropped_together(noise: Noise) -> None:
    """Each shape drops single numbers, whole columns, whole steps or whole sequences, at its rate."""
    mask = drawn(places(before=Place(RATE, noise_shape(noise, STEPS, COLUMNS)))).before
    factors = np.broadcast_to(mask, (ROWS, STEPS, COLUMNS))
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / (1 - RATE))}
    for axis in (1, 2):
        alike = (factors == np.take(factors, [0], axis=axis)).all()
        assert alike == (axis in SHARED[noise])
    draws = np.asarray(mask).size
    assert abs((factors == 0).mean() - RATE) < 4 * (RATE * (1 - RATE) / draws) ** 0.5


def test_spatial_dropout_is_the_feature_shape() -> None:
    """Keras' SpatialDropout1D keeps or drops whole columns, as the noise `feature`, or `spatial`, does."""
    ones = np.ones((ROWS, STEPS, COLUMNS), "float32")
    theirs = np.asarray(keras.layers.SpatialDropout1D(RATE, seed=1)(ones, training=True))
    ours = [drawn(places(before=Place(RATE, noise_shape(n, STEPS, COLUMNS)))) for n in ("spatial", "feature")]
    np.testing.assert_array_equal(ours[0].before, ours[1].before)
    for factors in (theirs, ones * ours[0].before.numpy()):
        assert (factors == factors[:, :1]).all()
        assert not (factors == factors[:, :, :1]).all()
        np.testing.assert_allclose(np.unique(factors), [0, 1 / (1 - RATE)], rtol=1e-6)


@pytest.mark.parametrize("noise", SHARED)
def test_before_an_lstm_what_is_dropped_is_not_seen(noise: Noise) -> None:
    """The answer does not change with an input that is dropped, and does with every other."""
    model = network(places(before=Place(RATE, noise_shape(noise, STEPS, COLUMNS))))
    masks, steps = drawn(model.dropouts), windows()
    with tf.GradientTape() as tape:
        tape.watch(steps)
        answer = model.answer(steps, masks)
    seen = np.asarray(tape.gradient(answer, steps)) != 0
    np.testing.assert_array_equal(seen, np.broadcast_to(masks.before, seen.shape) != 0)


def test_after_an_lstm_what_is_dropped_is_not_heard() -> None:
    """A dropped unit's weights, a dropped last step's input, a dropped sequence: each changes nothing."""
    steps = windows()
    by_unit = network(places(after=Place(RATE, noise_shape("feature", STEPS, UNITS))))
    masks = drawn(by_unit.dropouts)
    with tf.GradientTape() as tape:  # of each row's answer, by the head's weights: a row of them a unit
        answer = tf.reduce_sum(by_unit.answer(steps, masks), axis=(1, 2, 3))
    heard = np.asarray(tape.jacobian(answer, by_unit.head.kernel.value)).any(axis=-1)  # (rows, units)
    np.testing.assert_array_equal(heard, masks.after[:, 0] != 0)

    by_step = network(places(after=Place(RATE, noise_shape("step", STEPS, UNITS))))
    masks = drawn(by_step.dropouts)
    moved = tf.concat([steps[:, :-1], steps[:, -1:] + 1], axis=1)
    changed = (by_step.answer(steps, masks) != by_step.answer(moved, masks)).numpy().any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, masks.after[:, -1, 0] != 0)

    by_row = network(places(after=Place(RATE, noise_shape("sample", STEPS, UNITS))))
    masks = drawn(by_row.dropouts)
    silent = (by_row.answer(steps, masks) == 0).numpy().all(axis=(1, 2, 3))  # the head's bias is 0
    np.testing.assert_array_equal(silent, masks.after[:, 0, 0] == 0)


def test_inside_an_lstm_the_same_units_are_forgotten_at_every_step() -> None:
    """A mask on the hidden state is Keras' LSTM with those rows of its recurrent weights cut, or scaled."""
    cell = MaskedStateLSTMCell(UNITS)
    ours = keras.layers.RNN(cell, return_sequences=True)
    steps = windows()[:1]
    mask = drawn(places(inside=RATE)).inside[:1]
    assert {0.0, 1.0} <= {float(kept > 0) for kept in mask[0]}
    got = ours(steps, initial_state=cell.start(mask))
    theirs = keras.layers.LSTM(UNITS, return_sequences=True, use_cudnn=False)
    theirs.build(steps.shape)
    kernel, recurrent, bias = cell.cell.get_weights()
    theirs.set_weights([kernel, np.asarray(mask[0])[:, None] * recurrent, bias])
    np.testing.assert_allclose(got, theirs(steps), atol=1e-6)


def test_only_training_and_sampling_drop() -> None:
    """A call without training is that of a network without dropout; two in training differ."""
    some = Place(RATE, noise_shape("feature", STEPS, COLUMNS))
    model, bare = network(places(before=some, inside=RATE)), network(places())
    for ours, theirs in zip(bare.weights, model.weights, strict=True):
        ours.assign(theirs)
    given = windows(), np.full(ROWS, STEPS, "int32")
    np.testing.assert_array_equal(model(given), bare(given))
    first, second = model(given, training=True), model(given, training=True)
    assert not np.array_equal(first, second)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6, unique=True), st.randoms())
def test_a_rows_noise_is_a_function_of_its_seed(seeds: Sequence[int], random: Random) -> None:
    """Whatever the neighbours and the place in the batch; other seeds and other samples draw others."""
    shuffled = list(seeds)
    random.shuffle(shuffled)
    together = {seed: row.numpy() for seed, row in zip(shuffled, uniforms(shuffled), strict=True)}
    for seed in seeds:
        np.testing.assert_array_equal(uniforms([seed])[0], together[seed])
    rows = np.concatenate(list(together.values()))
    assert len(np.unique(rows, axis=0)) == 3 * len(seeds)


def uniforms(seeds: Sequence[int]) -> tf.Tensor:
    """Draw three samples of seven numbers a row."""
    return row_uniforms(tf.constant(seeds, tf.int32), 3, 7)
