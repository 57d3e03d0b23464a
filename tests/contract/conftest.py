"""What the contract's tests share: the golden manifests, and a tokenizer trained on the spot."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from seqserve.service.contract.manifest import Tokens
from seqserve.service.contract.vocabulary.pieces import SentencePieces

SENTENCES = (
    "two dogs run fast",
    "a cat sits on the mat",
    "ein hund läuft über die straße",
    "der zug fährt um zehn ab",
    "élan vital, déjà vu",
)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], bytes]:
    """Return a reader of the golden manifests, by task."""
    return lambda task: (Path(__file__).parent / f"manifest.v1.{task}.json").read_bytes()


@pytest.fixture
def plain_manifest(golden: Callable[[str], bytes]) -> Callable[[str], dict[str, Any]]:
    """Return a reader of the golden manifests as dicts of one's own, to be edited."""

    def read(task: str) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(golden(task))
        return plain

    return read


def _tokenizer(**options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def tokenizer() -> bytes:
    """Return the file of a small SentencePiece model."""
    return _tokenizer(vocab_size=60)


@pytest.fixture(scope="session")
def unchanged() -> bytes:
    """Return the file of one that takes texts as they are."""
    return _tokenizer(vocab_size=60, normalization_rule_name="identity")


@pytest.fixture(scope="session")
def codec(tokenizer: bytes) -> SentencePieces:
    """Return a codec that closes every row by the end id."""
    return SentencePieces(tokenizer, Tokens(tokenizer="en.model"))


@pytest.fixture(scope="session")
def bytes_codec() -> SentencePieces:
    """Return a codec that falls back on bytes where it has no piece, and does not close rows."""
    model = _tokenizer(vocab_size=330, byte_fallback=True)
    return SentencePieces(model, Tokens(tokenizer="en.model", add_end=False))
