"""A vocabulary that is a list: a text is edited, cut into pieces, and each piece is looked up."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Words, check_ids, closing_ids, group, well_formed
from seqserve.service.contract.vocabulary.edits import ASCII_SPACES, NOWHERE, Edits
from seqserve.service.errors import UnknownCategory

_ASCII_WORD = re.compile(f"[^{ASCII_SPACES}]+")

Cut = Callable[[str], Sequence[tuple[int, str]]]
"""An edited text to its pieces, each with the place where it begins."""


def ascii_words(text: str) -> list[tuple[int, str]]:
    """Cut at white space as `tf.strings.split` does: at ASCII's, not at a no-break space."""
    return [(match.start(), match[0]) for match in _ASCII_WORD.finditer(text)]


def characters(text: str) -> list[tuple[int, str]]:
    """Cut into code points."""
    return list(enumerate(text))


def whole(text: str) -> list[tuple[int, str]]:
    """Take the text as one piece, and none where it is empty."""
    return [(0, text)] if text else []


def between(separator: str) -> Cut:
    """Return the cut at a separator that leaves out empty pieces, as Keras' `text_to_word_sequence`."""

    def cut(text: str) -> list[tuple[int, str]]:
        pieces = text.split(separator)
        begins = itertools.accumulate((len(piece) + len(separator) for piece in pieces), initial=0)
        return [(begin, piece) for begin, piece in zip(begins, pieces, strict=False) if piece]

    return cut


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The entries of a list and their ids."""

    ids: Mapping[str, int]
    entries: Mapping[int, str]  # what an id is written as
    gap: str  # what an id without an entry is written as
    size: int
    unknown: Literal["reject", "drop", "map"]
    silent: frozenset[int | None]  # special ids that are written as nothing, whatever their entry
    joint: str  # between two pieces of a decoded text


class ListedVocabulary:
    """Edits, a cut and a lexicon, with the special ids that the manifest names."""

    def __init__(self, edits: Edits, cut: Cut, lexicon: Lexicon, spec: Tokens) -> None:
        """Put a vocabulary together.

        Raises:
            UnknownCategory: a prefix or suffix of the edits is unknown, and such is rejected.
        """
        self._edits, self._cut, self._lexicon, self._spec = edits, cut, lexicon, spec
        self._fallback = spec.special_ids.unknown if lexicon.unknown == "map" else None
        self._starts, self._ends = closing_ids(spec)
        self._added = self._ids("")  # by the edits: a text with no more than that has no pieces

    @property
    def special_ids(self) -> SpecialIds:
        """The ids that are no text."""
        return self._spec.special_ids

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return self._lexicon.size

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text's pieces; see `Vocabulary.encode`."""
        ids = self._ids(well_formed(text))
        return [*self._starts, *ids, *self._ends] if ids != self._added else []

    def _ids(self, text: str) -> list[int]:
        numbers = (self._id(piece) for _, piece in self._cut(self._edits.apply(text)))
        return [number for number in numbers if number is not None]

    def source_words(self, text: str) -> Words:
        """Return the words of the text as given; a piece is of the word that its first character is from.

        What the edits added belongs to none, and so does a piece after the last word.
        """
        text = well_formed(text)
        kept = [(number, begin) for number, begin in self._traced(text) if number is not None]
        words, owners = group(text, [begin for _, begin in kept])
        if [number for number, _ in kept] == self._added:
            return Words(words, ())
        return Words(words, (*[-1] * len(self._starts), *owners, *[-1] * len(self._ends)))

    def _traced(self, text: str) -> list[tuple[int | None, int]]:
        """Return each piece's id, and the place in the text that its first character is from."""
        edited, origins = self._edits.trace(text)
        traced = []
        for begin, piece in self._cut(edited):
            of_text = (at for at in origins[begin : begin + len(piece)] if at != NOWHERE)
            traced.append((self._id(piece), next(of_text, NOWHERE)))
        return traced

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; see `Vocabulary.decode`."""
        return self._lexicon.joint.join(filter(None, self._written(ids)))

    def decode_words(self, ids: Sequence[int]) -> tuple[str, Words]:
        """Return the text of the ids, and which word of it each belongs to; see `Vocabulary.decode_words`."""
        written, joint = self._written(ids), self._lexicon.joint
        text = joint.join(filter(None, written))
        begins, at = [], 0
        for piece in written:
            begins.append(at if piece else NOWHERE)
            at += len(piece) + len(joint) if piece else 0
        words, owners = group(text, begins)
        return text, Words(words, tuple(owners))

    def known_places(self, text: str) -> set[int]:
        """Return the places of the text's characters that the edits keep, in pieces that are not unknown."""
        edited, origins = self._edits.trace(well_formed(text))
        known = (
            origins[begin : begin + len(piece)]
            for begin, piece in self._cut(edited)
            if self._id(piece) not in (None, self._fallback)
        )
        return set(itertools.chain.from_iterable(known)) - {NOWHERE}

    def _id(self, piece: str) -> int | None:
        """Return a piece's id; None where it is dropped."""
        number = self._lexicon.ids.get(piece, self._fallback)
        if number is None and self._lexicon.unknown == "reject":
            raise UnknownCategory(f"the model's vocabulary has no {piece[:60]!r}")
        return number

    def _written(self, ids: Sequence[int]) -> list[str]:
        """Return what each id is written as, nothing for the silent ones."""
        entries, silent = self._lexicon.entries, self._lexicon.silent
        check_ids([i for i in ids if i not in silent], self.size)
        return ["" if i in silent else entries.get(i, self._lexicon.gap) for i in ids]
