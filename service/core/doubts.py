"""What is doubtful about a translation, its warnings: thresholds, and the figures that chose them.

Measured by `models.evaluate.doubts`, greedily / by 4 beams, on Multi30k's 1,014 validation captions (a small
model: 128 units, ten epochs, BLEU 34.4) and on the demo's 1,500 validation phrases:

- HIGH_UNKNOWN on 1.2 % of the captions and none of the phrases; on all of them in another script, on 94 % of
  the captions in French.
- REPETITION on 2.4 % / 2.2 % of the captions, in all of which something is repeated, and on none of the
  phrases; of planted loops of three to six copies, of any pieces, 94 % / 93 % and 78 % / 77 %: the others
  repeat a piece or two.
  Judged by each step's most attended place alone, as versions with `attended` are, it is as before: on the
  demo's phrases none, and of loops planted there 77.2 % / 76.6 %, by whole weights 76.9 % / 77.8 %. On the
  captions, by a model that was trained for five epochs only (BLEU 21) and repeats itself, 7.2 % / 4.0 % (5
  beams), by whole weights 9.3 % / 4.6 %; in all of those something is repeated.
- LOW_COVERAGE on 0.4 % / 1.5 % and 0.5 % / 0.5 %; of two texts joined of which one is left out, 73 % / 89 %
  and 46 % / 46 % with a space between them, 74 % / 91 % and 96 % / 96 % with a line break; of the captions'
  outputs cut in half, 82 % / 84 %.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.base import Vocabulary, Words
from seqserve.service.contract.vocabulary.familiar import is_spelled, unknown_share
from seqserve.service.core.alignment import membership, word_means

HIGH_UNKNOWN, REPETITION, LOW_COVERAGE = "HIGH_UNKNOWN", "REPETITION", "LOW_COVERAGE"
JUDGED = frozenset({HIGH_UNKNOWN, REPETITION, LOW_COVERAGE})
"""The warnings that are judgements, by the thresholds here: another release may judge otherwise."""

UNKNOWN = 0.5
"""More of a text's letters and signs than this are unknown."""
UNUSUAL = 2.5
"""Times the training texts' pieces per word, for a manifest whose profile has no `letters_per_piece`."""

SAME_SOURCE = 0.5
"""Two words are translated from the same place: their attention overlaps by this, Σ_j min(a_ij, a_kj)."""
LEAST_COPIES, LEAST_PIECES = 3, 6
"""Pieces go round in circles: so many copies in a row, of so many pieces together."""

LOW_PIECE, LOW_PIECES = 0.25, 4
"""So many source pieces in a row are each attended to less than this, summed over the output."""
LOW_WORD, LOW_WORDS = 0.35, 3
"""The same of words, whose pieces are summed."""
LOW_PART = 0.6
"""Of a line or a sentence: the mean over its pieces, of which none counts more than 1."""
SHORT = 0.8
"""Times the usual length in pieces of an output for its source, where the source has several parts."""

MOST_PAIRS = 16
"""Pairs of equals for each piece of a row up to which their distances are looked at first."""

_WORD = re.compile(r"\S+")
_CLOSING = "\"')]}»“”’"
_JOINT = re.compile(rf"\n|[.…!?][{re.escape(_CLOSING)}]*\s")
"""Without one of these a text is of one part."""


# --- the source ---------------------------------------------------------------------------------


def is_strange(vocabulary: Vocabulary, text: str, pieces: int, profile: Mapping[str, Any]) -> bool:
    """Say whether a text is in a script or a language that the vocabulary does not know.

    Args:
        pieces: how many the text has.
        profile: of the training texts; what the manifest has under that name.
    """
    if unknown_share(vocabulary, text) > UNKNOWN:
        return True
    usual = profile.get("letters_per_piece")
    if usual is not None:
        return is_spelled(vocabulary, text, pieces, usual["p1"])
    usual = profile.get("pieces_per_word")
    return bool(usual and pieces / max(1, len(text.split())) > UNUSUAL * usual)


# --- repetition ---------------------------------------------------------------------------------


class Run(NamedTuple):
    """A stretch in which each piece is the same as the one `period` before it."""

    period: int
    start: int  # of the first copy
    length: int  # without the first copy; at least `period`

    @property
    def copies(self) -> int:
        """How many whole copies stand in a row, the first included."""
        return self.length // self.period + 1


