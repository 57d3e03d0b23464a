"""What comes back, frozen. The messages (seqserve/v1/*.proto) describe each member."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from seqserve.client.errors import ServiceError


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The version that answered; `digest` is the SHA-256 of its manifest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """A further hypothesis, worse than the one returned."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Translation:
    """One translated text. `alignment[i][j]`: how much target word i attends to source word j.

    `score` is Σ log p / pieces^length_penalty; None where the model gives none.
    """

    text: str
    score: float | None = None
    warnings: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    source_tokens: tuple[str, ...] = ()
    target_tokens: tuple[str, ...] = ()
    alignment: tuple[tuple[float, ...], ...] = ()


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
    """The value lies between low and high, each in the value's shape, with probability `level`."""

    level: float
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class ValueAnswer:
    """A value in `unit`: a number, or a tuple of one for each of `columns`."""

    value: Any
    unit: str = ""
    intervals: tuple[Interval, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepsAnswer:
    """One answer for each step, or for each of the text's `words`."""

    steps: tuple[ClassAnswer | LabelsAnswer | ValueAnswer, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HorizonAnswer:
    """Values ahead: a row for each step of the horizon, in it a number for each column."""

    values: tuple[tuple[float, ...], ...]
    columns: tuple[str, ...] = ()
    unit: str = ""
    intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """Text that the model wrote."""

    text: str


HeadAnswer = ClassAnswer | LabelsAnswer | ValueAnswer | StepsAnswer | HorizonAnswer | TextAnswer


@dataclass(frozen=True, slots=True)
class WarningDetail:
    """Where a warning comes from: a step of a feature (None: its one value), and the value there."""

    warning: str
    feature: str
    step: int | None
    value: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted from one sequence: an answer for each head."""

    heads: dict[str, HeadAnswer]
    warnings: tuple[str, ...] = ()
    warning_details: tuple[WarningDetail, ...] = ()


Item = TypeVar("Item", Translation, Prediction)


@dataclass(frozen=True, slots=True)
class Answers(Generic[Item]):
    """One item for each that was sent, in the order sent; in place of one that failed, why."""

    model: ModelVersion
    items: tuple[Item | ServiceError, ...]


Translations = Answers[Translation]
Predictions = Answers[Prediction]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """How a version stands: `LOADING`, `ROUTABLE` (can be called) or `REFUSED` (for `reason`, `message`)."""

    version: int
    standing: str
    digest: str | None = None
    reason: str | None = None
    message: str | None = None
    exported_name: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureDescription:
    """One named input of a model."""

    kind: str
    labels: tuple[str, ...] = ()
    width: int | None = None
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    unit: str | None = None
    origin: str | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True)
class HeadDescription:
    """One named answer of a model."""

    kind: str
    per: str
    labels: tuple[str, ...] = ()
    unit: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its versions, newest first, and what the `current` one takes and answers.

    `task` and `current` are None where no version can be called; `limits` are the longest inputs, by name.
    """

    name: str
    task: str | None
    current: int | None
    versions: tuple[VersionStatus, ...]
    features: dict[str, FeatureDescription]
    heads: dict[str, HeadDescription]
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session: what names it, the version that goes on with it, the next event's number, its end."""

    id: str
    model: ModelVersion
    next_event: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """A session after an append, and what is predicted after the last event that was sent."""

    session: SessionState
    prediction: Prediction
