"""The rows that wait for a batch, and the choice of the next batch. A plain state object: no tasks.

Models share the backend's time; within a model each request has its turn,
by self-clocked fair queueing (Golestani, 1994, https://doi.org/10.1109/INFCOM.1994.337677) of rows: of
requests of one row each, whoever came first leads the next batch; of one of many, the second row waits for
the first rows of the others. The rest of the batch is whoever is of like length, as many as the model's own
cost says.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from weakref import WeakKeyDictionary

from seqserve.service import errors
from seqserve.service.contract.padding import Row, padded_length
from seqserve.service.core.cost import Cost
from seqserve.service.core.types import BatchOptions, Outputs, Served

RETRY_SECONDS = 1.0
LONGEST_RETRY = 60.0
HOPELESS = 0.5
"""Share of its time that a row may be expected to wait; past it, it is refused at once."""
MOST_COSTS = 64
"""Costs that are kept of one version: callers choose the options."""
RECENT = 10
"""Batches that the pace is estimated from."""
ENOUGH_SEEN = 3
"""Batches to be seen before anybody is refused for the waiting ahead."""
STALE = 64
"""Places of rows that left, which the heap and the list of firsts may hold beside as many as wait."""


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Rows with equal keys may share a batch. `served` is compared by identity: one version's rows."""

    served: Served
    signature: str
    options: BatchOptions

    @property
    def width(self) -> int:
        """How many hypotheses each row keeps."""
        known = self.served.manifest.options
        return next((int(value) for name, value in self.options if known[name].option == "beam_size"), 1)


def cells_of(row: Row, key: BatchKey) -> int:
    """Return what answering a row may take, in cells: its padded length, and every step of each hypothesis.

    A batch is filled by `Entry.cells`, which its inputs take; this is what a request is charged for.
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


@dataclass(slots=True, eq=False)
class Caller:
    """One request: its rows, what has come back, and its share of the queue."""

    key: BatchKey
    deadline: float  # absolute, on the event loop's clock
    turn: int = 0  # of its last row: by then, everybody who came so early has had as many
    waiting: int = 0  # rows in the queue
    gone: bool = False
    late: bool = False
    entries: list["Entry"] = field(default_factory=list)  # that the queue took
    _come: list["Entry"] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def settled(self) -> list["Entry"]:
        """Wait for rows whose outcome is known, and return those not returned before.

        Raises:
            DeadlineExceeded: the deadline came first.
        """
        await self._wake.wait()
        if self.late and not self._come:
            raise errors.DeadlineExceeded("the deadline passed before there was an answer")
        if not self.late:  # nobody would wake it again
            self._wake.clear()
        come, self._come = self._come, []
        return come

    def expire(self) -> None:
        """Wait no longer: the deadline has come."""
        self.late = True
        self._wake.set()

    def settle(self, entry: "Entry", outcome: Outputs | errors.SeqserveError) -> None:
        """Give a row its outcome; the first one counts."""
        if entry.outcome is None:
            entry.outcome = outcome
            self._come.append(entry)
            self._wake.set()


@dataclass(slots=True, eq=False)
class Entry:
    """One row waiting, or in a batch."""

    caller: Caller
    place: int  # in its request
    row: Row
    arrived: float  # on time.perf_counter: a loop's clock may tick in milliseconds
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


@dataclass(frozen=True, slots=True)
class Budget:
    """What bounds a batch (rows, and rows times padded length times beams) and each model's queue (cells)."""

    rows: int
    cells: int
    queue_cells: int


