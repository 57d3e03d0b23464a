"""What each rule of the scheduler is worth: the real queue, cost and admission, in virtual time.

`python -m tests.bench.rules` switches each rule off in turn and prints a table, a row a rule; the same seed
gives the same figures on any machine. Batches take what a table says, give or take a few hundredths: a
core's, as measured for the shipped translator, or a GPU's, where a step takes as long for any number of rows.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from unittest.mock import patch

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.core import admission, cost, queue
from seqserve.service.core.admission import Admission
from seqserve.service.core.entries import BatchKey, Caller, Entry
from seqserve.service.core.queue import Budget, Queue
from tests.core.fakes import row, served

LONGEST = 64
KEY = BatchKey(served(buckets=[LONGEST // 2, LONGEST]), PREDICT_SIGNATURE, ())
MODEL = KEY.served.model
BUDGET = Budget(rows=128, cells=4096, queue_cells=131_072)  # the settings' defaults
WARM = 0.2
"""Share of a run that is not counted."""
FOR_EVER = 1e9

Table = Callable[[Sequence[int]], float]
TABLES: dict[str, Table] = {
    "core": lambda lengths: 0.78e-3 * max(lengths) + 0.058e-3 * sum(lengths),
    "GPU": lambda lengths: 0.01 + max(lengths) * (1.2e-3 + 1e-6 * len(lengths)),
}
"""Seconds of a batch of rows that have so many steps."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Callers who ask again as soon as they are answered, or as they are told to when they are refused."""

    name: str
    callers: int
    rows: int = 1
    principal: str = ""