def runs(row: Sequence[Hashable], copies: int = 2) -> Iterator[Run]:
    """Find what stands at least `copies` times in a row, of any period."""
    if len(row) - len(set(row)) < copies - 1:
        return  # nothing stands so often
    places: dict[Hashable, list[int]] = {}
    for place, each in enumerate(row):
        places.setdefault(each, []).append(place)
    often = [each for each in places.values() if len(each) >= copies]
    periods = _periods(often, len(row), copies) if often else ()
    if not periods:
        return
    numbers = {each: number for number, each in enumerate(dict.fromkeys(row))}
    ids = np.array([numbers[each] for each in row])
    for period in periods:
        same = np.concatenate([[False], ids[period:] == ids[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1]).tolist()
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end - begin >= period * (copies - 1):
                yield Run(period, begin, end - begin)


def _periods(places: Sequence[Sequence[int]], length: int, copies: int) -> Sequence[int]:
    """Return the periods that runs may have: so many pairs of equals stand so far apart.

    Args:
        places: of each of what stands often enough in a row.
        length: the row's.
    """
    if sum(len(each) ** 2 for each in places) > MOST_PAIRS * length:
        return range(1, length // copies + 1)
    apart = Counter(later - first for each in places for first, later in itertools.combinations(each, 2))
    return sorted(period for period, pairs in apart.items() if pairs >= period * (copies - 1))


def says_twice(weights: Array, target: Words) -> bool:
    """Say whether words stand twice in a row and were both times translated from the same place.

    So "sehr sehr gut" from "very very good" is no repetition.

    Args:
        weights: (target pieces, source pieces).
    """
    means = word_means(weights, target)  # (target words, source pieces)
    for period, start, length in runs(target.words):
        first, second = means[start : start + length], means[start + period : start + period + length]
        overlaps = np.minimum(first, second).sum(axis=1)  # (length)
        sums = np.concatenate([[0.0], overlaps.cumsum()])
        if ((sums[period:] - sums[:-period]) / period >= SAME_SOURCE).any():
            return True
    return False


def goes_round(source: Callable[[], Sequence[int]], target: Sequence[int]) -> bool:
    """Say whether pieces are repeated again and again, more often than any in the source are.

    Within a word too, and wherever the attention is: a loop may well wander.

    Args:
        source: returns the text's; it is asked only where the target's are.
    """
    loops = (run for run in runs(target, LEAST_COPIES) if run.length + run.period >= LEAST_PIECES)
    most = max((run.copies for run in loops), default=1)
    return most > 1 and most > max((run.copies for run in runs(source())), default=1)


# --- coverage -----------------------------------------------------------------------------------


def may_leave_out(text: str, low: int) -> bool:
    """Say whether `leaves_out` has to be asked.

    Args:
        low: source pieces that are covered by less than `LOW_WORD`.
    """
    return low >= LOW_WORDS or _JOINT.search(text) is not None


def leaves_out(
    text: str, words: Callable[[], Words], coverage: Array, pieces: int, profile: Mapping[str, Any]
) -> bool:
    """Say whether a part of the source is not in the output.

    Coverage, Σ_i a_ij, is about 1 where a word is translated (Tu et al., 2016,
    https://arxiv.org/abs/1601.04811; Wu et al., 2016, https://arxiv.org/abs/1609.08144, §7). A word or two
    are often without a counterpart. Lines and sentences are looked at one by one, and more closely.

    Args:
        words: returns the text's; they are worked out only where something may be left out.
        coverage: (source pieces).
        pieces: of the output.
        profile: of the training texts.
    """
    parts = _parts(text) if _JOINT.search(text) else []
    has_parts = bool(parts) and parts[-1] > 0
    low = coverage < LOW_WORD
    if not has_parts and (np.count_nonzero(low) < LOW_WORDS or _longest(low) < LOW_WORDS):
        return False
    given = words()
    return _has_gap(given, coverage) or (
        has_parts and (_is_short(pieces / len(coverage), profile) or _lacks_part(given, parts, coverage))
    )


def _has_gap(words: Words, coverage: Array) -> bool:
    own = np.array(words.word_of_piece) >= 0
    members = membership(words)
    with_pieces = members[members.any(axis=1)]  # a control character may be a word without one
    return (
        _longest(own & (coverage < LOW_PIECE)) >= LOW_PIECES
        or _longest(with_pieces @ coverage < LOW_WORD) >= LOW_WORDS
    )


def _lacks_part(words: Words, parts: Sequence[int], coverage: Array) -> bool:
    of_piece = np.array([parts[word] if word >= 0 else -1 for word in words.word_of_piece])
    clipped = np.minimum(coverage, 1)
    return any(clipped[of_piece == part].mean() < LOW_PART for part in set(of_piece.tolist()) - {-1})


def _is_short(ratio: float, profile: Mapping[str, Any]) -> bool:
    usual = profile.get("pieces_out_per_piece")
    return usual is not None and ratio < SHORT * usual


def _parts(text: str) -> list[int]:
    """Return the line or sentence, counted from 0, of each word between white space."""
    words = list(_WORD.finditer(text))
    parts = [0] * len(words)
    for place, (before, after) in enumerate(itertools.pairwise(words), start=1):
        ends = "\n" in text[before.end() : after.start()] or _ends_sentence(before[0], after[0])
        parts[place] = parts[place - 1] + ends
    return parts


def _ends_sentence(word: str, following: str) -> bool:
    """Say whether a sentence ends between two words; `Dr.`, `J.P.` and `24.` end none."""
    bare = word.rstrip(_CLOSING)
    if bare.endswith((".", "…")):
        return bare.rstrip(".…").islower() and bare.rstrip(".…").isalpha() and not following[0].islower()
    return bare.endswith(("!", "?"))


def _longest(low: Array) -> int:
    """Return how many true values stand in a row at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
