"""In-graph decoding against slow plain-Python references: on models that are tables, and on real networks."""

import bisect
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings, strategies as st

from seqserve.models.networks import dropping
from seqserve.models.networks.decoding import (
    Bounds,
    Decoded,
    Sampler,
    beam,
    beamless,
    for_beams,
    greedy,
    sample,
    uniforms,
)
from seqserve.models.networks.folded import Folded
from seqserve.models.networks.translation import Translator
from seqserve.service.contract.manifest import SpecialIds

SPECIAL = SpecialIds()
VOCABULARY = 9
HISTORIES = 97
SOURCE = 5
LONGEST = 24
NextLogP = Callable[[list[int]], list[float]]
"""The pieces so far -> log p of each next piece."""


class TableModel:
    """Logits by a hash of everything written so far, so that a mixed-up state or history shows."""

    def __init__(self, seed: int) -> None:
        self.table = np.random.default_rng(seed).normal(size=(HISTORIES, VOCABULARY)).astype("float32") * 3

    def past(self, start: int, ids: list[int]) -> int:
        for piece in [SPECIAL.start, *ids]:
            start = (start * 31 + piece) % HISTORIES
        return start

    def next_log_p(self, start: int) -> NextLogP:
        return lambda ids: log_p(self.table[self.past(start, ids)].tolist())

    def attended(self, start: int, ids: list[int]) -> list[int]:
        """Return the source place that each piece attended to."""
        return [self.past(start, ids[:n]) % SOURCE for n in range(len(ids))]

    def decode(self, kind: str, starts: list[int], limits: list[int], penalty: float, **how: Any) -> Decoded:
        """Decode rows that start from different states."""
        drop_at = how.get("drop_at", dropping.DROP_AT)
        rows = len(starts)
        sampler = Sampler(
            np.full(rows, how.get("temperature", 1.0), np.float32),
            np.full(rows, how.get("top_k", 0), np.int32),
            np.array(how.get("seeds", [7] * rows), np.int64),
        )
        bounds = Bounds(np.array(limits, np.int32), np.full(rows, penalty, np.float32))
        inputs = (self.table, np.array(starts, np.int32)[:, None], bounds, sampler, np.int32(how.get("k", 1)))
        with patch.object(dropping, "DROP_AT", drop_at):
            return Decoded(*(np.asarray(x) for x in compiled(kind, drop_at)(*inputs)))


