"""N-grams: probabilities of what follows, shortened contexts, and median waits."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.models.evaluate.crossvalidation.ngrams import MedianWait, WittenBell

LABELS = ("a", "b", "c")
sequences = st.lists(st.sampled_from(LABELS), max_size=6)


@given(st.lists(sequences, max_size=5), sequences, st.integers(1, 5))
def test_probabilities_sum_to_1_and_none_is_0(corpus: list[list[str]], seen: list[str], order: int) -> None:
    """Whatever was counted, each label and the end stay possible after anything."""
    given = WittenBell(corpus, LABELS, order).probabilities(seen)
    assert given.shape == (4,)
    assert given.min() > 0
    assert math.isclose(given.sum(), 1)


def test_probabilities_are_those_worked_out_by_hand() -> None:
    """Witten and Bell on "ab" and "aab", for labels a, b and c, so 1/4 each below the unigrams.

    Unigrams: a 3, b 2, end 2 of 7, 3 kinds. After a: b 2, a 1, 2 kinds. After b: end 2, 1 kind.
    """
    corpus = [["a", "b"], ["a", "a", "b"]]
    one = np.array([3 + 0.75, 2 + 0.75, 0.75, 2 + 0.75]) / 10
    after_a = (np.array([1, 2, 0, 0]) + 2 * one) / 5
    after_b = (np.array([0, 0, 0, 2]) + one) / 3
    after_start = (np.array([2, 0, 0, 0]) + one) / 3
    for order, seen, wanted in (
        (1, ["a"], one),
        (2, ["b", "a"], after_a),
        (2, ["b"], after_b),
        (2, [], after_start),
        (3, ["a"], (np.array([1, 1, 0, 0]) + 2 * after_a) / 4),
        (3, ["c", "a"], after_a),  # a context that was never seen is shortened
        (2, ["c"], one),
    ):
        np.testing.assert_allclose(WittenBell(corpus, LABELS, order).probabilities(seen), wanted)


def test_an_event_that_is_no_label_is_refused() -> None:
    """Its probability would have no place."""
    with pytest.raises(KeyError):
        WittenBell([["d"]], LABELS, 2)


def test_the_wait_is_the_median_after_the_longest_context_seen() -> None:
    """After "ab" 4; after an unseen "cb" that of b; of nothing at all, NaN."""
    model = MedianWait([(["a", "b", "c"], [1, 4]), (["b", "c"], [8])], 3)
    assert model.after(["a", "b"]) == 4
    assert model.after(["c", "b"]) == 6
    assert model.after(["c"]) == 4
    assert math.isnan(MedianWait([(["a"], [])], 3).after(["a"]))
