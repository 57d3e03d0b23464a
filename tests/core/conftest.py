"""What the tests of core share: a loop with a virtual clock, and a tokenizer trained on the spot."""

import io
from collections.abc import Mapping
from typing import Any

import pytest
import sentencepiece

from seqserve.service.contract.manifest import Tokens
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from tests.core.loop import LOOPS

SENTENCES = ("two dogs run fast", "a cat sits on the mat", "zwei hunde rennen schnell", "déjà vu")


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    """Run every async test of this folder on a loop whose clock jumps."""
    return LOOPS


@pytest.fixture(scope="session")
def tokenizer() -> bytes:
    """Return the file of a small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def text_codec(tokenizer: bytes) -> SentencePieces:
    """Return the tokenizer as the codec has it."""
    return SentencePieces(tokenizer, Tokens(tokenizer="en.model"))
