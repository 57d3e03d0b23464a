"""The contract file of a model that was not trained here: what its inputs and outputs mean, in TOML.

Features and heads are the manifest's own, each with the Keras input or output that it belongs to. What the
model itself shows (time axis, padding value, mask) may be left out.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from seqserve.models.bring.words import STRICT, TextWords
from seqserve.models.config import FeatureName, Name, Section, Width
from seqserve.service.contract.manifest import (
    Categories,
    Elapsed,
    Feature,
    Head,
    Numbers,
    Numeric,
    Sigmoid,
    Softmax,
    Tokens,
    has_steps,
)
from seqserve.service.contract.part import Part
from seqserve.service.contract.texts import Text, TextHead

Table = dict[str, Any]
WIDEST = LONGEST = 65_536
"""The most columns of a feature, and the most steps that an open time axis is padded to."""


def decimal(table: Any) -> Any:
    """Read labels that are whole numbers as their decimal strings, as a caller's labels are read."""
    labels = table.get("labels") if isinstance(table, dict) else None
    if not isinstance(labels, list | tuple):
        return table
    return {**table, "labels": [str(label) if type(label) is int else label for label in labels]}


class ContractFeature(BaseModel):
    """What a feature of the file says beyond the manifest's: the Keras input, and what fills its padding."""

    model_config = STRICT
    part: ClassVar[type[Part]]

    input: str | None = None
    pad_value: int | float | None = None

    _decimal = model_validator(mode="before")(decimal)


class ContractCategories(ContractFeature, Categories):
    """Labels, one a step. `spare_ids`: ids of the model that training never used."""

    model_config = STRICT
    part = Categories

    spare_ids: Annotated[int, Field(ge=0)] = 0


class ContractNumbers(ContractFeature, Numbers):
    """Numbers; without mean and scale they are taken unscaled."""

    model_config = STRICT
    part = Numbers

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, table: Table) -> Table:
        lists = (table[key] for key in ("columns", "mean", "scale") if isinstance(table.get(key), list))
        width = table.get("width", next(map(len, lists), 1))
        count = width if isinstance(width, int) else 1
        if count > WIDEST:
            raise ValueError(f"width: at most {WIDEST}, not {count}")
        return {"width": width, "mean": [0.0] * count, "scale": [1.0] * count, **table}


class ContractElapsed(ContractFeature, Elapsed):
    """Time between events."""

    model_config = STRICT
    part = Elapsed


class ContractText(ContractFeature, Text):
    """Text that goes to the model as it is."""

    model_config = STRICT
    part = Text


class ContractTokens(BaseModel):
    """Text, cut into pieces by a vocabulary; what fills its padding is the vocabulary's."""

    model_config = STRICT

    kind: Literal["tokens"]
    vocabulary: TextWords
    input: str | None = None

    @property
    def pad_value(self) -> None:
        """Return nothing: the vocabulary says what pads."""

    @model_validator(mode="after")
    def _check(self) -> "ContractTokens":
        if self.vocabulary.kind == "none":
            raise ValueError('vocabulary.kind: "none": strings for the graph are a feature of kind = "text"')
        return self


class ContractHead(BaseModel):
    """What a head of the file says beyond the manifest's: the Keras output, by layer name or index."""

    model_config = STRICT
    part: ClassVar[type[Part]]

    output: str | int | None = None

    _decimal = model_validator(mode="before")(decimal)


class ContractSoftmax(ContractHead, Softmax):
    """One label out of several."""

    model_config = STRICT
    part = Softmax


class ContractSigmoid(ContractHead, Sigmoid):
    """Any of several labels; a threshold is 0.5 unless given."""

    model_config = STRICT
    part = Sigmoid

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, table: Table) -> Table:
        labels = table.get("labels")
        return {"thresholds": [0.5] * (len(labels) if isinstance(labels, list) else 0), **table}

    @model_validator(mode="after")
    def _check_thresholds(self) -> "ContractSigmoid":
        for value in self.thresholds:
            if not 0 <= value <= 1:
                raise ValueError(f"thresholds: {value:g} is not a probability, 0 to 1")
        return self


class ContractNumeric(ContractHead, Numeric):
    """A value in a unit; without mean and scale it is the plain output."""

    model_config = STRICT
    part = Numeric

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, table: Table) -> Table:
        columns = table.get("columns")
        count = max(1, len(columns)) if isinstance(columns, list) else 1
        return {"mean": [0.0] * count, "scale": [1.0] * count, **table}


class ContractTextHead(ContractHead, TextHead):
    """Text that the model writes."""

    model_config = STRICT
    part = TextHead