def open_spec(dtype: Any, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


numbers = tf.function(uniforms)


@functools.cache
def compiled(kind: str, drop_at: float) -> Any:
    """Trace a search over a table once for each `DROP_AT`, with every axis open as in a signature."""

    def advance_by(table: tf.Tensor) -> Any:
        never = tf.one_hot([SPECIAL.pad, SPECIAL.start], VOCABULARY, -math.inf, 0.0)

        def advance(ids: tf.Tensor, state: Any, memory: tf.Tensor) -> tuple[tf.Tensor, Any, tf.Tensor]:
            # as an LSTM has a second tensor, and memory: they cancel out, unless they are another row's
            nothing = state["doubled"] - 2 * state["past"] - memory
            past = (state["past"] * 31 + nothing + ids[:, None]) % HISTORIES
            attention = tf.one_hot(past[:, 0] % SOURCE, SOURCE)
            logits = tf.gather(table, past[:, 0]) + tf.reduce_sum(never, axis=0)
            return logits, {"past": past, "doubled": 2 * past + memory}, attention

        return advance

    def run(table: tf.Tensor, past: tf.Tensor, bounds: Bounds, sampler: Sampler, k: tf.Tensor) -> Decoded:
        advance, state = beamless(advance_by(table)), {"past": past, "doubled": 3 * past}
        if kind == "beam":
            return beam(advance, state, for_beams(past, k), bounds, SPECIAL, k)
        if kind == "sample":
            return sample(advance, state, for_beams(past, 1), bounds, SPECIAL, sampler, LONGEST)
        return greedy(advance, state, for_beams(past, 1), bounds, SPECIAL)

    bounds = Bounds(open_spec("int32", None), open_spec("float32", None))
    sampler = Sampler(open_spec("float32", None), open_spec("int32", None), open_spec("int64", None))
    past, k = open_spec("int32", None, 1), open_spec("int32")
    table = open_spec("float32", HISTORIES, VOCABULARY)
    return tf.function(run, input_signature=(table, past, bounds, sampler, k))


def log_p(logits: list[float]) -> list[float]:
    kept = [-math.inf if i in (SPECIAL.pad, SPECIAL.start) else x for i, x in enumerate(logits)]
    norm = math.log(sum(math.exp(x) for x in kept))
    return [x - norm for x in kept]


def greedy_reference(next_log_p: NextLogP, limit: int, penalty: float) -> tuple[list[int], float]:
    """Decode one row with loops and math.log."""
    ids: list[int] = []
    total = 0.0
    while len(ids) < limit and ids[-1:] != [SPECIAL.end]:
        options = next_log_p(ids)
        best = max(range(len(options)), key=lambda piece: (options[piece], -piece))
        total += options[best]
        ids.append(best)
    return ids, total / len(ids) ** penalty


def beam_reference(next_log_p: NextLogP, k: int, limit: int, penalty: float) -> list[tuple[list[int], float]]:
    """Search to the row's limit without leaving early; whole histories, no back-pointers."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, limit + 1):
        grown = [(total + p, [*ids, i]) for total, ids in live for i, p in enumerate(next_log_p(ids))]
        grown = sorted((g for g in grown if g[0] > -math.inf), key=lambda g: -g[0])[: 2 * k]
        ended = [(t, ids) for t, ids in grown if ids[-1] == SPECIAL.end or length == limit]
        finished += [(total / length**penalty, ids) for total, ids in ended]
        finished = sorted(finished, key=lambda f: -f[0])[:k]
        live = [g for g in grown if g not in ended][:k]
    return [(ids, score) for score, ids in finished]


ROWS = st.lists(st.integers(1, 8), min_size=1, max_size=4)
PENALTIES = st.sampled_from([0.0, 0.6, 1.0, 2.0])
SEEDS = st.integers(0, 2**31)


def check_hypothesis(
    got: Decoded, row: int, place: int, wanted: tuple[list[int], float], attended: list[int] | None = None
) -> None:
    ids, score = wanted
    assert got.ids[row, place, : got.lengths[row, place]].tolist() == ids
    assert (got.ids[row, place, len(ids) :] == SPECIAL.pad).all()
    assert abs(got.scores[row, place] - score) < 1e-4
    assert (got.attention[row, place, len(ids) :] == 0).all()
    if attended is not None:
        assert got.attention[row, place, : len(ids)].argmax(axis=1).tolist() == attended


@given(ROWS, PENALTIES, SEEDS)
@settings(max_examples=10)
def test_greedy_is_the_reference(limits: list[int], penalty: float, seed: int) -> None:
    """Identical ids, scores to 1e-4, for rows that end at different steps."""
    model, starts = TableModel(seed), list(range(len(limits)))
    got = model.decode("greedy", starts, limits, penalty)
    for row, limit in enumerate(limits):
        wanted = greedy_reference(model.next_log_p(row), limit, penalty)
        check_hypothesis(got, row, 0, wanted, model.attended(row, wanted[0]))
    assert got.ids.shape[2] == got.lengths.max()


@given(ROWS, st.integers(1, 6), PENALTIES, SEEDS)
@settings(max_examples=20)
def test_beams_are_the_reference(limits: list[int], k: int, penalty: float, seed: int) -> None:
    """All k hypotheses: ids, scores and attention, of a search that never leaves early, row by row."""
    model, starts = TableModel(seed), list(range(len(limits)))
    got = model.decode("beam", starts, limits, penalty, k=k)
    for row, limit in enumerate(limits):
        hypotheses = beam_reference(model.next_log_p(row), k, limit, penalty)
        assert len(hypotheses) == k
        for place, wanted in enumerate(hypotheses):
            check_hypothesis(got, row, place, wanted, model.attended(row, wanted[0]))
    assert got.ids.shape[2] == got.lengths.max()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_network_is_decoded_as_the_reference_does(cell: Literal["gru", "lstm"]) -> None:
    """On the same weights: the reference runs whole prefixes through the training graph, a row at a time."""
    network = Translator(24, 8, 6, 0.0, SPECIAL.model_dump(), cell)
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:  # as made, all pieces would be about as likely
        variable.assign(rng.normal(size=variable.shape) * 0.7)
    folded = Folded(network)
    sources, limits, penalty, k = [[5, 6, 7, 3], [9, 3]], [7, 5], 0.6, 4
    padded = tf.constant([[5, 6, 7, 3], [9, 3, 0, 0]])

    def searched(source_ids: tf.Tensor, bounds: Bounds, k: tf.Tensor) -> tuple[Decoded, Decoded]:
        state, memory = folded.encode(source_ids)
        once = greedy(folded.advance, state, memory, bounds, SPECIAL)
        return once, beam(folded.advance, state, memory, bounds, SPECIAL, k)

    specs = Bounds(open_spec("int32", None), open_spec("float32", None))
    texts = open_spec("int32", None, None)
    search = tf.function(searched, input_signature=(texts, specs, open_spec("int32")))
    taught = tf.function(lambda *texts: network(texts), input_signature=(texts, texts))
    answers = search(padded, Bounds(tf.constant(limits), tf.fill([2], penalty)), k)
    greedily, beamed = (Decoded(*(np.asarray(x) for x in answer)) for answer in answers)
    for row, (source, limit) in enumerate(zip(sources, limits, strict=True)):

        def next_log_p(ids: list[int], source: list[int] = source) -> list[float]:
            logits = taught(tf.constant([source]), tf.constant([[SPECIAL.start, *ids]]))
            return log_p(np.asarray(logits)[0, -1].tolist())

        check_hypothesis(greedily, row, 0, greedy_reference(next_log_p, limit, penalty))
        for place, wanted in enumerate(beam_reference(next_log_p, k, limit, penalty)):
            check_hypothesis(beamed, row, place, wanted)
        np.testing.assert_allclose(beamed.attention[row, 0, 0].sum(), 1, atol=1e-5)


def test_no_product_is_one_that_tensorflow_takes_beyond_its_tensors_ends() -> None:
    """A tensor of four dimensions by one without its batch: by processor wrong numbers, or the process's end.

    https://github.com/tensorflow/tensorflow/issues/117700; mended after 2.21.
    """
    folded = Folded(Translator(24, 8, 6, 0.0, SPECIAL.model_dump()))

    def step(source_ids: tf.Tensor) -> Any:
        state, memory = folded.encode(source_ids)
        return folded.advance(source_ids[:, :1], for_beams(state, 1), memory)

    graph = tf.function(step).get_concrete_function(open_spec("int32", None, None)).graph
    products = [op for op in graph.get_operations() if op.type.startswith("BatchMatMul")]
    ranks = [tuple(tensor.shape.rank for tensor in op.inputs) for op in products]
    assert ranks == [(3, 3)]


@given(st.lists(st.integers(1, LONGEST), min_size=1, max_size=12), st.integers(1, 4), PENALTIES, SEEDS)
@settings(max_examples=15)
def test_dropping_finished_rows_changes_nothing(limits: list[int], k: int, penalty: float, seed: int) -> None:
    """The same answers where rows are never dropped, now and then, and at once: every field of every row."""
    model, starts = TableModel(seed), list(range(len(limits)))
    for kind in ("greedy", "beam", "sample"):
        how = {"k": k, "seeds": starts, "temperature": 0.8}
        never, usual, once = (
            model.decode(kind, starts, limits, penalty, drop_at=share, **how)
            for share in (1.0, dropping.DROP_AT, 0.01)
        )
        # steps in another order have the same sum, but for the last bit, which hangs on a row's place
        assume((np.abs(np.diff(never.scores)) > 1e-5).all())
        for got in (usual, once):
            for name, value in got._asdict().items():
                np.testing.assert_allclose(value, getattr(never, name), atol=1e-5, err_msg=f"{kind} {name}")


@pytest.mark.parametrize("k", [None, 2], ids=["greedy", "beam"])
def test_finished_rows_cost_nothing(k: int | None) -> None:
    """Rows that are sure of their ends cost a few steps more than they have pieces: not their limits, nor the
    pieces of the longest.

    Without a length penalty, so that a longer hypothesis cannot be a better one.
    """
    table = np.full((8, VOCABULARY), -9.0, np.float32)
    table[:, [SPECIAL.pad, SPECIAL.start]] = -math.inf
    for last, following in {0: SPECIAL.end, 1: 5, 5: 6, 6: 7, 7: SPECIAL.end}.items():
        table[last, following] = 9
    computed: list[int] = []

    def advance(ids: tf.Tensor, state: tf.Tensor, _: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = tf.shape(ids)[0] // (k or 1)
        tf.py_function(lambda rows: computed.append(int(rows)), [rows], [])
        last = tf.where(ids == SPECIAL.start, state, tf.minimum(ids, 7))
        return tf.gather(tf.constant(table), last), state, tf.ones([tf.shape(ids)[0], 1])

    def run(starts: tf.Tensor, limits: tf.Tensor, k_beams: tf.Tensor) -> Decoded:
        bounds = Bounds(limits, tf.zeros_like(starts, tf.float32))
        if k is None:
            return greedy(beamless(advance), starts, (), bounds, SPECIAL)
        return beam(beamless(advance), starts, (), bounds, SPECIAL, k_beams)

    rows = open_spec("int32", None)
    traced = tf.function(run, input_signature=(rows, rows, open_spec("int32")))
    got = Decoded(*(np.asarray(x) for x in traced([0, 1, *[0] * 14], [100, 100, *[2] * 14], k or 1)))
    assert got.ids[:2, 0, :4].tolist() == [[SPECIAL.end, 0, 0, 0], [5, 6, 7, SPECIAL.end]]
    assert got.lengths[:, 0].tolist() == [1, 4, *[1] * 14]
    assert computed[:4] == ([16, 1, 1, 1] if k is None else [16, 16, 2, 2])
    assert len(computed) <= (4 if k is None else 7)


@given(st.permutations(range(4)), SEEDS)
@settings(max_examples=8)
def test_neighbours_do_not_matter(order: list[int], seed: int) -> None:
    """A row's beams and draws are the same in any company, ties of pieces included: few values have many.

    Beams compare sums of steps: their ties hang on the last bit, and so on a row's place in its batch.
    """
    beams, draws, limits = TableModel(seed), TableModel(seed), [3, 8, 5, 6]
    draws.table = np.round(draws.table / 3)
    for kind, model in (("beam", beams), ("sample", draws)):
        whole = model.decode(kind, order, [limits[i] for i in order], 1.0, k=3)
        for row, start in enumerate(order):
            alone = model.decode(kind, [start], [limits[start]], 1.0, k=3)
            time = alone.ids.shape[2]
            assert whole.ids[row, :, :time].tolist() == alone.ids[0].tolist()
            assert (whole.ids[row, :, time:] == SPECIAL.pad).all()
            np.testing.assert_allclose(whole.scores[row], alone.scores[0], atol=1e-5)


def shares(options: list[float], temperature: float, top_k: int) -> list[tuple[int, float]]:
    """Return (piece, probability), likeliest first, of the tempered distribution over the best pieces."""
    order = sorted(range(len(options)), key=lambda i: -options[i])[: top_k or None]
    weights = [math.exp(options[i] / temperature) for i in order]
    return [(i, weight / sum(weights)) for i, weight in zip(order, weights, strict=True)]


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.sampled_from([0.05, 0.7, 1.0, 5.0]),
    st.integers(0, VOCABULARY),
    st.integers(0, 2**31),
)
@settings(max_examples=15)
def test_sampling_is_the_reference(seeds: list[int], temperature: float, top_k: int, seed: int) -> None:
    """Given the same uniform numbers: the same pieces, scored by the model's own distribution."""
    model, rows = TableModel(seed), len(seeds)
    how = {"seeds": seeds, "temperature": temperature, "top_k": top_k}
    got = model.decode("sample", [0] * rows, [LONGEST] * rows, 0.6, **how)
    for row, noise in enumerate(np.asarray(numbers(tf.constant(seeds, tf.int64), LONGEST))):
        ids: list[int] = []
        total = 0.0
        while len(ids) < LONGEST and ids[-1:] != [SPECIAL.end]:
            options = model.next_log_p(0)(ids)
            pieces, parts = zip(*shares(options, temperature, top_k), strict=True)
            passed = bisect.bisect_right(list(itertools.accumulate(parts)), noise[len(ids)])
            ids.append(pieces[min(passed, len(pieces) - 1)])
            total += options[ids[-1]]
        check_hypothesis(got, row, 0, (ids, total / len(ids) ** 0.6), model.attended(0, ids))


def test_draws_are_distributed_as_asked_for() -> None:
    """Chi-square over 4000 seeds at the first step; and seeds that follow each other are not alike."""
    model, seeds = TableModel(3), list(range(-2000, 2000))
    got = model.decode("sample", [0] * 4000, [2] * 4000, 1.0, seeds=seeds, temperature=1.5, top_k=4)
    counts = Counter(got.ids[:, 0, 0].tolist())
    wanted = dict(shares(model.next_log_p(0)([]), 1.5, 4))
    assert set(counts) == set(wanted)
    chi2 = sum((counts[i] - 4000 * p) ** 2 / (4000 * p) for i, p in wanted.items())
    assert chi2 < 16.3  # 3 degrees of freedom: 1 in 1000
    noise = np.asarray(numbers(tf.constant(seeds, tf.int64), LONGEST))
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.06
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.06
