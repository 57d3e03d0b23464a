"""What every vocabulary can do, and the words that its pieces belong to."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from seqserve.service.contract.manifest import SpecialIds, Tokens


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, and for each piece the index of the word it belongs to (-1: none)."""

    words: tuple[str, ...]
    word_of_piece: tuple[int, ...]


class Vocabulary(Protocol):
    """Text to ids and ids to text, alike in training, export and serving.

    Words are between white space, as `str.split` has it. Surrogates that are no pair read as U+FFFD.
    """

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""

    @property
    def special_ids(self) -> SpecialIds:
        """The ids that are no text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text's pieces, opened and closed by the start and end ids where asked for.

        A text of which no piece is left has no ids at all, not even a start or an end.

        Raises:
            UnknownCategory: a piece is unknown, and the vocabulary neither maps nor drops such.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; pad, start and end ids add nothing to it.

        Raises:
            ValueError: an id is outside the vocabulary.
        """

    def source_words(self, text: str) -> Words:
        """Return the words of the text as it was given, and which of them each id of `encode` belongs to."""

    def decode_words(self, ids: Sequence[int]) -> tuple[str, Words]:
        """Return `decode`'s text, its words, and which of them each id belongs to.

        Raises:
            ValueError: an id is outside the vocabulary.
        """

    def known_places(self, text: str) -> Set[int]:
        """Return the places of the text's characters that reach the model, in pieces which it knows.

        Raises:
            UnknownCategory: as `encode`.
        """


def well_formed(text: str) -> str:
    """Return the text with each lone surrogate as U+FFFD, as WHATWG's USVString has it."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def group(text: str, begins: Sequence[int]) -> tuple[tuple[str, ...], list[int]]:
    """Return the white-space words of the text, and each piece's: the word at or after its first character.

    So a piece that is but the space before a word, or has no character of its own (the first half of a
    ligature that normalization took apart), goes with the word that it opens.

    Args:
        begins: where each piece begins, at most the text's length; negative: in no word.
    """
    words = text.split()
    word_at = _word_at(text, len(words))
    return tuple(words), [word_at[begin] if begin >= 0 else -1 for begin in begins]


def _word_at(text: str, count: int) -> list[int]:
    """Return for each character, and for the end, the index of its word or else of the next (-1: none)."""
    index, place = [], 0
    for before, character in zip(" " + text, text + " ", strict=True):
        place += character.isspace() and not before.isspace()
        index.append(place if place < count else -1)
    return index


def closing_ids(spec: Tokens) -> tuple[list[int], list[int]]:
    """Return what opens every row and what closes it: the start and the end id, each where asked for."""
    special = spec.special_ids
    starts = [special.start] if spec.add_start and special.start is not None else []
    ends = [special.end] if spec.add_end and special.end is not None else []
    return starts, ends


def check_ids(ids: Sequence[int], size: int) -> None:
    """Check the ids of pieces.

    Raises:
        ValueError: an id is outside the vocabulary.
    """
    if ids and not 0 <= min(ids) <= max(ids) < size:
        wrong = next(i for i in ids if not 0 <= i < size)
        raise ValueError(f"id {wrong} is outside the vocabulary of {size} pieces")
