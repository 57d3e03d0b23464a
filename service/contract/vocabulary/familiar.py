"""How well a vocabulary knows a text: figures that training texts and callers' texts are compared by."""

import string
import unicodedata

from seqserve.service.contract.vocabulary.base import Vocabulary

LEAST_LETTERS = 4
"""Words of fewer letters say little: any language has short ones, and `PM` may well be spelled."""


def unknown_share(vocabulary: Vocabulary, text: str) -> float:
    """Return the share of the text's letters and signs that do not reach the model as anything it knows.

    Punctuation, spaces and the digits 0 to 9 do not count: they are the same in many scripts.
    """
    known = vocabulary.known_places(text)
    if len(known) == len(text):
        return 0.0
    telling = [place for place, character in enumerate(text) if _is_telling(character)]
    return sum(place not in known for place in telling) / len(telling) if telling else 0.0


def _is_telling(character: str) -> bool:
    return character not in string.digits and unicodedata.category(character)[0] not in "PZC"


def letters_per_piece(vocabulary: Vocabulary, text: str) -> float | None:
    """Return how many letters the pieces of the text's longer words have on average.

    A known language comes in long pieces, another one in the same letters is spelled. Longer words have four
    letters or more and no digit; None where the text has none of them.
    """
    words, letters = _longer_words(text)
    return letters / max(1, len(vocabulary.encode(" ".join(words)))) if words else None


def is_spelled(vocabulary: Vocabulary, text: str, pieces: int, least: float) -> bool:
    """Tell whether the text's longer words have fewer letters a piece than `least`.

    Args:
        pieces: how many the whole text has. Its longer words have no more of them, where only spaces part its
            words and nothing in it is written otherwise before it is cut into pieces.
    """
    words, letters = _longer_words(text)
    is_plain = text.isprintable() and unicodedata.is_normalized("NFKC", text)
    if not words or (is_plain and letters >= least * pieces):
        return False
    return letters < least * max(1, len(vocabulary.encode(" ".join(words))))


def _longer_words(text: str) -> tuple[list[str], int]:
    """Return the words that tell a language, and how many letters they have together."""
    words, letters = [], 0
    for word in text.split():
        own = len(word) if word.isalpha() else sum(map(str.isalpha, word))
        if own >= LEAST_LETTERS and (own == len(word) or not any(map(str.isdigit, word))):
            words.append(word)
            letters += own
    return words, letters
