"""Subword regularization: each time training sees a text, it may be cut into other pieces.

So a small corpus says the same in many ways, and the model learns what pieces have in common. In serving a
text has its likeliest segmentation. Source: Kudo, 2018, https://arxiv.org/abs/1804.10959. SentencePiece's
own sampling cannot be seeded for each batch, which resuming needs; drawing from its n best can.

Used by `models.recipes.translation`.
"""

import numpy as np

from service.contract.text import TextCodec

CANDIDATES = 16


def draw_pieces(
    codec: TextCodec, text: str, longest: int, smoothness: float, random: np.random.Generator
) -> list[int]:
    """Return the ids of one segmentation out of the likeliest 16, drawn by p^smoothness.

    Args:
        longest: most ids; the likeliest segmentation must have no more.
        smoothness: 0 draws evenly, a large one always the likeliest.
    """
    cut = [ids for ids in codec.segmentations(text, CANDIDATES) if len(ids) <= longest]
    weights = smoothness * np.array([codec.log_probability(ids) for ids in cut])  # (candidates)
    share = np.exp(weights - weights.max())
    return cut[random.choice(len(cut), p=share / share.sum())]