AnyFeature = Annotated[
    ContractCategories | ContractNumbers | ContractElapsed | ContractText | ContractTokens,
    Field(discriminator="kind"),
]
AnyHead = Annotated[
    ContractSoftmax | ContractSigmoid | ContractNumeric | ContractTextHead, Field(discriminator="kind")
]
_FEATURE: TypeAdapter[Feature] = TypeAdapter(Feature)
_HEAD: TypeAdapter[Head] = TypeAdapter(Head)


class Longest(Section):
    """What a caller may send: steps and pieces to the longest bucket if absent, 2000 characters of a text."""

    sequence_steps: Width | None = None
    sequence_least: Width | None = None  # the fixed time axis if absent, unless the model masks; else 1
    text_characters: Width | None = None
    text_pieces: Width | None = None


class Contract(Section):
    """The whole file."""

    name: Name
    task: Literal["sequence"] = "sequence"
    features: Annotated[dict[FeatureName, AnyFeature], Field(min_length=1)]
    heads: Annotated[dict[FeatureName, AnyHead], Field(min_length=1)]
    signature: str | None = None  # of a SavedModel; serving_default, or the only one, if absent
    mask_from: str | tuple[str, ...] | None = None  # the features whose pad values it masks; or by trial
    mask_input: str | None = None  # the Keras input that takes the mask (batch, time) or the lengths (batch)
    padding: Literal["right", "left"] | None = None  # right; must be given where the time axis is fixed
    buckets: tuple[Width, ...] | None = None
    limits: Longest = Longest()
    examples: Annotated[tuple[dict[str, Any], ...], Field(max_length=5)] = ()
    expected: tuple[dict[str, Any] | None, ...] = ()  # of each example, by head; in the file, within it
    card: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _split(cls, table: Table) -> Table:
        """Take the expected answers out of the examples, which are sequences as callers send them."""
        if "expected" in table:
            raise ValueError("expected: it belongs into [[examples]], beside the features")
        examples = table.get("examples")
        if not isinstance(examples, list) or "expected" in (table.get("features") or ()):
            return table
        pairs = [split_example(example) for example in examples]
        return {**table, "examples": [one for one, _ in pairs], "expected": [answer for _, answer in pairs]}

    @model_validator(mode="after")
    def _check(self) -> "Contract":
        if self.buckets is not None and (not self.buckets or list(self.buckets) != sorted(set(self.buckets))):
            raise ValueError("buckets: ascending, at least one")
        if self.buckets is not None and self.buckets[-1] > LONGEST:
            raise ValueError(f"buckets: at most {LONGEST} steps, not {self.buckets[-1]}: each is tried")
        if self.mask_from is not None and self.mask_input is not None:
            raise ValueError("mask_from and mask_input: a mask is derived or given, not both")
        for name in self.masks:
            if name not in self.features:
                raise ValueError(f"mask_from: {name!r} is not a feature of the file")
            if name not in self.stepped:
                raise ValueError(f"mask_from: features.{name} has no steps")
        texts = [n for n, entry in self.features.items() if isinstance(entry, ContractText | ContractTokens)]
        if texts and not self.examples:
            raise ValueError(f"examples: features.{texts[0]} is text, of which none can be drawn; give some")
        return self

    @property
    def masks(self) -> tuple[str, ...]:
        """The features that are said to be masked by."""
        return (self.mask_from,) if isinstance(self.mask_from, str) else self.mask_from or ()

    @property
    def stepped(self) -> tuple[str, ...]:
        """The features that have a value a step."""
        return tuple(name for name, feature in self.features.items() if has_steps(feature))

    def manifest_features(self, tokens: Mapping[str, Tokens]) -> dict[str, Feature]:
        """Return the features as the manifest has them; `tokens`: those whose vocabularies were read."""
        own = {n: entry for n, entry in self.features.items() if not isinstance(entry, ContractTokens)}
        plain = {name: _FEATURE.validate_python(_plain(entry)) for name, entry in own.items()}
        return {name: tokens[name] if name in tokens else plain[name] for name in self.features}

    def manifest_heads(self) -> dict[str, Head]:
        """Return the heads as the manifest has them."""
        return {name: _HEAD.validate_python(_plain(entry)) for name, entry in self.heads.items()}


def split_example(example: Any) -> tuple[Any, Any]:
    """Return a sequence, and the answers that are expected for it or None."""
    if not isinstance(example, dict):
        return example, None
    return {name: value for name, value in example.items() if name != "expected"}, example.get("expected")


def _plain(entry: ContractFeature | ContractHead) -> Part:
    """Return the manifest's part of an entry: without what only the file has."""
    return entry.part.model_validate(entry.model_dump(include=set(entry.part.model_fields)))
