"""The words that the rooms of core share: what is asked, how items are planned, what is answered."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from seqserve.service.contract.items import Body, Item
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.padding import Array, Row
from seqserve.service.errors import SeqserveError

Outputs = Mapping[str, Array]
"""One row's outputs, without the batch axis."""
BatchOptions = tuple[tuple[str, float], ...]
"""Values of the option inputs that a whole batch shares, by input name, sorted."""
Outcome = Item | SeqserveError
Placed = tuple[int, Outcome]
"""What became of an item, behind its place in the request."""
ANY = "*"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that a caller names; at most one of version and label."""

    name: str
    version: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a key's, token's or certificate's name, or an address where nobody has to say.

    Args:
        name: what limits and the access log go by.
        scopes: what it may do, as pairs of an action and a model, `*` for any; None: everything.
    """

    name: str
    scopes: frozenset[tuple[str, str]] | None = None

    def may(self, action: str, model: str) -> bool:
        """Tell whether it may do this with that model."""
        if self.scopes is None:
            return True
        ways = ((action, model), (action, ANY), (ANY, model), (ANY, ANY))
        return any(way in self.scopes for way in ways)

    def sees(self, model: str) -> bool:
        """Tell whether it may do anything at all with that model, and so be told of it."""
        return self.scopes is None or any(of in (model, ANY) for _, of in self.scopes)


NOBODY = Principal("")
"""Who calls where no edge has asked: tests, and the service itself."""


@dataclass(slots=True)
class Visit:
    """What becomes known of a call on its way: whoever knows fills in, the access log reads.

    Args:
        method: what was called, in the door's own words: a route or an RPC; never what a caller wrote.
        model: a name that the catalog has, `_other` for any other; empty: none was asked for.
        version: of the version that answered; 0: none did.
        items: how many texts or sequences were asked for.
        cells: what they cost together.
        bytes_in: of the body or the message.
        bytes_out: likewise, of the answer.
    """

    method: str = ""
    model: str = ""
    version: int = 0
    items: int = 0
    cells: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """What a door's edge knows of a call, in terms that are no transport's own.

    The edge is the only maker, and everything further in is handed the value.
    """

    transport: str
    deadline: float  # absolute, on the event loop's clock
    id: str = ""
    principal: Principal = NOBODY
    visit: Visit = field(default_factory=Visit)

    def is_late(self) -> bool:
        """Tell whether the deadline has passed."""
        return asyncio.get_running_loop().time() >= self.deadline


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's body, read but not converted: too many items are refused before they cost anything.

    Args:
        count: how many items there are.
        convert: returns the body; may raise InvalidArgument with a path inside it.
        is_whole: that one failed item fails the request: its answer has no place for an item's error.
    """

    count: int
    convert: Callable[[], Body]
    is_whole: bool = False


@dataclass(slots=True, eq=False)
class Batch:
    """What a backend answered for some rows together.

    Args:
        outputs: with their batch axis.
        lengths: each row's real steps.
        known: what its codec has read of all rows, the first time that it was asked for one.
    """

    outputs: Outputs
    lengths: Sequence[int]
    known: Any = None


class RowOutputs(Mapping[str, Array]):
    """One row's outputs, as part of its batch's."""

    __slots__ = ("batch", "row")

    def __init__(self, batch: Batch, row: int) -> None:
        self.batch = batch
        self.row = row

    def __getitem__(self, name: str) -> Array:
        array: Array = self.batch.outputs[name][self.row]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.outputs)

    def __len__(self) -> int:
        return len(self.batch.outputs)


class Encoded(NamedTuple):
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
        """Return the answer; raises BackendFailed where the outputs are not what the manifest says.

        Args:
            outputs: the row's; where they are `RowOutputs`, its batch's can be read together.
        """


class Codec(Protocol):
    """What turns text or events into rows and scores into answers, for one model version."""

    def plan(self, body: Any) -> Plan:
        """Check the request's options; raises InvalidArgument with a path inside the body."""


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of question, and everything that makes it one: a row of `service.core.tasks`.

    Args:
        name: the manifest's `task`.
        verb: what the model is asked to do: the end of the path, the `task` label of the metrics.
        body_member: the member of the body that lists the items.
        answer_member: the member of the answer that lists what became of them.
        codec: makes a version's codec from its manifest and contract files; raises ManifestInvalid where
            the manifest lacks what the task needs.
        summary: the operation in a few words, for people who read about it.
        example: a body, likewise.
    """

    name: str
    verb: str
    body_member: str
    answer_member: str
    body: type[Body]
    item: type[Item]
    codec: Callable[[Manifest, Mapping[str, bytes]], Codec]
    summary: str
    example: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Served:
    """A model version that can be called."""

    model: str
    version: int
    digest: str
    manifest: Manifest
    task: Task
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


class Order(Enum):
    """In which order the answers of a streamed request come."""

    INDEX = auto()  # that of its items
    FINISHED = auto()  # that in which they are ready


@dataclass(frozen=True, slots=True)
class Come:
    """Some of a request's answers as they come: who answers, and items or faults behind their places."""

    model: str
    version: int
    digest: str
    items: tuple[tuple[int, Item], ...]
