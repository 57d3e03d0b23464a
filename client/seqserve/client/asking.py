"""What is asked of a service: the same values for every door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict


class Kind(Enum):
    """What can be asked."""

    TRANSLATE = "translate"
    PREDICT = "predict"
    LIST_MODELS = "models"
    GET_MODEL = "model"
    CREATE_SESSION = "create"
    APPEND = "append"
    GET_SESSION = "session"
    DELETE_SESSION = "delete"


MEMBERS = {Kind.TRANSLATE: "texts", Kind.PREDICT: "sequences"}
"""Which member of a body is the list that is answered item by item."""
ONCE = frozenset({Kind.CREATE_SESSION, Kind.DELETE_SESSION})
"""What is not asked again once it may have been done. An append may be: its number tells the service."""


@dataclass(frozen=True, slots=True)
class Which:
    """The model that is to answer: its newest version, one by number, or one by label."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError("a version and a label: one says which version, not both")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `body` in the form of the REST door, absent options left out."""

    kind: Kind
    which: Which = Which("")
    body: Mapping[str, Any] = field(default_factory=dict)
    session: str = ""


class Sampling(TypedDict, total=False):
    """Draws pieces at random; the same seed gives the same draw."""

    temperature: float
    top_k: int
    seed: int


class Calling(TypedDict, total=False):
    """Of every call: the version by number or by label, and seconds for all tries together."""

    version: int | None
    label: str | None
    timeout: float | None


class Translating(Calling, total=False):
    """Options of a translation; those left out have the service's defaults.

    beam_size: hypotheses kept while decoding, 1 is greedy; n_best: hypotheses returned; length_penalty: of
    the score, Σ log p / pieces^length_penalty; max_length: longest output in pieces; sampling: draw, do not
    search; alignment: which source word each target word attends to; tokens: the words of both.
    """

    beam_size: int
    n_best: int
    length_penalty: float
    max_length: int
    sampling: Sampling
    alignment: bool
    tokens: bool


class Appending(TypedDict, total=False):
    """Options of an append: top_k, how many labels `top` lists; heads, which are to answer; seconds."""

    top_k: int
    heads: Sequence[str]
    timeout: float | None


class Predicting(Calling, total=False):
    """Options of a prediction.

    top_k: how many labels `top` lists, 1 if absent; heads: which are to answer, all if absent; seed: of
    models that draw at random.
    """

    top_k: int
    heads: Sequence[str]
    seed: int


def which(name: str, options: Mapping[str, Any]) -> Which:
    """Return the model that a call names."""
    return Which(name, options.get("version"), options.get("label"))


def body(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a call's options goes into its body."""
    given = {
        name: value
        for name, value in options.items()
        if name not in Calling.__annotations__ and value is not None
    }
    return {name: list(value) if name == "heads" else value for name, value in given.items()}
