"""A vocabulary's file in `assets/`: JSON, strict, bounded; a fault names its field. See `docs/manifest.md`.

Beside the files of this project, `Tokenizer.to_json()` of Keras 2 and a bare word index are read as they are.
"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from seqserve.service.contract.manifest_file import name_faults
from seqserve.service.contract.part import Part
from seqserve.service.contract.vocabulary.edits import (
    PUNCTUATION,
    Edit,
    Exchanged,
    Letters,
    Lowered,
    Stripped,
    Surrounded,
)
from seqserve.service.contract.vocabulary.forms import Form, Normalized
from seqserve.service.contract.vocabulary.patterns import Replaced
from seqserve.service.errors import ManifestInvalid

MOST_ENTRIES = 1_000_000
MOST_STEPS = 32
LONGEST_STRING = 1000
"""Characters of an entry, a pattern, a prefix or a suffix."""
LONGEST_REPLACEMENT = 100

Text = Annotated[str, Field(max_length=LONGEST_STRING)]
Id = Annotated[int, Field(ge=0, lt=2**31)]


# --- steps: what is done to a text before anything else -------------------------------------------


class UnicodeStep(Part):
    """The text in a Unicode normalization form."""

    step: Literal["unicode"]
    form: Form

    def edit(self) -> Edit:
        """Return what the step does."""
        return Normalized(self.form)


class LowerStep(Part):
    """Lower case: `ascii`, A to Z alone, as `tf.strings.lower(x)`; `all`, as `str.lower`."""

    step: Literal["lower"]
    letters: Letters

    def edit(self) -> Edit:
        """Return what the step does."""
        return Lowered(self.letters)


class ReplaceStep(Part):
    """Every match of an RE2 pattern rewritten, as by `tf.strings.regex_replace`."""

    step: Literal["replace"]
    pattern: Text
    replacement: Annotated[str, Field(max_length=LONGEST_REPLACEMENT)]

    def edit(self) -> Edit:
        """Return what the step does."""
        return Replaced(self.pattern, self.replacement)

    @model_validator(mode="after")
    def _check(self) -> "ReplaceStep":
        self.edit()  # raises ValueError: RE2 knows no such pattern or replacement
        return self


class StripStep(Part):
    """No white space at the ends: `ascii`, as `tf.strings.strip`; `all`, as `str.strip`."""

    step: Literal["strip"]
    spaces: Letters

    def edit(self) -> Edit:
        """Return what the step does."""
        return Stripped(self.spaces)


class PrefixStep(Part):
    """A text put before, `[START] `."""

    step: Literal["prefix"]
    text: Text

    def edit(self) -> Edit:
        """Return what the step does."""
        return Surrounded(before=self.text)


class SuffixStep(Part):
    """A text put after, ` [END]`."""

    step: Literal["suffix"]
    text: Text

    def edit(self) -> Edit:
        """Return what the step does."""
        return Surrounded(after=self.text)


Step = Annotated[
    UnicodeStep | LowerStep | ReplaceStep | StripStep | PrefixStep | SuffixStep, Field(discriminator="step")
]
Steps = Annotated[tuple[Step, ...], Field(max_length=MOST_STEPS)]


# --- kinds ----------------------------------------------------------------------------------------


def _distinct(entries: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for place, entry in enumerate(entries):
        if entry and entry in seen:
            raise ValueError(f"entry {place}, {entry[:60]!r}, is there twice")
        seen.add(entry)
    return entries


class TextVectorizationFile(Part):
    """Keras' `TextVectorization` with `output_mode="int"`: its `get_vocabulary()`, split and standardization.

    A standardization of one's own is `steps`, with `standardize` null.
    """

    kind: Literal["text_vectorization"]
    vocabulary: Annotated[
        tuple[Text, ...], Field(min_length=1, max_length=MOST_ENTRIES), AfterValidator(_distinct)
    ]
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"] | None
    split: Literal["whitespace", "character"] | None
    steps: Steps = ()

    def edits(self) -> list[Edit]:
        """Return what is done to a text before it is split."""
        standardize, edits = self.standardize or "", [step.edit() for step in self.steps]
        if standardize.startswith("lower"):
            edits.append(Lowered("ascii"))
        if standardize.endswith("strip_punctuation"):
            edits.append(Exchanged(PUNCTUATION))
        return edits


def _distinct_ids(index: dict[str, int]) -> dict[str, int]:
    words: dict[int, str] = {}
    for word, number in index.items():
        if number in words:
            raise ValueError(f"{words[number][:60]!r} and {word[:60]!r} have the same id, {number}")
        words[number] = word
    return index


class WordIndexFile(Part):
    """Keras 2's `Tokenizer`: its word index and what it does to a text. What is absent is not done."""

    kind: Literal["word_index"]
    word_index: Annotated[
        dict[Text, Id], Field(min_length=1, max_length=MOST_ENTRIES), AfterValidator(_distinct_ids)
    ]
    num_words: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    filters: Text = ""  # characters that are read as `split`
    lower: bool = False
    split: Annotated[Text, Field(min_length=1)] = " "
    char_level: bool = False
    oov_token: Text | None = None  # without it, unknown words are dropped
    steps: Steps = ()

    @model_validator(mode="after")
    def _check(self) -> "WordIndexFile":
        if self.oov_token is not None and self.oov_token not in self.word_index:
            raise ValueError(f"oov_token: {self.oov_token[:60]!r} is not in word_index")
        return self

    def edits(self) -> list[Edit]:
        """Return what is done to a text before it is split."""
        edits = [step.edit() for step in self.steps]
        if self.lower:
            edits.append(Lowered("all"))
        if self.filters and not self.char_level:
            edits.append(Exchanged(self.filters, self.split))
        return edits


