"""A forget gate driven by elapsed time: a standard LSTM where time is constant."""

import itertools

import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqserve.models.networks.time_gate import TimeAwareLSTMCell


@given(st.floats(0, 20), st.integers(0, 2**31))
def test_time_gate_with_constant_time_is_the_standard_lstm(elapsed: float, seed: int) -> None:
    """On the same weights it is Keras' LSTM whose forget bias is smaller by rate times the elapsed time."""
    random = np.random.default_rng(seed)
    gate = keras.layers.RNN(TimeAwareLSTMCell(4), return_sequences=True, return_state=True)
    standard = keras.layers.LSTM(4, return_sequences=True, return_state=True, use_cudnn=False)
    gate.build((None, None, 4))
    standard.build((None, None, 3))
    for weight in gate.weights:
        weight.assign(random.normal(size=weight.shape))
    kernel, recurrent_kernel, bias, rate = gate.get_weights()
    bias[4:8] -= np.log1p(np.exp(rate)) * elapsed
    standard.set_weights([kernel, recurrent_kernel, bias])
    features = random.normal(size=(2, 5, 3)).astype("float32")
    timed = np.concatenate([features, np.full((2, 5, 1), elapsed, "float32")], axis=-1)
    for got, wanted in zip(gate(timed), standard(features), strict=True):
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
    hidden, memory, none = random.normal(size=(1, 4)), np.ones((1, 4), "float32"), np.zeros((1, 4), "float32")
    features = random.normal(size=(1, 3))

    def kept(elapsed: float) -> np.ndarray:
        step = np.concatenate([features, [[elapsed]]], axis=1).astype("float32")
        (_, with_memory), (_, without) = (
            cell(step, [hidden.astype("float32"), state])[1] for state in (memory, none)
        )
        return np.asarray(with_memory) - np.asarray(without)

    shares = [kept(elapsed) for elapsed in (0.0, 0.5, 2.0, 10.0)]
    assert all((later < earlier).all() for earlier, later in itertools.pairwise(shares))
    assert (shares[0] > 0).all()