@dataclass(slots=True)
class Result:
    """What a stream got: rows and requests answered, seconds of each, refusals, rows that came too late."""

    rows: int = 0
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    late: int = 0

    def percentile(self, percent: float) -> float:
        """Return the seconds within which so many percent of the requests are answered."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else math.inf


@dataclass(slots=True, eq=False)
class _Request:
    stream: Stream
    caller: Caller
    asked: float
    left: int


class Simulation:
    """One model on a backend that runs one batch at a time.

    Args:
        timeout: seconds that each request has.
        refusal: seconds that one takes, which the batch under way ends later by.
    """

    queue: type[Queue] = Queue
    waits = True
    """Whether those just answered ask again before the next batch is chosen, as the scheduler lets them."""

    def __init__(
        self,
        table: Table,
        streams: Sequence[Stream],
        *,
        timeout: float = FOR_EVER,
        refusal: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._table = table
        self._timeout = timeout
        self._refusal, self._lost = refusal, 0.0
        self._random, self._noise = Random(seed), Random(seed + 1)
        self._queue, self._admission = self.queue(BUDGET), Admission(BUDGET.queue_cells)
        self._events: list[tuple[float, int, Stream | list[Entry]]] = []
        self._numbers = count()
        self._requests: dict[Caller, _Request] = {}
        self._now, self._began, self._from = 0.0, 0.0, 0.0
        self.results = {stream.name: Result() for stream in streams}
        for stream in streams:
            for _ in range(stream.callers):
                self._at(self._random.random() / 100, stream)

    def run(self, seconds: float) -> dict[str, Result]:
        """Run for so long; what is asked in the first part is not counted."""
        self._from, is_busy = WARM * seconds, False
        while self._events and self._now < seconds:
            self._now, _, event = heappop(self._events)
            if isinstance(event, Stream):
                self._ask(event)
            elif self._lost:
                self._at(self._now + self._lost, event)
                self._lost = 0.0
                continue
            else:
                self._end(event)
                is_busy = False
            come = self._events and self._events[0][0] <= self._now and self.waits
            if not is_busy and not come and (batch := self._queue.take(self._now)):
                lengths = [entry.row.length for entry in batch]
                self._began, is_busy = self._now, True
                self._at(self._now + self._table(lengths) * self._noise.lognormvariate(0, 0.05), batch)
        return self.results

    def _at(self, when: float, what: Stream | list[Entry]) -> None:
        heappush(self._events, (when, next(self._numbers), what))

    def _ask(self, stream: Stream) -> None:
        caller = Caller(KEY, self._now + self._timeout, stream.principal)
        lengths = [_length(self._random) for _ in range(stream.rows)]
        entries = [Entry(caller, n, ROWS[length], self._now, length) for n, length in enumerate(lengths)]
        cells = sum(entry.cells for entry in entries)
        line = self._queue.line(MODEL)
        try:
            self._admission.check(
                line, MODEL, stream.principal, self._timeout, self._now, len(entries), cells
            )
        except errors.QueueFull as error:
            self.results[stream.name].refused += 1
            self._lost += self._refusal
            return self._at(self._now + (error.retry_after or 0.0), stream)
        for entry in entries:
            self._queue.append(entry)
        self._requests[caller] = _Request(stream, caller, self._now, len(entries))

    def _end(self, batch: list[Entry]) -> None:
        seconds, cells = self._now - self._began, sum(entry.cells for entry in batch)
        self._queue.observe(batch, max(entry.row.length for entry in batch), seconds)
        self._admission.observe(self._queue.line(MODEL), MODEL, cells, seconds, self._now)
        for entry in batch:
            request = self._requests[entry.caller]
            result, counts = self.results[request.stream.name], self._now > self._from
            is_late = self._now > entry.caller.deadline
            result.rows += counts and not is_late
            result.late += counts and is_late
            request.left -= 1
            if not request.left:
                del self._requests[entry.caller]
                if request.asked > self._from and not is_late:
                    result.seconds.append(self._now - request.asked)
                self._at(self._now, request.stream)
        for request in [each for each in self._requests.values() if each.caller.deadline <= self._now]:
            self._queue.leave(request.caller)  # as its own timer makes it
            del self._requests[request.caller]
            self._at(self._now, request.stream)


def _length(random: Random) -> int:
    """Return the steps of a caption, about: 14 in the middle, 3 to 64."""
    return min(LONGEST, max(3, int(random.lognormvariate(2.65, 0.45))))


ROWS = {length: row([1.0] * length) for length in range(1, LONGEST + 1)}


class _ByLength(Queue):
    """Fills batches by length alone."""

    def _fitting(self, line: queue.Line, lead: Entry, now: float) -> tuple[list[Entry], int]:
        with patch.object(queue, "AHEAD", -FOR_EVER):
            chosen, _ = super()._fitting(line, lead, now)
        return chosen, 1


RULES: dict[str, tuple[object, str, object]] = {
    "(all rules as they are)": (Simulation, "waits", True),
    "turns, for the lead: the oldest": (queue, "OLDEST", 1),
    "turns, for the rest: by length alone": (Simulation, "queue", _ByLength),
    "waiting for those who ask again": (Simulation, "waits", False),
    "learned cost: all that fit": (cost.Cost, "best", lambda self, lengths, *_: len(lengths)),
    "a bound while others wait": (queue, "MOST_SECONDS", math.inf),
    "a request that is alone: whole": (cost.Cost, "_pays_in_two", lambda *_: True),
    "a trial each 64th batch: each 16th": (cost, "TRIAL", 16),
    "refusal by pace": (admission, "HOPELESS", 0.0),
}
"""By what the table says of each: what is another value while it is off."""


@contextmanager
def without(rule: str) -> Iterator[None]:
    """Switch a rule off."""
    module, name, value = RULES[rule]
    with patch.object(module, name, value):
        yield


def single(beside: Stream | None = None, table: str = "core", seconds: float = 30.0) -> float:
    """Return the 99th percentile of the seconds of 16 callers of one row, alone or beside another stream."""
    streams = [Stream("single", 16), *([beside] if beside else [])]
    return Simulation(TABLES[table], streams).run(seconds)["single"].percentile(99)


def pace(
    callers: int,
    table: str = "core",
    timeout: float = FOR_EVER,
    seconds: float = 30.0,
    rows: int = 1,
    principals: int = 1,
    refusal: float = 0.0,
) -> float:
    """Return the rows a second that so many callers of one row, or of more, are answered in time."""
    names = [str(number) for number in range(principals)]
    streams = [Stream(name, callers // principals, rows, name) for name in names]
    simulation = Simulation(TABLES[table], streams, timeout=timeout, refusal=refusal)
    results = simulation.run(seconds).values()
    return sum(result.rows for result in results) / (seconds * (1 - WARM))


COLUMNS: dict[str, Callable[[], float]] = {
    "8": lambda: pace(8),
    "64": lambda: pace(64),
    "256": lambda: pace(256),
    "GPU 8": lambda: pace(8, "GPU"),
    "GPU 64": lambda: pace(64, "GPU"),
    "1 x 64": lambda: pace(1, rows=64),
    "GPU 1 x 64": lambda: pace(1, "GPU", rows=64),
    "4,000, 1 s": lambda: pace(4000, timeout=1.0),
    "p99": lambda: 1e3 * single(),
    "+ 1,000": lambda: 1e3 * single(Stream("thousand", 1, 1000)),
    "+ flood": lambda: 1e3 * single(Stream("flood", 2000, principal="another")),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.rules",
        description="What each rule of the scheduler is worth, in virtual time: rows answered a second, by "
        "number of callers (x 64: of as many rows each; with a second's timeout: in time), and the 99th "
        "percentile in ms of 16 callers of one row alone, beside a request of 1,000, and beside another "
        "principal's 2,000 connections.",
    )
    parser.parse_args()
    print(f"{'without':40}", *(f"{name:>10}" for name in COLUMNS))
    for rule in RULES:
        with without(rule):
            print(f"{rule:40}", *(f"{figure():10.0f}" for figure in COLUMNS.values()), flush=True)


if __name__ == "__main__":
    main()
