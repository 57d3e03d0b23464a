"""The vocabulary of a model that was not trained here, as its contract file has it: its kind and its file.

Files are named relative to what is exported: MODEL's folder, or the one that MODEL lies in.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from seqserve.models.config import Width
from seqserve.service.contract.vocabulary.file import Steps

STRICT = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)  # TOML has no tuples
Place = str | int
"""An input or output of a part: its name, or its index."""
Piece = str | int
"""A piece of a vocabulary, or its id."""


class Table(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = STRICT


class Words(Table):
    """A vocabulary: its kind and file, and what else that kind has. Fields of other kinds are errors."""

    kind: Literal["text_vectorization", "word_index", "characters", "sentencepiece", "none"]
    file: str | None = None
    size: Width | None = None  # ids that the model has, where the file has fewer entries
    # of text_vectorization; `steps` are a standardization of one's own
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"] | None = None
    split: str | None = None  # of word_index too
    steps: Steps = ()
    # of word_index, where the file is the bare index
    num_words: Width | None = None
    filters: str | None = None
    lower: bool | None = None
    char_level: bool | None = None
    oov_token: str | None = None
    # of characters
    unknown: Literal["reject", "drop"] = "reject"
    # of all
    pad: Piece = 0  # what fills a row; "" of characters: nothing at all, zeros where they are one-hot
    input: Place | None = None  # of a model with both inputs: which takes this text

    @model_validator(mode="after")
    def _check(self) -> "Words":
        for field in sorted(self.model_fields_set & set().union(*OF_KIND.values()) - OF_KIND[self.kind]):
            raise ValueError(f"{field}: a vocabulary of kind {self.kind!r} has none")
        if self.kind != "none" and self.file is None:
            raise ValueError(f"file: a vocabulary of kind {self.kind!r} lies in one")
        return self


TOKENIZER = ("num_words", "filters", "lower", "char_level", "oov_token")
OF_KIND: dict[str, set[str]] = {
    "text_vectorization": {"file", "size", "standardize", "split", "steps"},
    "word_index": {
        "file",
        "size",
        "steps",
        "num_words",
        "filters",
        "lower",
        "split",
        "char_level",
        "oov_token",
    },
    "characters": {"file", "size", "steps", "unknown"},
    "sentencepiece": {"file"},
    "none": set(),
}
"""The fields that only some kinds of vocabulary have."""


class TextWords(Words):
    """The vocabulary of a text that goes in, and what opens and closes each row."""

    add_start: bool = False  # of sentencepiece: the start id opens a row, the end id closes it
    add_end: bool = False
    start: Piece | None = None
    end: Piece | None = None


def beside(model: Path, file: str) -> Path:
    """Return the path of a file that the contract names."""
    return (model if model.is_dir() else model.parent) / file
