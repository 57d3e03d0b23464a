"""Convolution, batch norm and ReLU over real steps: what Masking should mean for them."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.models.networks.classifier import Classifier
from seqserve.models.networks.masked import (
    MOMENTUM,
    ConvBlock,
    MaskedBatchNormalization,
    MaskedConv1D,
    pooled,
)
from seqserve.models.networks.tagger import Tagger

WIDTH = 3
EPSILON = 1e-3
Lengths = st.lists(st.integers(1, 7), min_size=1, max_size=5)
Seeds = st.integers(0, 2**31)


def rows_of(lengths: list[int], seed: int) -> list[np.ndarray]:
    """Draw a row (time, WIDTH) of each length, far from 0, so that zeros would be seen in a statistic."""
    random = np.random.default_rng(seed)
    return [random.normal(4, 2, (length, WIDTH)).astype("float32") for length in lengths]


def padded(rows: list[np.ndarray], more: int, garbage: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in one batch with `more` steps than the longest needs, and their mask."""
    steps = max(map(len, rows)) + more
    values = np.full((len(rows), steps, WIDTH), garbage, "float32")
    for target, row in zip(values, rows, strict=True):
        target[: len(row)] = row
    return values, np.arange(steps) < np.array([len(row) for row in rows])[:, None]


def convolved(row: np.ndarray, layer: MaskedConv1D) -> np.ndarray:
    """Convolve one unpadded row by hand: beyond its ends are zeros."""
    kernel, bias = (np.asarray(w) for w in (layer.convolution.kernel, layer.convolution.bias))
    before = (len(kernel) - 1) // 2
    wide = np.pad(row, ((before, len(kernel) - 1 - before), (0, 0)))
    return np.stack(
        [np.einsum("kw,kwf->f", wide[t : t + len(kernel)], kernel) + bias for t in range(len(row))]
    )


@given(Lengths, st.integers(0, 3), st.integers(1, 4), Seeds)
@settings(max_examples=20)
def test_training_counts_real_steps_only(lengths: list[int], more: int, kernel: int, seed: int) -> None:
    """Outputs and moving statistics of a training call are those of the unpadded rows, computed by hand."""
    keras.utils.set_random_seed(seed % 1000)
    rows, block = rows_of(lengths, seed), ConvBlock(4, kernel)
    values, mask = padded(rows, more, garbage=1e6)
    got = np.asarray(block(values, mask, training=True))
    by_row = [convolved(row, block.convolution) for row in rows]
    steps = np.concatenate(by_row)  # (real steps, 4)
    mean, variance = steps.mean(axis=0), steps.var(axis=0)
    norm = block.norm.norm
    np.testing.assert_allclose(norm.moving_mean, (1 - MOMENTUM) * mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        norm.moving_variance, MOMENTUM + (1 - MOMENTUM) * variance, rtol=1e-4, atol=1e-4
    )
    for answered, row in zip(got, by_row, strict=True):
        wanted = np.maximum((row - mean) / np.sqrt(variance + EPSILON), 0)
        np.testing.assert_allclose(answered[: len(row)], wanted, rtol=1e-3, atol=1e-3)
        assert (answered[len(row) :] == 0).all()


def test_without_the_mask_padding_is_counted() -> None:
    """What the mask is for: Keras' own batch norm, without it, learns another mean from the same rows."""
    values, mask = padded(rows_of([2, 7], 1), 3)
    ours, plain = MaskedBatchNormalization(), keras.layers.BatchNormalization(momentum=MOMENTUM)
    ours(values, mask, training=True)
    plain(values, training=True)
    assert (np.asarray(ours.norm.moving_mean) > 1.5 * np.asarray(plain.moving_mean)).all()


@given(Lengths, st.integers(0, 3), st.sampled_from([0.0, 1e6, float("nan")]), Seeds)
@settings(max_examples=20)
def test_a_row_is_answered_as_if_alone(lengths: list[int], more: int, garbage: float, seed: int) -> None:
    """Each row's outputs are those of the row alone, unpadded, whatever neighbours and padding hold."""
    keras.utils.set_random_seed(seed % 1000)
    rows = rows_of(lengths, seed)
    blocks = [ConvBlock(4, 3), ConvBlock(4, 2)]

    def answer(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for block in blocks:
            values = block(values, mask)
        return np.asarray(values), np.asarray(pooled(values, mask))

    for block, width in zip(blocks, (WIDTH, 4), strict=True):  # a fresh norm's mean of 0 would hide a leak
        block.build((None, None, width))
        block.norm.norm.moving_mean.assign(np.full(4, -2.0))
        block.norm.norm.beta.assign(np.full(4, 0.7))
    together, summed = answer(*padded(rows, more, garbage))
    for answered, total, row in zip(together, summed, rows, strict=True):
        alone, alone_total = answer(row[None], np.ones((1, len(row)), bool))
        np.testing.assert_allclose(answered[: len(row)], alone[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(total, alone_total[0], rtol=1e-5, atol=1e-5)
        assert (answered[len(row) :] == 0).all()


@pytest.mark.parametrize(
    "network", [Classifier(WIDTH, 4, 5, 3, 2, 0.0, 0.0), Tagger(WIDTH, 4, 5, 3, 2, 4, 0.0)]
)
def test_networks_do_not_see_padding(network: keras.Model) -> None:
    """A training call's logits and statistics are the same with more padding, and with garbage in it."""
    rows, names = rows_of([1, 4, 6], 2), [weight.path for weight in network.non_trainable_variables]
    lengths = np.array([len(row) for row in rows], "int32")
    first = network.get_weights()
    network.set_weights([weight + 0.1 for weight in first])  # the classifier's output layer starts at zero
    start, seen = network.get_weights(), []
    for more, garbage in ((0, 0.0), (5, 1e6)):
        network.set_weights(start)
        logits = np.asarray(network((padded(rows, more, garbage)[0], lengths), training=True))
        moving = [np.asarray(weight) for weight in network.non_trainable_variables if "moving" in weight.path]
        seen.append((logits if logits.ndim == 2 else logits[:, :6], moving))
    assert sum("moving" in name for name in names) == 4
    np.testing.assert_allclose(seen[0][0], seen[1][0], atol=1e-5)
    for one, other in zip(seen[0][1], seen[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [MaskedConv1D(4, 3), ConvBlock(4, 3), Classifier(3, 4, 5, 3, 2, 0.1, 0.1), Tagger(1, 4, 5, 3, 1, 4, 0.1)],
)
def test_config_round_trip(layer: keras.layers.Layer) -> None:
    """A layer can be rebuilt from its configuration."""
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
