"""Subword regularization: another segmentation, never another text."""

import collections

import numpy as np
import pytest

from seqserve.models.data.phrases import phrase_pairs
from seqserve.models.data.segmentations import CANDIDATES, Segmentations
from seqserve.models.data.tokenizer import train_tokenizer
from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.pieces import SentencePieces

TEXT = "Wednesday, the twenty-first of November"


@pytest.fixture(scope="module")
def codec() -> SentencePieces:
    """A tokenizer of few pieces."""
    texts = [pair.source for pair in phrase_pairs("train", 400, seed=1)]
    return SentencePieces(train_tokenizer(texts, 120, SpecialIds()), Tokens(tokenizer="t"))


def test_every_drawing_is_the_same_text(codec: SentencePieces) -> None:
    """Several segmentations are drawn; all decode to the text, and none is too long."""
    random, longest = np.random.default_rng(0), len(codec.encode(TEXT)) + 2
    drawn = [ids.tolist() for ids in Segmentations(codec, [TEXT] * 60, longest, 0.2).draw(random)]
    assert {codec.decode(ids) for ids in drawn} == {codec.decode(codec.encode(TEXT))}
    assert 3 < len({tuple(ids) for ids in drawn}) <= CANDIDATES
    assert max(map(len, drawn)) <= longest


def test_shares_are_probabilities_to_the_power_of_smoothness(codec: SentencePieces) -> None:
    """The ratio of two segmentations' frequencies is that of p^smoothness; the likeliest is `encode`'s."""
    random, smoothness = np.random.default_rng(0), 0.5
    first, second = codec.segmentations(TEXT, 2)
    assert first == codec.encode(TEXT)
    texts = Segmentations(codec, [TEXT, "May"], 99, smoothness)
    counts = collections.Counter(tuple(texts.draw(random)[0].tolist()) for _ in range(3000))
    wanted = np.exp(smoothness * (codec.log_probability(first) - codec.log_probability(second)))
    assert abs(counts[tuple(first)] / counts[tuple(second)] / wanted - 1) < 0.2


def test_a_large_smoothness_always_draws_the_likeliest(codec: SentencePieces) -> None:
    """Then it is what serving uses."""
    texts = Segmentations(codec, [TEXT] * 20, 99, 1e6)
    assert {tuple(ids.tolist()) for ids in texts.draw(np.random.default_rng(0))} == {
        tuple(codec.encode(TEXT))
    }