@dataclass(slots=True)
class _Line:
    """The waiting rows of one model."""

    used: float = 0.0  # seconds of the backend, as predicted when its batches left
    turn: int = 0  # of the row that led the last batch
    size: int = 0  # rows
    cells: int = 0  # theirs
    callers: int = 0  # whose rows they are
    since: float | None = None  # when the last batch ended, if others have waited ever since
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    # seconds from one such end to the next, whatever else had its turn in them, and cells
    pace: float = 0.0  # seconds a cell while others wait; 0: not known
    interval: float = 0.0  # seconds from the end of a batch to that of the next
    rows: dict[BatchKey, dict[int, dict[Entry, None]]] = field(default_factory=dict)  # by length, in order
    heap: list[tuple[int, int, Entry]] = field(default_factory=list)  # by turn, then by arrival
    firsts: deque[Entry] = field(default_factory=deque)  # of requests of which no other row waited

    def add(self, entry: Entry, number: int) -> None:
        caller = entry.caller
        caller.turn = max(self.turn, caller.turn) + 1
        if not caller.waiting:
            self.callers += 1
            self.firsts.append(entry)
        caller.waiting += 1
        self.size += 1
        self.cells += entry.cells
        heappush(self.heap, (caller.turn, number, entry))
        self.rows.setdefault(entry.key, {}).setdefault(entry.row.length, {})[entry] = None

    def remove(self, entry: Entry) -> None:
        entry.waits = False
        entry.caller.waiting -= 1
        self.callers -= not entry.caller.waiting
        self.size -= 1
        self.cells -= entry.cells
        if not self.size:
            self.since = None
        by_length = self.rows[entry.key]
        del by_length[entry.row.length][entry]
        if not by_length[entry.row.length]:
            del by_length[entry.row.length]
        if not by_length:
            del self.rows[entry.key]
        self._forget()

    def _forget(self) -> None:
        """Let go of rows that have left: of all that are first, and of the others when they are many."""
        while self.firsts and not self.firsts[0].waits:
            self.firsts.popleft()
        if len(self.heap) > 2 * self.size + STALE:
            self.heap = [place for place in self.heap if place[2].waits]
            heapify(self.heap)
        if len(self.firsts) > 2 * self.callers + STALE:
            self.firsts = deque(entry for entry in self.firsts if entry.waits)

    def lead(self) -> Entry | None:
        """Return the row whose turn it is."""
        while self.heap and not self.heap[0][2].waits:
            heappop(self.heap)
        return self.heap[0][2] if self.heap else None

    def like(self, lead: Entry) -> Iterator[Entry]:
        """Yield the rows that may share a batch with the one that leads it, the likest in length first."""
        by_length, length = self.rows[lead.key], lead.row.length
        for other in sorted(by_length, key=lambda other: (abs(other - length), other)):
            yield from by_length[other]

    def mean(self) -> float:
        """Return the cells of a row, on average; there is one."""
        return self.cells / self.size

    def observe(self, cells: int, now: float) -> None:
        """Learn from the end of a batch, if others have waited since the one before; else forget an old one.

        The longest time is left out: a stall would make waits look hopeless, and refused rows teach nothing.
        """
        if self.since is not None:
            self.seen.append((now - self.since, cells))
        elif self.seen:
            self.seen.popleft()
        self.since = now if self.size else None
        kept = sorted(self.seen)[:-1] if len(self.seen) >= ENOUGH_SEEN else []
        seconds = sum(seconds for seconds, _ in kept)
        self.pace = seconds / max(1, sum(cells for _, cells in kept))
        self.interval = seconds / max(1, len(kept))

    def wait(self, arrived: float, rows: int, cells: int) -> float:
        """Return the seconds until a new request is done if no other comes before its turns.

        That is the work ahead of its last row and its own, half a batch that is under way, and on average
        half of its last; and no less than the oldest first row of a request has waited: what is learned shows
        a sudden rush too late.

        Args:
            arrived: when it came, as `Entry` has it.
            cells: of its rows together.
        """
        ahead = min(rows * self.callers, self.size)
        oldest = arrived - self.firsts[0].arrived if self.firsts else 0.0
        return max((ahead * self.mean() + cells) * self.pace + self.interval, oldest)


