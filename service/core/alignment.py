"""What attention says about a translation: which words go together.

Words are between white space; weights are (target pieces, source pieces).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.base import Words

Table = tuple[tuple[float, ...], ...]
PUNCTUATION = ".,;:!?…\"'()[]{}«»„“”‘’"


@dataclass(frozen=True, slots=True)
class Attention:
    """What a hypothesis attended to.

    Args:
        coverage: (source pieces), the weights summed over the output.
        places: the most attended source piece of each target piece; None: they are seen from `matrix`.
        matrix: (target pieces, source pieces), where it was returned.
    """

    coverage: Array
    places: Array | None
    matrix: Array | None

    @property
    def weights(self) -> Array:
        """The weights, (target pieces, source pieces): 1 at the places, where they are all that is known."""
        if self.places is None:
            assert self.matrix is not None  # one of them is there
            return self.matrix
        sharp: Array = (self.places[:, None] == np.arange(len(self.coverage))).astype(np.float64)
        return sharp


def align_words(weights: Array, source: Words, target: Words) -> Table:
    """Return how much each target word attends to each source word.

    A target word is the mean of its pieces, a source word the sum of its; the end id belongs to no
    word, so a row sums to at most 1.
    """
    table = word_means(weights, target) @ membership(source).T  # (target words, source words)
    return tuple(tuple(row) for row in table.tolist())


def replace_unknown(weights: Array, source: Words, target: Words, unknown: Sequence[bool]) -> tuple[str, ...]:
    """Return the target words, those with an unknown piece replaced by the most attended source word.

    The word is replaced whole; punctuation at the ends stays the target's own. Source: Jean et al., 2015,
    https://arxiv.org/abs/1412.2007; Luong et al., 2015, https://arxiv.org/abs/1410.8206.

    Args:
        unknown: of each target piece.
    """
    if not source.words:
        return target.words
    wrong = {word for word, is_unknown in zip(target.word_of_piece, unknown, strict=True) if is_unknown}
    most = (word_means(weights, target) @ membership(source).T).argmax(axis=1)  # (target words)
    return tuple(
        _put(source.words[most[place]], word) if place in wrong else word
        for place, word in enumerate(target.words)
    )


def _put(source: str, target: str) -> str:
    """Return the source word in the target word's punctuation."""
    before = target[: len(target) - len(target.lstrip(PUNCTUATION))]
    after = target[len(target.rstrip(PUNCTUATION)) :]
    return f"{before}{source.strip(PUNCTUATION) or source}{after}"


def word_means(weights: Array, target: Words) -> Array:
    """Return each target word's attention, the mean of its pieces': (target words, source pieces)."""
    out = membership(target)  # (target words, target pieces)
    means: Array = out / np.maximum(out.sum(axis=1, keepdims=True), 1) @ weights.astype(np.float64)
    return means


def membership(words: Words) -> Array:
    """Return 1 where a piece belongs to a word: (words, pieces)."""
    member: Array = np.array(words.word_of_piece) == np.arange(len(words.words))[:, None]
    return member.astype(np.float64)
