"""Requests and answers in their one JSON form: REST bodies, golden examples, and what both doors build.

Bodies are pydantic, strict about types; ranges are the codecs' to check, so that both doors check alike.
Answers are plain dataclasses; `answer_as_json` is the only way they become JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, PlainSerializer, TypeAdapter

from seqserve.service.errors import Path, json_pointer


class Body(BaseModel):
    """A request body: unknown members and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sampling(Body):
    """Draw each piece at random instead of taking the best; not with beams."""

    temperature: float = Field(1.0, description="above 0; below 1 sharpens, above 1 flattens")
    top_k: int = Field(0, description="draw from the k best pieces only; 0: from all")
    seed: int = Field(0, description="the same seed gives the same draw")


class TranslateBody(Body):
    """What to translate, and how."""

    texts: Annotated[list[str], FailFast()] = Field(
        description="one translation comes back for each, in order"
    )
    beam_size: int = Field(1, description="hypotheses kept while decoding; 1 is greedy")
    n_best: int = Field(1, description="hypotheses returned, at most beam_size")
    length_penalty: float = Field(
        1.0, description="score = sum of log p / pieces^length_penalty; 0: no penalty"
    )
    max_length: int | None = Field(
        None, description="longest output in pieces; the model's default if absent"
    )
    sampling: Sampling | None = Field(None, description="sample instead of searching")
    alignment: bool = Field(False, description="return which source word each target word attends to")
    tokens: bool = Field(False, description="return the words of source and target")


class PredictBody(Body):
    """Sequences to predict from: each a map of feature name to values, one a step."""

    sequences: Annotated[list[dict[str, Any]], FailFast()] = Field(
        description='by feature: labels, numbers, rows of them, {"timestamps": [RFC 3339, ...]}, or one value'
    )
    top_k: int = Field(1, description="how many labels `top` lists, best first")
    heads: list[str] | None = Field(None, description="which heads to answer; all if absent; at most 1000")
    seed: int | None = Field(None, description="for models that draw at random; theirs if absent")


class AppendBody(Body):
    """Events for a session: those that follow the ones it has, or again those that it may have."""

    first_event: int = Field(description="the number of the first of them, counted from 0")
    sequence: dict[str, Any] = Field(description="the events: by feature, as a sequence of PredictBody")
    top_k: int = Field(1, description="how many labels `top` lists, best first")
    heads: list[str] | None = Field(None, description="which heads to answer; all if absent; at most 1000")


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one item; each task has a class of its own."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A further hypothesis, worse than the one returned."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Translation(Item):
    """One translated text. `alignment[i][j]`: how much target word i attends to source word j."""

    text: str
    score: float | None = None  # none where the graph gives none
    warnings: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] | None = None
    source_tokens: tuple[str, ...] | None = None
    target_tokens: tuple[str, ...] | None = None
    alignment: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label and its probability."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """The most probable label, and the `top` ones, best first."""

    label: str
    probability: float
    top: tuple[Labelled, ...]


@dataclass(frozen=True, slots=True)
class LabelsAnswer:
    """The labels whose probability reaches its threshold, and `all` of them, each most probable first."""

    labels: tuple[Labelled, ...]
    all: tuple[Labelled, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """The value lies between low and high with probability `level`."""

    level: float
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class ValueAnswer:
    """A value (or one a column) in `unit`."""

    value: Any
    unit: str
    intervals: tuple[Interval, ...] = ()
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StepsAnswer:
    """One answer for each real step, or for each of the text's `words`."""

    steps: tuple[ClassAnswer | LabelsAnswer | ValueAnswer, ...]
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class HorizonAnswer:
    """Values ahead, one row a step of the horizon, one entry a column."""

    values: tuple[tuple[float, ...], ...]
    columns: tuple[str, ...]
    unit: str
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """Text that the model wrote."""

    text: str


HeadAnswer = ClassAnswer | LabelsAnswer | ValueAnswer | StepsAnswer | HorizonAnswer | TextAnswer


@dataclass(frozen=True, slots=True)
class WarningDetail:
    """Where a warning comes from: a step of a feature, and the value there in the feature's own unit.

    A feature with one value a sequence has no step.
    """

    warning: str
    feature: str
    step: int | None
    value: str


@dataclass(frozen=True, slots=True)
class Prediction(Item):
    """One predicted sequence: an answer for each head."""

    heads: dict[str, HeadAnswer]
    warnings: tuple[str, ...] = ()
    warning_details: tuple[WarningDetail, ...] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item failed: google.rpc code name, stable reason, message, and where in the request."""

    code: str
    reason: str
    message: str
    pointer: Annotated[Path, PlainSerializer(json_pointer, return_type=str)]


@dataclass(frozen=True, slots=True)
class FailedItem(Item):
    """Stands in the place of an item that failed, among others that did not."""

    error: Fault


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def answer_as_json(item: Item) -> dict[str, Any]:
    """Return an answer as a JSON-ready dict, absent members left out."""
    kind: Any = type(item)
    plain: dict[str, Any] = _adapter(kind).dump_python(item, mode="json", exclude_none=True)
    return plain


def answers_as_json(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return answers as JSON-ready dicts."""
    return [answer_as_json(item) for item in items]
