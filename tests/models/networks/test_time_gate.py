"""A forget gate driven by elapsed time: a standard LSTM where time is constant."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import given, strategies as st

from seqserve.models.networks.time_gate import TimeAwareLSTMCell


@functools.cache
def gate_and_standard() -> tuple[keras.layers.Layer, keras.layers.Layer, Callable[..., Any]]:
    """The cell and Keras' LSTM, and both compiled: eager loops are slow."""
    gate = keras.layers.RNN(TimeAwareLSTMCell(4), return_sequences=True, return_state=True)
    standard = keras.layers.LSTM(4, return_sequences=True, return_state=True, use_cudnn=False)
    gate.build((None, None, 4))
    standard.build((None, None, 3))
    return gate, standard, tf.function(lambda timed: (gate(timed), standard(timed[..., :3])))


@given(st.floats(0, 20), st.integers(0, 2**31))
def test_time_gate_with_constant_time_is_the_standard_lstm(elapsed: float, seed: int) -> None:
    """On the same weights it is Keras' LSTM whose forget bias is smaller by rate times the elapsed time."""
    random = np.random.default_rng(seed)
    gate, standard, answers = gate_and_standard()
    for weight in gate.weights:
        weight.assign(random.normal(size=weight.shape))
    kernel, recurrent_kernel, bias, rate = gate.get_weights()
    bias[4:8] -= np.log1p(np.exp(rate)) * elapsed
    standard.set_weights([kernel, recurrent_kernel, bias])
    features = random.normal(size=(2, 5, 3)).astype("float32")
    timed = np.concatenate([features, np.full((2, 5, 1), elapsed, "float32")], axis=-1)
    for got, wanted in zip(*answers(tf.constant(timed)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_time_gate_begins_as_the_standard_cell_does() -> None:
    """Weights have Keras' names, shapes and forget bias, so that they can be copied either way."""
    cell, standard = TimeAwareLSTMCell(4), keras.layers.LSTMCell(4)
    cell.build((None, 4))
    standard.build((None, 3))
    for name in ("kernel", "recurrent_kernel", "bias"):
        assert getattr(cell, name).shape == getattr(standard, name).shape
    np.testing.assert_array_equal(cell.bias, standard.bias)


@given(st.integers(0, 2**31))
def test_memory_falls_with_elapsed_time(seed: int) -> None:
    """The longer ago the last event, the less of the memory that it left reaches the new one."""
    random, cell = np.random.default_rng(seed), TimeAwareLSTMCell(4)
    features, hidden = (np.repeat(random.normal(size=(1, width)), 4, axis=0) for width in (3, 4))
    steps = np.concatenate([features, [[0.0], [0.5], [2.0], [10.0]]], axis=1)  # the same event, ever later
    memory, none = np.ones((4, 4), "float32"), np.zeros((4, 4), "float32")
    (_, with_memory), (_, without) = (
        cell(steps.astype("float32"), [hidden.astype("float32"), state])[1] for state in (memory, none)
    )
    shares = np.asarray(with_memory) - np.asarray(without)  # (elapsed, units)
    assert (np.diff(shares, axis=0) < 0).all()
    assert (shares[0] > 0).all()