def _single(characters: tuple[str, ...]) -> tuple[str, ...]:
    for place, character in enumerate(characters):
        if len(character) > 1:
            raise ValueError(f"entry {place}, {character[:60]!r}, is not one character")
    return characters


class CharactersFile(Part):
    """Characters in id order; an empty string is an id that stands for none, such as a pad of its own."""

    kind: Literal["characters"]
    characters: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=MOST_ENTRIES),
        AfterValidator(_single),
        AfterValidator(_distinct),
    ]
    unknown: Literal["reject", "drop", "map"]
    steps: Steps = ()

    def edits(self) -> list[Edit]:
        """Return what is done to a text before it is split."""
        return [step.edit() for step in self.steps]


VocabularyFile = TextVectorizationFile | WordIndexFile | CharactersFile
_ADAPTER: TypeAdapter[VocabularyFile] = TypeAdapter(Annotated[VocabularyFile, Field(discriminator="kind")])


def read_file(data: bytes, name: str) -> VocabularyFile:
    """Read a vocabulary's JSON: a file of a kind, a Keras `Tokenizer`'s, or a bare word index.

    Raises:
        ManifestInvalid: not JSON, or no vocabulary; the message names the file and each field at fault.
    """
    try:
        plain = orjson.loads(data)
        if isinstance(plain, dict) and not isinstance(plain.get("kind"), str):
            data = orjson.dumps(_with_kind(plain))
        return _ADAPTER.validate_json(data)
    except orjson.JSONDecodeError as error:
        raise ManifestInvalid(f"{name}: not JSON: {error}") from error
    except ValidationError as error:
        raise ManifestInvalid(f"{name}: {name_faults(error, 'vocabulary')}") from error


def _with_kind(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a Tokenizer's JSON, or a bare word index, as a file of kind `word_index`."""
    config = plain.get("config")
    if plain.get("class_name") != "Tokenizer" or not isinstance(config, dict):
        return {"kind": "word_index", "word_index": plain}
    names = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
    index = config.get("word_index")
    index = orjson.loads(index) if isinstance(index, str) else index  # JSON within JSON
    return {
        "kind": "word_index",
        "word_index": index,
        **{name: config[name] for name in names if name in config},
    }
