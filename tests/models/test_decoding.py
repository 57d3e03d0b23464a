"""In-graph greedy decoding against a plain-Python reference, on models that are tables."""

import math

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoding import Decoded, greedy
from service.contract.manifest import SpecialIds

SPECIAL = SpecialIds()
VOCABULARY = 7


def decode(table: np.ndarray, starts: list[int], limits: list[int], penalty: float) -> Decoded:
    """Decode rows of a model whose logits depend on the last piece and the row's own number."""

    def advance(ids: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = tf.cast(state[:, 0], tf.int32)
        logits = tf.gather_nd(tf.constant(table, tf.float32), tf.stack([rows, ids], axis=1))
        return logits, state, tf.one_hot(rows % 2, 2)

    state = tf.constant(starts, tf.float32)[:, None]
    source = tf.zeros([len(starts), 2], tf.int32)
    run = tf.function(
        lambda: greedy(advance, state, source, tf.constant(limits), tf.fill([len(starts)], penalty), SPECIAL)
    )
    return Decoded(*(np.asarray(x) for x in run()))


def reference(table: np.ndarray, row: int, limit: int, penalty: float) -> tuple[list[int], float]:
    """Decode one row with loops and math.log."""
    ids: list[int] = []
    last, total = SPECIAL.start, 0.0
    while len(ids) < limit and last != SPECIAL.end:
        logits = [float(x) for x in table[row][last]]
        last = max(range(VOCABULARY), key=lambda piece: (logits[piece], -piece))
        total += logits[last] - math.log(sum(math.exp(x) for x in logits))
        ids.append(last)
    return ids, total / len(ids) ** penalty


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.integers(1, 9), min_size=n, max_size=n)),
    st.sampled_from([0.0, 0.6, 1.0]),
    st.integers(0, 2**31),
)
@settings(max_examples=15)
def test_greedy_is_the_reference(limits: list[int], penalty: float, seed: int) -> None:
    """Identical ids, scores to 1e-4, for rows that end at different steps."""
    table = np.random.default_rng(seed).normal(size=(len(limits), VOCABULARY, VOCABULARY)) * 3
    got = decode(table, list(range(len(limits))), limits, penalty)
    for row, limit in enumerate(limits):
        ids, score = reference(table, row, limit, penalty)
        assert got.ids[row, 0, : got.lengths[row, 0]].tolist() == ids
        assert (got.ids[row, 0, len(ids) :] == SPECIAL.pad).all()
        assert abs(got.scores[row, 0] - score) < 1e-4
        assert (got.attention[row, 0, len(ids) :] == 0).all()
        assert (got.attention[row, 0, : len(ids), row % 2] == 1).all()


def test_it_stops_when_every_row_is_done() -> None:
    """No step is spent after the longest row has ended: the time axis is exactly that long."""
    table = np.full((2, VOCABULARY, VOCABULARY), -5.0)
    table[0, SPECIAL.start, SPECIAL.end] = 5
    table[1, SPECIAL.start, 5] = table[1, 5, 6] = table[1, 6, SPECIAL.end] = 5
    got = decode(table, [0, 1], [100, 100], 1.0)
    assert got.ids.tolist() == [[[SPECIAL.end, 0, 0]], [[5, 6, SPECIAL.end]]]
