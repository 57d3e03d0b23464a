"""The rows that wait for a batch, and whose turn it is. A plain state object: no tasks.

Models share the backend's time. Within a model turns are by fair queueing with a clock of its own
(Golestani, 1994, https://doi.org/10.1109/INFCOM.1994.337677), at two levels: of cells between principals, and
within one of rows between its requests. So a thousand requests of one principal count like one request of a
thousand, and neither holds up another's single row.

The row whose turn it is leads the batch. Then come those whose turn it nearly is, the likest in length first,
and then any others, likewise. How many of them leave together is the cost's to say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from weakref import WeakKeyDictionary

from seqserve.service.core.cost import Cost
from seqserve.service.core.entries import BatchKey, Caller, Entry
from seqserve.service.core.types import BatchOptions, Served

MOST_COSTS = 64
"""Costs that are kept of one version: callers choose the options."""
MOST_SECONDS = 0.1
"""What a batch may be expected to take with rows whose turn it is not, while another request waits."""
AHEAD, REMEMBERED = 32, 256
"""Rows that a principal may have had more than another and still be in its turn beside it, and the most that
are counted: what it had while nobody else wanted it is not held against it for long."""
OLDEST = 4
"""Of so many batches one is led by the oldest request: beside a principal that has had less, and comes again
each time, another's rows of unlike length would wait for ever."""
STALE = 64
"""Places of requests that left, and principals without any, that are kept beside as many as wait."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What bounds a batch (rows, and rows times padded length times beams) and each model's queue (cells)."""

    rows: int
    cells: int
    queue_cells: int


@dataclass(slots=True)
class _Flow:
    """The waiting requests of one principal."""

    had: int = 0  # cells, and where others were while it had none waiting: its place among principals
    turn: int = 0  # of the request that is next: a new one has the turn after it
    size: int = 0  # rows
    cells: int = 0  # theirs
    callers: int = 0  # requests whose rows they are
    heap: list[tuple[int, int, Caller]] = field(default_factory=list)  # by turn, then by arrival

    def add(self, entry: Entry, number: int) -> None:
        caller = entry.caller
        if not caller.waiting:
            self.callers += 1
            caller.turn = self.turn + 1
            heappush(self.heap, (caller.turn, number, caller))
        caller.waiting += 1
        self.size += 1
        self.cells += entry.cells

    def remove(self, entry: Entry) -> None:
        entry.waits = False
        entry.caller.waiting -= 1
        self.callers -= not entry.caller.waiting
        self.size -= 1
        self.cells -= entry.cells
        if len(self.heap) > 2 * self.callers + STALE:
            self.heap = [place for place in self.heap if place[2].waiting]
            heapify(self.heap)

    def first(self) -> tuple[int, int]:
        """Return its place among principals, and when its request that is next came; one waits."""
        while True:
            turn, number, caller = self.heap[0]
            if caller.waiting and turn == caller.turn:
                self.turn = turn
                return self.had, number
            heappop(self.heap)
            if caller.waiting:
                heappush(self.heap, (caller.turn, number, caller))

    @property
    def lead(self) -> Entry:
        """The next row of the request that `first` found."""
        return self.heap[0][2].next()


@dataclass(slots=True)
class Line:
    """The waiting rows of one model."""

    used: float = 0.0  # seconds of the backend, as predicted when its batches left, while others waited
    least: int = 0  # cells that the principal has had that has had the least, of those that wait
    clock: int = 0  # what one has had that comes now: as many as the least will, with their next row
    batches: int = 0
    ends: int = 0  # how often it has become empty
    size: int = 0  # rows
    cells: int = 0  # theirs
    callers: int = 0  # requests that have rows waiting
    flows: dict[str, _Flow] = field(default_factory=dict)  # by principal
    busy: dict[str, _Flow] = field(default_factory=dict)  # those of them that have rows waiting
    rows: dict[BatchKey, dict[int, dict[Entry, None]]] = field(default_factory=dict)  # by length, in order

    def add(self, entry: Entry, number: int) -> None:
        name = entry.caller.principal
        flow = self.flows.setdefault(name, _Flow())
        if not flow.size:  # who was away has not saved up turns
            flow.had = max(flow.had, self.clock)
            self.busy[name] = flow
        self.callers += not entry.caller.waiting
        flow.add(entry, number)
        self.size += 1
        self.cells += entry.cells
        self.rows.setdefault(entry.key, {}).setdefault(entry.row.length, {})[entry] = None

    def remove(self, entry: Entry) -> None:
        name = entry.caller.principal
        flow = self.flows[name]
        flow.remove(entry)
        if not flow.size:
            del self.busy[name]
            if len(self.flows) > 2 * len(self.busy) + STALE:
                self.flows = {
                    name: flow for name, flow in self.flows.items() if flow.size or flow.had > self.clock
                }
        self.callers -= not entry.caller.waiting
        self.size -= 1
        self.ends += not self.size
        self.cells -= entry.cells
        by_length = self.rows[entry.key]
        del by_length[entry.row.length][entry]
        if not by_length[entry.row.length]:
            del by_length[entry.row.length]
        if not by_length:
            del self.rows[entry.key]

    def lead(self) -> Entry:
        """Return the row whose turn it is; there is one."""
        places = {name: flow.first() for name, flow in self.busy.items()}
        self.batches += 1
        by_age = self.batches % OLDEST == 0
        lead = self.busy[min(places, key=lambda name: places[name][by_age:])].lead
        self.least = min(places.values())[0]
        self.clock = max(self.clock, self.least + lead.cost)
        return lead

    def ahead(self, principal: str, rows: int, cells: int) -> float:
        """Return how many cells are done by when a new request is, its own among them, if no other comes.

        Of its principal, as many rows of each request as it has; of every other, no more than of that.
        """
        mean = self.cells / self.size
        flow = self.busy.get(principal)
        own = cells + mean * min(rows * flow.callers, flow.size) if flow else cells
        others = self.cells - (flow.cells if flow else 0)
        return own + min(own * (len(self.busy) - (flow is not None)), others)

    def charge(self, batch: Sequence[Entry], in_turn: int) -> None:
        """Count what leaves: for principals all rows, for requests the first, which had their turn."""
        for number, entry in enumerate(batch):
            flow = self.flows[entry.caller.principal]
            flow.had = max(flow.had, min(flow.had + entry.cost, self.least + REMEMBERED * entry.cost))
            entry.caller.turn += number < in_turn


