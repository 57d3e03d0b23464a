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
    words = [word for word in text.split() if _is_telling_word(word)]
    if not words:
        return None
    return sum(map(_letters, words)) / max(1, len(vocabulary.encode(" ".join(words))))


def _is_telling_word(word: str) -> bool:
    if word.isalpha():
        return len(word) >= LEAST_LETTERS
    return _letters(word) >= LEAST_LETTERS and not any(map(str.isdigit, word))


def _letters(word: str) -> int:
    return len(word) if word.isalpha() else sum(map(str.isalpha, word))
