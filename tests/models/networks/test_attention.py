"""The layers: attention over real values only, a forget gate driven by time."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.models.networks.attention import BahdanauAttention
from seqserve.models.networks.time_gate import TimeAwareLSTMCell
from seqserve.models.networks.translation import Translator

SPECIAL = {"pad": 0, "unknown": 1, "start": 2, "end": 3}


@functools.cache
def attention() -> BahdanauAttention:
    """One layer for all examples."""
    return BahdanauAttention(4)


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 2**31))
def test_attention_sees_real_values_only(real: int, padding: int, seed: int) -> None:
    """Weights sum to 1 over real values, are 0 on padding, and what lies in the padding changes nothing."""
    random, layer = np.random.default_rng(seed), attention()
    query = random.normal(size=(2, 3)).astype("float32")
    values = random.normal(size=(2, real + padding, 6)).astype("float32")
    mask = np.broadcast_to(np.arange(real + padding) < real, (2, real + padding))
    context, weights = layer(query, values, mask)
    spoiled = values.copy()
    spoiled[:, real:] = 1e6
    np.testing.assert_allclose(np.sum(weights, axis=1), 1, rtol=1e-6)
    assert np.all(np.asarray(weights)[:, real:] == 0)
    np.testing.assert_array_equal(layer(query, spoiled, mask)[0], context)


def test_attention_by_hand() -> None:
    """Two queries over three values of width 1, W1 = W2 = V = 1, the second row's last value masked.

    The first row: query 0, values 0, ln 2 / 2 and 0, so tanh gives scores 0, tanh(0.3466) = 1/3 and 0;
    exp: 1, 1.3956 and 1, of 3.3956; weights 0.2945, 0.4110 and 0.2945; context 0.4110 · 0.3466 = 0.1424.
    The second: query 1, values -1, 0 and a masked 9, scores 0 and tanh(1) = 0.7616; exp: 1 and 2.1417, of
    3.1417; weights 0.3183, 0.6817 and 0; context -0.3183.
    """
    layer = BahdanauAttention(1)
    layer.build((None, 1), (None, None, 1))
    for part in (layer.W1, layer.W2, layer.V):
        part.kernel.assign([[1.0]])
    query = np.array([[0.0], [1.0]], "float32")  # (2, 1)
    values = np.array([[[0.0], [0.34657], [0.0]], [[-1.0], [0.0], [9.0]]], "float32")  # (2, 3, 1)
    mask = np.array([[True, True, True], [True, True, False]])
    scores = np.array([[0.0, 1 / 3, 0.0], [0.0, 0.7616, 0.0]])
    compared = np.tanh(query[:, None] + np.asarray(layer.keys(values)))
    np.testing.assert_allclose(compared[..., 0][mask], scores[mask], atol=1e-4)
    context, weights = layer(query, values, mask)
    wanted = [[0.2945, 0.4110, 0.2945], [0.3183, 0.6817, 0.0]]
    np.testing.assert_allclose(weights, wanted, atol=1e-4)
    np.testing.assert_allclose(context, [[0.1424], [-0.3183]], atol=1e-4)


def test_attention_is_the_formula_of_the_paper() -> None:
    """score = V · tanh(W1·query + W2·values): no activation on V, so scores may be of any size and sign."""
    random = np.random.default_rng(0)
    query, values = random.normal(size=(1, 3)), random.normal(size=(1, 2, 5))
    layer = BahdanauAttention(4)
    context, weights = layer(query, values, np.ones((1, 2), bool))
    w1, w2, v = (np.asarray(part.kernel) for part in (layer.W1, layer.W2, layer.V))
    scores = np.tanh(query @ w1 + values[0] @ w2 + np.asarray(layer.W2.bias)) @ v  # (2, 1)
    wanted = np.exp(scores[:, 0]) / np.exp(scores[:, 0]).sum()
    np.testing.assert_allclose(weights[0], wanted, atol=1e-6)
    np.testing.assert_allclose(context[0], wanted @ values[0], atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [BahdanauAttention(3), TimeAwareLSTMCell(3), Translator(40, 4, 6, 0.1, SPECIAL, "lstm")],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer: keras.layers.Layer) -> None:
    """A layer can be rebuilt from its configuration."""
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_source_padding_is_invisible_in_training_too() -> None:
    """A row's logits are the same alone and beside a longer one."""
    network = Translator(40, 8, 6, 0.0, SPECIAL)
    target = np.array([[2, 7, 8]])
    alone = network((np.array([[5, 6, 3]]), target), training=True)
    padded = network((np.array([[5, 6, 3, 0, 0], [9, 9, 9, 9, 3]]), np.repeat(target, 2, 0)), training=True)
    np.testing.assert_allclose(padded[0], alone[0], atol=1e-6)
