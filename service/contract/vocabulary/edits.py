"""What is done to a text before it is cut into pieces, with the origin of every character of the result.

Each edit says the same twice: `apply` is the plain library call, which requests and training go by; `trace`
gives the same text and, for each of its characters, the place of the one in the caller's text that it comes
from. TensorFlow's own operations are the measure: `tf.strings.lower`, `regex_replace`, `strip`.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from seqserve.service.errors import TextTooLong

Letters = Literal["ascii", "all"]
PUNCTUATION = string.punctuation
"""What Keras' `strip_punctuation` deletes."""
ASCII_SPACES = " \t\n\v\f\r"
"""What TensorFlow's strip and split take for white space."""
LONGEST_EDITED = 1_000_000
"""Characters, after any edit: patterns that match everywhere could make a text grow without end."""
NOWHERE = -1


class Traced(NamedTuple):
    """An edited text, and for each of its characters the place it comes from: -1 where it was added."""

    text: str
    origins: Sequence[int]


class Edit(Protocol):
    """A step from text to text. Texts are well formed: no lone surrogates."""

    def apply(self, text: str) -> str:
        """Return the edited text."""

    def trace(self, text: str) -> Traced:
        """Return the same, with each character's place in `text`."""


@dataclass(frozen=True, slots=True)
class Edits:
    """Edits one after the other."""

    steps: tuple[Edit, ...]

    def apply(self, text: str) -> str:
        """Return the text after the last edit.

        Raises:
            TextTooLong: an edit made it longer than `LONGEST_EDITED`.
        """
        for step in self.steps:
            text = step.apply(text)
            _check_length(text)
        return text

    def trace(self, text: str) -> Traced:
        """Return the same, with each character's place in the text before the first edit."""
        origins: Sequence[int] = range(len(text))
        for step in self.steps:
            text, places = step.trace(text)
            _check_length(text)
            origins = [origins[place] if place != NOWHERE else NOWHERE for place in places]
        return Traced(text, origins)


def _check_length(text: str) -> None:
    if len(text) > LONGEST_EDITED:
        raise TextTooLong(f"standardized, the text has {len(text)} characters, more than {LONGEST_EDITED}")


@dataclass(frozen=True, slots=True)
class Lowered:
    """Lower case: of A to Z alone, as `tf.strings.lower` has it by default, or of all letters."""

    letters: Letters

    def apply(self, text: str) -> str:
        """Return the text in lower case."""
        return text.lower() if self.letters == "all" else text.encode().lower().decode()

    def trace(self, text: str) -> Traced:
        """Return the same, with places: one letter may become several, as İ does."""
        lowered = self.apply(text)
        if len(lowered) == len(text):
            return Traced(lowered, range(len(text)))
        # what a letter becomes may depend on the letters beside it (Σ), how many it becomes does not
        return Traced(lowered, [at for at, letter in enumerate(text) for _ in letter.lower()])


class Exchanged:
    """Each of some characters replaced by one string, as `str.translate` does."""

    def __init__(self, characters: str, replacement: str = "") -> None:
        self._table = dict.fromkeys(map(ord, characters), replacement)

    def apply(self, text: str) -> str:
        """Return the text with the characters replaced."""
        return text.translate(self._table)

    def trace(self, text: str) -> Traced:
        """Return the same; a replacement comes from what it replaced."""
        kept = [self._table.get(ord(character), character) for character in text]
        return Traced("".join(kept), [at for at, new in enumerate(kept) for _ in new])


@dataclass(frozen=True, slots=True)
class Stripped:
    """White space taken off both ends: ASCII's, as `tf.strings.strip` has it, or all that `str.strip` has."""

    spaces: Letters

    def apply(self, text: str) -> str:
        """Return the text without white space at its ends."""
        return text.strip(self._spaces)

    def trace(self, text: str) -> Traced:
        """Return the same, with places."""
        stripped = text.strip(self._spaces)
        begin = len(text) - len(text.lstrip(self._spaces)) if stripped else 0
        return Traced(stripped, range(begin, begin + len(stripped)))

    @property
    def _spaces(self) -> str | None:
        return None if self.spaces == "all" else ASCII_SPACES


@dataclass(frozen=True, slots=True)
class Surrounded:
    """A text put before and one put after: they come from nowhere."""

    before: str = ""
    after: str = ""

    def apply(self, text: str) -> str:
        """Return the text between the two."""
        return f"{self.before}{text}{self.after}"

    def trace(self, text: str) -> Traced:
        """Return the same, with places."""
        added = [[NOWHERE] * len(side) for side in (self.before, self.after)]
        return Traced(self.apply(text), [*added[0], *range(len(text)), *added[1]])
