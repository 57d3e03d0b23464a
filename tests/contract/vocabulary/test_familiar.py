"""How well a vocabulary knows a text."""

import pytest
from hypothesis import given, strategies as st

from seqserve.service.contract.manifest import Tokens
from seqserve.service.contract.vocabulary.familiar import is_spelled, letters_per_piece, unknown_share
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from tests.contract.vocabulary.drawn import TEXT


@pytest.fixture(scope="module")
def known(tokenizer: bytes) -> SentencePieces:
    return SentencePieces(tokenizer, Tokens(tokenizer="en.model"))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("two dogs run", 0.0),
        ("two dogs, 12.", 0.0),
        ("Москва", 1.0),
        ("東京都は日本の首都です", 1.0),
        ("الثلاثاء", 1.0),
        ("😀😀😀", 1.0),
        ("two ЖЖЖ", 0.5),
        ("12:30 Ж", 1.0),  # digits and punctuation say nothing
        ("ЖЖЖ ٣٤", 1.0),
        ("12, 13", 0.0),
        ("", 0.0),
    ],
)
def test_the_unknown_share_is_of_letters_and_signs(known: SentencePieces, text: str, share: float) -> None:
    assert unknown_share(known, text) == share


def test_letters_are_counted_by_piece_in_longer_words(known: SentencePieces) -> None:
    """Of words of four letters and more, without digits."""
    assert letters_per_piece(known, "two run") is None
    assert letters_per_piece(known, "dogs4 2026 ...") is None
    for text, words, letters in (
        ("two dogs, run", "dogs,", 4),
        ("fast dogs 12th fast!", "fast dogs fast!", 12),
    ):
        assert letters_per_piece(known, text) == letters / len(known.encode(words))


@given(text=TEXT | st.lists(st.sampled_from(("dogs", "fast", "run", "zzzz", "dogs7"))).map(" ".join))
def test_a_text_is_spelled_below_so_many_letters_a_piece(known: SentencePieces, text: str) -> None:
    letters, pieces = letters_per_piece(known, text), len(known.encode(text))
    for least in (0.5, 1.0, 2.0, 4.0):
        assert is_spelled(known, text, pieces, least) is (letters is not None and letters < least)