class Queue:
    """Who waits, how much that is, and who goes next."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lines: dict[str, _Line] = {}  # by model
        self._costs: WeakKeyDictionary[Served, dict[tuple[str, BatchOptions], Cost]] = WeakKeyDictionary()
        self._numbers = count()
        self._used = 0.0  # of the model that had the last turn
        self.cells = 0

    def append(self, entry: Entry) -> None:
        """Take a row in, of a request that there is room for."""
        line = self._lines.setdefault(entry.key.served.model, _Line())
        if not line.size:  # who was away has not saved up turns
            line.used = max(line.used, self._used)
        line.add(entry, next(self._numbers))
        entry.caller.entries.append(entry)
        self.cells += entry.cells

    def check_room(
        self, model: str, arrived: float, left: float, rows: int = 1, cells: int | None = None
    ) -> None:
        """Refuse a new request as a whole, or tell beforehand whether one row would be refused.

        Each model has room of its own, and a request that nobody waits before is always taken.

        Args:
            arrived: when it came, as `Entry` has it.
            left: seconds to its deadline.
            cells: of its rows together; None: they are taken to be as long as those that wait.

        Raises:
            QueueFull: its cells do not fit, or it would wait for most of the time that it has.
        """
        line = self._lines.get(model)
        if line is None or not line.size:
            return
        more, limit = math.ceil(rows * line.mean()) if cells is None else cells, self._budget.queue_cells
        if line.cells + more > limit:
            message = f"{line.cells} cells wait for {model!r} and {more} more would pass the limit of {limit}"
            retry = _retry(line.cells * line.pace)
            raise errors.QueueFull(message, retry_after=retry, limit="max_queue_cells")
        wait = line.wait(arrived, rows, more)
        if 0 < HOPELESS * left < wait:
            message = f"{wait:.1f} s of waiting are ahead, and the deadline is in {left:.1f} s"
            raise errors.QueueFull(message, retry_after=_retry(wait))

    def take(self, now: float) -> list[Entry]:
        """Remove and return the next batch; empty if nobody waits any more."""
        while waiting := [line for line in self._lines.values() if line.size]:
            line = min(waiting, key=lambda line: line.used)
            lead = line.lead()
            assert lead is not None  # a line has as many rows in its heap
            if lead.is_live(now):
                return self._batch(line, lead, now)
            self._remove(line, lead)
        return []

    def leave(self, caller: Caller) -> None:
        """Remove what a caller still has waiting."""
        caller.gone = True
        line = self._lines.get(caller.key.served.model)
        for entry in caller.entries:
            if entry.waits and line is not None:
                self._remove(line, entry)

    def clear(self) -> list[Entry]:
        """Remove and return all rows."""
        left = [place[2] for line in self._lines.values() for place in line.heap if place[2].waits]
        self._lines.clear()
        self.cells = 0
        return left

    def observe(self, batch: Sequence[Entry], length: int, seconds: float, now: float) -> None:
        """Learn from a batch that was run, padded to `length`, and has ended now."""
        steps = sum(entry.row.length for entry in batch)
        self._cost(batch[0].key).observe(len(batch), length, steps, seconds)
        line = self._lines.get(batch[0].key.served.model)
        if line is not None:
            line.observe(sum(entry.cells for entry in batch), now)

    def _batch(self, line: _Line, lead: Entry, now: float) -> list[Entry]:
        cost = self._cost(lead.key)
        chosen = [lead] if lead.key.served.manifest.batching == "single" else self._fitting(line, lead, now)
        lengths = [entry.row.length for entry in chosen]
        chosen = chosen[: cost.best(lengths)]
        self._used = line.used
        line.used += cost.seconds(lengths[: len(chosen)])
        line.turn = max(line.turn, line.heap[0][0])
        for entry in chosen:
            self._remove(line, entry)
        return chosen

    def _fitting(self, line: _Line, lead: Entry, now: float) -> list[Entry]:
        chosen, longest = [lead], lead.cells
        for entry in line.like(lead):
            if len(chosen) == self._budget.rows:
                break
            needed = max(longest, entry.cells)
            # where a longer row does not fit, a shorter one may
            if needed * (len(chosen) + 1) <= self._budget.cells and entry is not lead and entry.is_live(now):
                chosen.append(entry)
                longest = needed
        return chosen

    def _remove(self, line: _Line, entry: Entry) -> None:
        line.remove(entry)
        self.cells -= entry.cells

    def _cost(self, key: BatchKey) -> Cost:
        kept = self._costs.setdefault(key.served, {})
        if (key.signature, key.options) not in kept and len(kept) == MOST_COSTS:
            del kept[next(iter(kept))]
        return kept.setdefault((key.signature, key.options), Cost())


def _retry(seconds: float) -> float:
    return min(max(seconds, RETRY_SECONDS), LONGEST_RETRY)
