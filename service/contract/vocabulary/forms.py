"""Unicode normalization in the edits of a text, with the origin of every character."""

import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from seqserve.service.contract.vocabulary.edits import NOWHERE, Traced

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


class _Placed(NamedTuple):
    """A character, its place, and its canonical combining class (0: a starter)."""

    character: str
    place: int
    combining: int


@dataclass(frozen=True, slots=True)
class Normalized:
    """A Unicode normalization form: UAX #15, https://www.unicode.org/reports/tr15/."""

    form: Form

    def apply(self, text: str) -> str:
        """Return the text in the form."""
        return unicodedata.normalize(self.form, text)

    def trace(self, text: str) -> Traced:
        """Return the same; what was composed has the place of its first part."""
        if text.isascii():
            return Traced(text, range(len(text)))
        placed = _decomposed(text, "NFKD" if "K" in self.form else "NFD")
        if self.form.endswith("C"):
            placed = _composed(placed)
        return Traced("".join(one.character for one in placed), [one.place for one in placed])


def _decomposed(text: str, form: Form) -> list[_Placed]:
    """Return every character taken apart, and marks in canonical order: Unicode standard, 3.11, D108."""
    parts = [
        _Placed(part, place, unicodedata.combining(part))
        for place, character in enumerate(text)
        for part in unicodedata.normalize(form, character)
    ]
    runs = itertools.groupby(parts, lambda one: one.combining > 0)
    return [one for _, run in runs for one in sorted(run, key=lambda one: one.combining)]


def _composed(decomposed: Sequence[_Placed]) -> list[_Placed]:
    """Return characters joined where a primary composite exists: Unicode standard, 3.11, D117."""
    out: list[_Placed] = []
    starter = NOWHERE
    for one in decomposed:
        is_free = starter >= 0 and (starter == len(out) - 1 or 0 < out[-1].combining < one.combining)
        if is_free and not one.character.isascii():  # nothing composes with a following ASCII character
            joined = unicodedata.normalize("NFC", out[starter].character + one.character)
            if len(joined) == 1:
                out[starter] = _Placed(joined, out[starter].place, 0)
                continue
        if one.combining == 0:
            starter = len(out)
        out.append(one)
    return out
