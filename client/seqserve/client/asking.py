"""What is asked of a service: the same values for every door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypedDict

from seqserve.client import checking


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
    version, label = options.get("version"), options.get("label")
    return Which(
        checking.text("model", name),
        None if version is None else checking.whole("version", version),
        None if label is None else checking.text("label", label),
    )


TAKES = {Kind.TRANSLATE: Translating, Kind.PREDICT: Predicting, Kind.APPEND: Appending}
"""The options of a call; of any other those of `Calling`."""


def body(kind: Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a call's options goes into its body.

    Raises:
        TypeError: the call has no option of that name.
        ServiceError: a value is none of its option's.
    """
    known = TAKES.get(kind, Calling).__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"no option {name!r}; there are {', '.join(known)}")
    return checking.options({name: one for name, one in options.items() if name in checking.OPTIONS})
