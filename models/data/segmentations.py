"""Subword regularization: each time training sees a text, it may be cut into other pieces.

A small corpus then says the same in many ways, and the model learns what pieces have in common. In serving a
text has its likeliest segmentation. Source: Kudo, 2018, https://arxiv.org/abs/1804.10959. SentencePiece's
own sampling cannot be seeded for each batch, which resuming needs; drawing from its n best can.
"""

from bisect import bisect
from collections.abc import Sequence

import numpy as np

from seqserve.service.contract.vocabulary.pieces import SentencePieces

CANDIDATES = 16


class Segmentations:
    """The 16 likeliest segmentations of each text; one is drawn each time, by p^smoothness.

    They are kept, about 3 KiB a text: 7 GiB for a million pairs of texts.

    Args:
        longest: most ids; the likeliest segmentation of each text must have no more.
        smoothness: 0 draws evenly, a large one always the likeliest.
    """

    def __init__(self, codec: SentencePieces, texts: Sequence[str], longest: int, smoothness: float) -> None:
        self._of_texts = [_shared(codec, text, longest, smoothness) for text in texts]

    def draw(self, random: np.random.Generator) -> list[np.ndarray]:
        """Return the ids of one segmentation of each text."""
        numbers = random.random(len(self._of_texts)).tolist()
        return [
            cut[bisect(shares, number)] for (cut, shares), number in zip(self._of_texts, numbers, strict=True)
        ]


def _shared(
    codec: SentencePieces, text: str, longest: int, smoothness: float
) -> tuple[list[np.ndarray], list[float]]:
    """Return a text's segmentations, and where each but the last ends in the cumulative distribution."""
    cut = [ids for ids in codec.segmentations(text, CANDIDATES) if len(ids) <= longest]
    weights = smoothness * np.array([codec.log_probability(ids) for ids in cut])  # (candidates)
    shares = np.exp(weights - weights.max())
    ends = np.cumsum(shares / shares.sum())[:-1].tolist()
    return [np.array(ids, np.int32) for ids in cut], ends
