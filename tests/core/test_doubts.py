"""Judgements about a translation: what is a loop, and what is left out."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.base import Words
from seqserve.service.core import doubts
from seqserve.service.core.alignment import Attention
from seqserve.service.core.doubts import Run, goes_round, runs, says_twice

WIDTH = 8


def peaked(*places: int, width: int = WIDTH) -> Array:
    """Return the attention of pieces that look at one source piece each, but for a tenth spread over all."""
    return 0.9 * np.eye(width)[list(places)] + 0.1 / width


def leaves_out(text: str, words: Callable[[], Words], weights: Array, profile: Mapping[str, Any]) -> bool:
    """Judge by weights (target pieces, source pieces)."""
    return doubts.leaves_out(text, words, weights.sum(axis=0), len(weights), profile)


def one_each(text: str) -> Words:
    """Return words of one piece."""
    words = tuple(text.split())
    return Words(words, tuple(range(len(words))))


@pytest.mark.parametrize(
    ("text", "places", "wanted"),
    [
        ("ein ein hund", (0, 0, 1), True),
        ("ein hund ein hund", (0, 1, 0, 1), True),
        ("a b c d a b c d", (0, 1, 2, 3, 0, 1, 2, 3), True),
        ("a b c d e a b c d e", (0, 1, 2, 3, 4) * 2, True),
        ("a b c d e f g h a b c d e f g h", (0, 1, 2, 3, 4, 5, 6, 7) * 2, True),
        ("x a b a b y", (0, 1, 2, 1, 2, 3), True),
        ("sehr sehr gut", (0, 1, 2), False),  # each from its own
        ("ein hund und ein hund", (0, 1, 2, 0, 1), False),  # not at once
        ("a b c d e a b c d", (0, 1, 2, 3, 4, 0, 1, 2, 3), False),  # not the whole of it
        ("ein hund", (0, 0), False),
    ],
)
def test_a_repetition_is_the_same_words_from_the_same_source(
    text: str, places: tuple[int, ...], wanted: bool
) -> None:
    sharp = Attention(np.ones(WIDTH), np.array(places), None).weights
    for weights in (peaked(*places), sharp):
        assert says_twice(weights, one_each(text)) is wanted


@given(
    st.lists(st.integers(0, 3), max_size=3),
    st.lists(st.integers(4, 9), min_size=1, max_size=12, unique=True),
    st.integers(2, 6),
    st.lists(st.integers(0, 3), max_size=3),
)
def test_a_planted_loop_is_found_with_its_period(
    before: list[int], loop: list[int], copies: int, after: list[int]
) -> None:
    """Any period, any number of copies, anywhere."""
    found = list(runs([*before, *loop * copies, *after]))
    assert Run(len(loop), len(before), len(loop) * (copies - 1)) in found
    assert copies in {run.copies for run in found if run.period == len(loop)}
    for run in runs([*before, *loop * copies, *after], copies):
        assert run.copies >= copies


@given(st.lists(st.integers(0, 2), max_size=70), st.integers(2, 4))
def test_runs_are_all_that_stand_so_often_in_a_row(row: list[int], copies: int) -> None:
    """Whichever way they are looked for: few pairs of equals or many."""
    wanted = []
    for period in range(1, len(row) // copies + 1):
        same = [a == b for a, b in zip(row, row[period:], strict=False)]
        begin = 0
        for is_same, stretch in itertools.groupby(same):
            length = len(list(stretch))
            if is_same and length >= period * (copies - 1):
                wanted.append(Run(period, begin, length))
            begin += length
    assert list(runs(row, copies)) == wanted


@given(st.lists(st.integers(), unique=True))
def test_nothing_stands_twice_where_all_differ(row: list[int]) -> None:
    assert not list(runs(row))


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ([5, 6, 3], [7, 8, 7, 8, 7, 8, 3], True),
        ([5, 6, 3], [7] * 6, True),
        ([5, 6, 3], [9, *[1, 2, 3, 4, 5] * 3], True),
        ([5, 6, 3], [7, 8, 7, 8, 3], False),  # twice
        ([5, 6, 3], [7, 7, 7, 3], False),  # three zeros of a number
        ([5, 5, 5, 5, 5, 5, 3], [7] * 6, False),  # the source says it as often
        ([5, 5, 3], [7] * 6, True),
    ],
)
def test_a_loop_is_more_copies_than_the_source_has(
    source: list[int], target: list[int], wanted: bool
) -> None:
    assert goes_round(lambda: source, target) is wanted


def leaves(text: str, places: Sequence[int], **profile: float) -> bool:
    """Tell whether a text of one piece a word is left out where the output looks at these places."""
    words = one_each(text)
    return leaves_out(text, lambda: words, peaked(*places, width=len(words.words)), profile)


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), False),
        ((0, 1, 2, 3, 4, 6, 7), False),  # one word alone
        ((0, 1, 2, 5, 6, 7), False),  # two, as `hundred and` of a number
        ((0, 2, 4, 6), False),  # no two in a row
        ((0, 1, 5, 6, 7), True),
        ((0, 1, 2, 3, 4), True),  # the end is missing
        ((0, 0, 0, 0, 0, 0, 0), True),
    ],
)
def test_coverage_is_low_where_words_in_a_row_are_not_attended_to(
    places: tuple[int, ...], wanted: bool
) -> None:
    assert leaves("a b c d e f g h", places) is wanted


def test_coverage_is_low_where_pieces_in_a_row_are_not_attended_to() -> None:
    """Within a word too, as it may be a date."""
    words = Words(("a", "12/25/26"), (0, 1, 1, 1, 1, 1, 1, -1))
    assert leaves_out("a 12/25/26", lambda: words, peaked(0, 1, 6, 7), {})
    assert not leaves_out("a 12/25/26", lambda: words, peaked(0, 1, 2, 6, 7), {})


def test_coverage_is_of_whole_words_and_of_no_end() -> None:
    """A word is covered by any of its pieces; the end id, and a word without a piece, need no attention."""
    source = Words(("a", "b", "c"), (0, 0, 1, 1, 2, 2, -1, -1))
    assert not leaves_out("a b c", lambda: source, peaked(0, 2, 4), {})
    assert leaves_out("a b c", lambda: source, peaked(7, 7, 7), {})
    without = Words(("a", "\x01", "\x02", "\x03", "b"), (0, 0, 0, 4, 4, 4, -1, -1))
    assert not leaves_out("a \x01 \x02 \x03 b", lambda: without, peaked(0, 4), {})


@pytest.mark.parametrize("joint", ["\n", " \n ", ". ", "! ", '." '])
def test_a_line_or_a_sentence_that_is_left_out_is_found(joint: str) -> None:
    """By its coverage: two words in a row alone are no sign within one sentence."""
    one, two = ("two dogs run", "A cat sits")
    both, first = (0, 1, 2, 3, 4, 5), (0, 1, 2, 3)
    assert not leaves(f"{one}{joint}{two}", both)
    assert leaves(f"{one}{joint}{two}", first)
    assert not leaves(f"{one} {two}", first)


def test_several_parts_in_a_short_output_are_one_too_few() -> None:
    """Where the attention is spread over both, the length says it."""
    text = "two dogs run fast\na cat sits there"
    spread = np.full((5, 8), 0.8 / 5)
    words = one_each(text)
    for usual, wanted in ((1.0, True), (0.7, False)):
        profile = {"pieces_out_per_piece": usual}
        assert leaves_out(text, lambda: words, spread + 0.5 / 5, profile) is wanted
    assert not leaves_out(text, lambda: words, spread + 0.5 / 5, {})


@pytest.mark.parametrize(
    "text", ["Mr. Smith met Dr. Tom", "J.P. Morgan at 4 p.m. On", "on 24. May or 3. June"]
)
def test_an_abbreviation_ends_no_sentence(text: str) -> None:
    places = tuple(range(2, len(text.split())))
    assert not leaves(text, places)
