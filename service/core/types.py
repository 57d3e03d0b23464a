"""The words that the rooms of core share: what is asked, how items are planned, what is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from seqserve.service.contract.items import Item, PredictBody, TranslateBody
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.padding import Array, Row
from seqserve.service.errors import SeqserveError

Outputs = Mapping[str, Array]
"""One row's outputs, without the batch axis."""
BatchOptions = tuple[tuple[str, float], ...]
"""Values of the option inputs that a whole batch shares, by input name, sorted."""
Body = TranslateBody | PredictBody
Outcome = Item | SeqserveError


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that a caller names; at most one of version and label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a transport knows of a request: which door, and until when it is worth answering."""

    transport: str
    deadline: float  # absolute, on the event loop's clock


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item as a row, with what its codec needs again to decode the answer."""

    row: Row
    source: Any = None
    warnings: tuple[str, ...] = ()


class Plan(Protocol):
    """A request whose options are valid: how each of its items becomes a row and an answer."""

    @property
    def signature(self) -> str:
        """The signature that answers."""

    @property
    def batch_options(self) -> BatchOptions:
        """Option inputs that all rows of a batch must agree on."""

    @property
    def items(self) -> Sequence[Any]:
        """What the caller sent, in order."""

    def encode(self, item: Any) -> Encoded:
        """Return the item's row; raises InvalidArgument with a path inside the item."""

    def decode(self, encoded: Encoded, outputs: Outputs) -> Item:
        """Return the answer; raises BackendFailed where the outputs are not what the manifest says."""


class Codec(Protocol):
    """What turns text or events into rows and scores into answers, for one model version."""

    def plan(self, body: Any) -> Plan:
        """Check the request's options; raises InvalidArgument with a path inside the body."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Served:
    """A model version that can be called."""

    model: str
    version: int
    digest: str
    manifest: Manifest
    codec: Codec

    @property
    def exported_name(self) -> str | None:
        """The name in the manifest, where it is not the model's: a copy that lies under another name."""
        return self.manifest.name if self.manifest.name != self.model else None


@dataclass(frozen=True, slots=True)
class Answered:
    """A request's answer: who answered, and each item's answer or fault, in order."""

    model: str
    version: int
    digest: str
    items: tuple[Item, ...]
