"""A shortlist: what a row may write, and that it writes the best of it, whoever stands beside it."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies as st

from seqserve.models.data.partners import commonest, partners
from seqserve.models.networks.folded import Folded
from seqserve.models.networks.largest import GROUP
from seqserve.models.networks.shortlist import Shortlist, gap_of
from seqserve.models.networks.translation import Translator
from seqserve.models.translator import INPUTS, SOURCE_SPEC, Searches, specs
from seqserve.service.contract.manifest import SpecialIds
from tests.models.networks.test_decoding import beam_reference, greedy_reference, log_p

SPECIAL, PIECES = SpecialIds(), 40
COMMON = np.arange(4, 16, dtype=np.int32)


def test_partners_are_what_texts_are_translated_by() -> None:
    """Piece n is written as n + 20, in any order, beside a piece that stands everywhere."""
    random = np.random.default_rng(1)
    sources = [random.choice(np.arange(4, 20), 5, replace=False) for _ in range(200)]
    rows = [(source, random.permutation([*(source + 20), 39])) for source in sources]
    table = partners(rows, PIECES, 2, 0)
    assert table[4:20, 0].tolist() == [*range(24, 39), 39]
    assert (table[20:] == 0).all()
    assert commonest(rows, PIECES, 1).tolist() == [39]


@given(st.lists(st.lists(st.integers(4, 19), min_size=1, max_size=4), min_size=1, max_size=4))
def test_candidates_are_of_each_row_alone(texts: list[list[int]]) -> None:
    table = np.zeros((PIECES, 2), np.int32)
    table[4:20] = np.arange(20, 36)[:, None] + [0, 1]
    shortlist = Shortlist(table, COMMON, SPECIAL, PIECES)
    longest = max(map(len, texts))
    padded = [[*text, *[SPECIAL.pad] * (longest - len(text))] for text in texts]
    pieces, allowed = map(np.asarray, shortlist.candidates(tf.constant(padded)))
    assert pieces[:4].tolist() == [0, 1, 2, 3]
    wanted = [
        {0, 1, 2, 3, *COMMON.tolist()} | {n + i for t in text for n, i in ((t + 16, 0), (t + 16, 1))}
        for text in texts
    ]
    assert [set(pieces[row].tolist()) for row in allowed] == wanted
    assert set(pieces.tolist()) == set().union(*wanted)


def test_special_ids_may_lie_anywhere() -> None:
    """They come first, in a loop's own numbering; what fills up the union is nobody's candidate."""
    special = SpecialIds(pad=38, unknown=None, start=7, end=30)
    table = np.arange(2, 2 + PIECES, dtype=np.int32)[:, None] % PIECES
    shortlist = Shortlist(table, np.array([20, 30], np.int32), special, PIECES, source_pad=5)
    assert shortlist.special == SpecialIds(pad=2, unknown=None, start=0, end=1)
    pieces, allowed = map(np.asarray, shortlist.candidates(tf.constant([[9, 5], [4, 9]])))
    assert pieces.tolist() == [7, 30, 38, 6, 11, 20, *[38] * (GROUP - 6)]
    assert [sorted(pieces[row].tolist()) for row in allowed] == [[7, 11, 20, 30, 38], [6, 7, 11, 20, 30, 38]]


@pytest.mark.parametrize(("columns", "whole"), [(1, 32), (32, 32), (33, 64), (225, 288), (4096, 4128)])
def test_columns_are_whole_groups_and_not_in_each_others_way(columns: int, whole: int) -> None:
    assert columns + int(gap_of(columns)) == whole
    assert columns + int(gap_of(tf.constant(columns))) == whole


@pytest.fixture(scope="module")
def network() -> Translator:
    network = Translator(PIECES, 8, 6, 0.0, SPECIAL.model_dump())
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:  # as made, all pieces would be about as likely
        variable.assign(rng.normal(size=variable.shape) * 0.7)
    return network


SOURCES = [[5, 6, 7, 3], [9, 3], [4, 5, 3]]


def test_each_row_writes_the_best_of_its_own_candidates(network: Translator) -> None:
    """Greedily and by beams, as the reference does whose other pieces have a p of 0."""
    table = np.random.default_rng(2).integers(16, PIECES, (PIECES, 3), np.int32)
    shortlist, folded = Shortlist(table, COMMON, SPECIAL, PIECES), Folded(network)
    searches = Searches(
        folded.encode, folded.advance, SPECIAL, candidates=shortlist.candidates, within=folded.within
    )
    own = [{1, 3, *COMMON.tolist(), *table[source].ravel().tolist()} for source in SOURCES]
    check_written(network, searches, own)


def test_pieces_that_no_row_writes_are_left_out(network: Translator) -> None:
    """The graph has no others, and answers as the reference whose others have a p of 0."""
    written = np.array([0, 1, 2, 3, 6, 9, 10, 21, 22, 30, 31, 32, 37, 39], np.int32)
    folded = Folded(network, written)
    searches = Searches(folded.encode, folded.advance, SPECIAL, written=written)
    check_written(network, searches, [set(written.tolist()) - {0, 2}] * len(SOURCES))


def check_written(network: Translator, searches: Searches, owns: list[set[int]]) -> None:
    """Compare all searches over each source with the references over what each row may write."""
    limits, penalty, k = [7, 5, 6], 0.6, 4
    padded = tf.constant([[*source, *[0] * (4 - len(source))] for source in SOURCES])
    bounds = (tf.constant(limits), tf.fill([3], penalty))
    search = searches.functions(["greedy", "beam", "sample"])
    greedy, beam, sample = (tf.function(search[kind], [SOURCE_SPEC, *specs(kind)]) for kind in INPUTS)
    greedily, beamed = greedy(padded, *bounds), beam(padded, *bounds, tf.constant(k))
    sampled = sample(padded, *bounds, tf.fill([3], 5.0), tf.zeros([3], tf.int32), tf.range(3, dtype=tf.int64))
    taught = tf.function(lambda *texts: network(texts), reduce_retracing=True)
    for row, (source, limit, own) in enumerate(zip(SOURCES, limits, owns, strict=True)):

        def next_log_p(ids: list[int], source: list[int] = source, own: set[int] = own) -> list[float]:
            logits = np.asarray(taught(tf.constant([source]), tf.constant([[SPECIAL.start, *ids]])))[0, -1]
            return log_p([x if i in own else -math.inf for i, x in enumerate(logits.tolist())])

        hypotheses = beam_reference(next_log_p, k, limit, penalty)
        pairs = [(greedily, 0, greedy_reference(next_log_p, limit, penalty))]
        pairs += [(beamed, place, wanted) for place, wanted in enumerate(hypotheses)]
        for got, place, (ids, score) in pairs:
            assert got["ids"][row, place, : len(ids)].numpy().tolist() == ids
            assert got["scores"][row, place].numpy() == pytest.approx(score, abs=1e-4)
        drawn = sampled["ids"][row, 0, : sampled["lengths"][row, 0]].numpy().tolist()
        assert set(drawn) <= own
        total = sum(next_log_p(drawn[:at])[piece] for at, piece in enumerate(drawn))
        assert sampled["scores"][row, 0].numpy() == pytest.approx(total / len(drawn) ** penalty, abs=1e-4)
