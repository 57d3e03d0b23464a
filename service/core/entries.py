"""The rows that wait: what may share a batch, whose they are, and what has become of them."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from seqserve.service import errors
from seqserve.service.contract.padding import Row, padded_length
from seqserve.service.core.types import BatchOptions, Outputs, Served


class BatchKey(NamedTuple):
    """Rows with equal keys may share a batch. `served` is compared by identity: one version's rows."""

    served: Served
    signature: str
    options: BatchOptions

    @property
    def width(self) -> int:
        """How many hypotheses each row keeps."""
        if not self.options:
            return 1
        known = self.served.manifest.options
        return next((int(value) for name, value in self.options if known[name].option == "beam_size"), 1)


def cells_of(row: Row, key: BatchKey) -> int:
    """Return what answering a row may take, in cells: its padded length, and every step of each hypothesis.

    That is what a request is charged for, and what its turns go by. A batch is filled by `Entry.cells`, which
    its inputs take.
    """
    manifest = key.served.manifest
    length = padded_length(row.length, manifest)
    if manifest.decode is None:
        return length * key.width
    return length + key.width * _longest_output(row, key)


def _longest_output(row: Row, key: BatchKey) -> int:
    """Return how many steps a translation of a row may have; as many as the row, where nothing says."""
    manifest, shared = key.served.manifest, dict(key.options)
    decode, inputs = manifest.decode, manifest.signatures[key.signature].inputs
    for name, option in manifest.options.items():
        if option.option == "max_length" and name in inputs:
            return int(shared[name] if name in shared else row.inputs[name])
    assert decode is not None  # a translation has it
    return decode.default_length or decode.max_length or row.length


def late() -> errors.DeadlineExceeded:
    """Return what is told to those whose deadline came first."""
    return errors.DeadlineExceeded("the deadline passed before there was an answer")


def draining() -> errors.Draining:
    """Return what is told to those who come, or still wait, when the service ends."""
    return errors.Draining("the service is shutting down", retry_after=1.0)


@dataclass(slots=True, eq=False)
class Caller:
    """One request: its rows, and what has come back.

    Args:
        principal: whose request it is; turns are shared between principals first.
    """

    key: BatchKey
    deadline: float  # absolute, on the event loop's clock
    principal: str = ""
    turn: int = 0  # of its next row, among its principal's requests; the queue has it
    waiting: int = 0  # rows in the queue
    gone: bool = False
    late: bool = False
    entries: list["Entry"] = field(default_factory=list)  # that the queue took
    pace: "Pace | None" = None  # None: all its rows wait at once
    _next: int = 0  # no earlier entry waits
    _come: list["Entry"] = field(default_factory=list)
    _waiting: asyncio.Future[None] | None = None  # of who waits for them

    def next(self) -> "Entry":
        """Return the first row that waits; there is one."""
        while not self.entries[self._next].waits:
            self._next += 1
        return self.entries[self._next]

    async def settled(self) -> list["Entry"]:
        """Wait for rows whose outcome is known, and return those not returned before.

        Raises:
            DeadlineExceeded: the deadline came first.
        """
        if not self._come and not self.late:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if not self._come:
            raise late()
        come, self._come = self._come, []
        return come

    def expire(self) -> None:
        """Wait no longer: the deadline has come."""
        self.late = True
        self._wake()

    def settle(self, entry: "Entry", outcome: Outputs | errors.SeqserveError) -> None:
        """Give a row its outcome; the first one counts."""
        if entry.outcome is None and not self.gone:
            entry.outcome = outcome
            self._come.append(entry)
            self._wake()

    def forget(self) -> None:
        """Let go of the rows that the queue has let go."""
        self.entries = [entry for entry in self.entries if entry.waits]
        self._next = 0

    def leave(self) -> None:
        """Wait for nothing any more, and let go of the rows, which would wait for the collector otherwise."""
        self.gone = True
        self.pace = None
        self.entries.clear()
        self._come.clear()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


@dataclass(slots=True, eq=False)
class Entry:
    """One row waiting, or in a batch."""

    caller: Caller
    place: int  # in its request
    row: Row
    arrived: float  # on time.perf_counter: a loop's clock may tick in milliseconds
    cost: int  # its `cells_of`
    outcome: Outputs | errors.SeqserveError | None = None
    cells: int = field(init=False)  # what the row takes of a budget when it is padded alone
    waits: bool = True

    def __post_init__(self) -> None:
        self.cells = padded_length(self.row.length, self.key.served.manifest) * self.key.width

    @property
    def key(self) -> BatchKey:
        """What the row may share a batch with."""
        return self.caller.key

    def is_live(self, now: float) -> bool:
        """Tell whether someone still waits for the answer, and in time."""
        return self.outcome is None and not self.caller.gone and self.caller.deadline > now


@dataclass(slots=True, eq=False)
class Pace:
    """Rows of one request that begin as the answers of those before are taken: few answers wait for a reader.

    Args:
        rows, cells: the most that may have begun whose answers are not taken; one row always may.
    """

    rows: int
    cells: int
    later: deque[Entry]  # have not begun
    _out: dict[int, int] = field(default_factory=dict)  # cells of those that have, by place
    _cells: int = 0  # theirs

    def take(self, places: Iterable[int]) -> None:
        """Hear whose answers have been taken."""
        for place in places:
            self._cells -= self._out.pop(place, 0)

    def begin(self, now: float) -> list[Entry]:
        """Return the rows that begin now."""
        begun: list[Entry] = []
        while self.later and self._has_room(self.later[0].cells):
            entry = self.later.popleft()
            entry.arrived = now
            self._out[entry.place] = entry.cells
            self._cells += entry.cells
            begun.append(entry)
        return begun

    def _has_room(self, cells: int) -> bool:
        if not self._out:
            return True
        return len(self._out) < self.rows and self._cells + cells <= self.cells