class Queue:
    """Who waits, how much that is, and who goes next."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lines: dict[str, Line] = {}  # by model
        self._costs: WeakKeyDictionary[Served, dict[tuple[str, BatchOptions], Cost]] = WeakKeyDictionary()
        self._numbers = count()
        self._used = 0.0  # of the model that had the last turn
        self.cells = 0

    def append(self, entry: Entry) -> None:
        """Take a row in, of a request that there is room for."""
        line = self._lines.setdefault(entry.key.served.model, Line())
        if not line.size:  # what was away has not saved up turns
            line.used = max(line.used, self._used)
        line.add(entry, next(self._numbers))
        entry.caller.entries.append(entry)
        self.cells += entry.cells

    def line(self, model: str) -> Line:
        """Return those who wait for a model, whether or not there is one of that name."""
        return self._lines.get(model) or Line()

    def take(self, now: float) -> list[Entry]:
        """Remove and return the next batch; empty if nobody waits any more."""
        while waiting := [line for line in self._lines.values() if line.size]:
            line = min(waiting, key=lambda line: line.used)
            lead = line.lead()
            if lead.is_live(now):
                return self._batch(line, lead, now, is_shared=len(waiting) > 1)
            self._remove(line, lead)
        return []

    def leave(self, caller: Caller) -> None:
        """Remove what a caller still has waiting."""
        line = self._lines.get(caller.key.served.model)
        for entry in caller.entries:
            if entry.waits and line is not None:
                self._remove(line, entry)
        caller.leave()

    def clear(self) -> list[Entry]:
        """Remove and return all rows."""
        lines = [line for lines in self._lines.values() for line in lines.rows.values()]
        self._lines.clear()
        self.cells = 0
        return [entry for by_length in lines for entries in by_length.values() for entry in entries]

    def observe(self, batch: Sequence[Entry], length: int, seconds: float) -> None:
        """Learn from a batch that was run, padded to `length`."""
        steps = sum(entry.row.length for entry in batch)
        self._cost(batch[0].key).observe(len(batch), length, steps, seconds)

    def _batch(self, line: Line, lead: Entry, now: float, is_shared: bool) -> list[Entry]:
        is_single = lead.key.served.manifest.batching == "single"
        chosen, in_turn = ([lead], 1) if is_single else self._fitting(line, lead, now)
        lengths = [entry.row.length for entry in chosen]
        others, is_all = line.callers > 1, len(chosen) == line.size
        most_seconds = MOST_SECONDS if others else math.inf
        if len(chosen) > 1:
            best = self._cost(lead.key).best(lengths, in_turn, most_seconds, is_all and not others)
            chosen = chosen[:best]
        self._used = line.used
        if is_shared:  # among models
            line.used += self._cost(lead.key).seconds(lengths[: len(chosen)])
        line.charge(chosen, in_turn)
        for entry in chosen:
            self._remove(line, entry)
        return chosen

    def _fitting(self, line: Line, lead: Entry, now: float) -> tuple[list[Entry], int]:
        """Return the lead and who may go with it, in the order in which they would; and how many in turn.

        A row is, if it is the next of one of its principal's next requests, and its principal has not had
        much more than another.
        """
        by_length, length, most = line.rows[lead.key], lead.row.length, self._budget.rows
        limit = line.least + AHEAD * lead.cost
        near: list[Entry] = []
        far: list[Entry] = []
        for other in sorted(by_length, key=lambda other: (abs(other - length), other)):
            for entry in by_length[other]:
                caller = entry.caller
                flow = line.busy[caller.principal]
                if flow.had <= limit and caller.turn <= flow.turn + 1 and entry is caller.next():
                    near.append(entry)
                elif len(far) < most:
                    far.append(entry)
            if len(near) > most:
                break
        chosen, longest, in_turn = [lead], lead.cells, 1
        for number, entry in enumerate((*near, *far)):
            if len(chosen) == most:
                break
            needed = max(longest, entry.cells)
            # where a longer row does not fit, a shorter one may
            if needed * (len(chosen) + 1) <= self._budget.cells and entry is not lead and entry.is_live(now):
                chosen.append(entry)
                longest = needed
                in_turn += number < len(near)
        return chosen, in_turn

    def _remove(self, line: Line, entry: Entry) -> None:
        line.remove(entry)
        self.cells -= entry.cells

    def _cost(self, key: BatchKey) -> Cost:
        kept = self._costs.setdefault(key.served, {})
        if (key.signature, key.options) not in kept and len(kept) == MOST_COSTS:
            del kept[next(iter(kept))]
        return kept.setdefault((key.signature, key.options), Cost())
