"""Rows from many callers, batched: a batch leaves when a slot is free.

There is no timer: an idle service adds no wait, and a busy one gathers big batches by itself, because
rows queue while the slots are taken.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter

import numpy as np

from seqserve.service import errors
from seqserve.service.backend.base import Backend, Spec
from seqserve.service.contract.padding import NUMPY_TYPES, Row, pad_batch, padded_length
from seqserve.service.core.admission import Admission
from seqserve.service.core.deadlines import Deadlines
from seqserve.service.core.entries import BatchKey, Caller, Entry, Pace, draining, late
from seqserve.service.core.queue import Budget, Queue
from seqserve.service.core.types import Batch, Outputs, RowOutputs, Served
from seqserve.service.metrics import Metrics
from seqserve.service.series import Histogram

log = logging.getLogger(__name__)
QUIET, MOST = 3, 20
"""Turns of the loop without a new row after which a freed slot takes a batch, and the most that it waits."""
LEAST_AHEAD = 2
"""Batches that the rows of a paced request may fill whose answers are not taken, where slots are fewer."""


class Scheduler:
    """Batches for one backend. `calling` is its door; use it as an async context manager."""

    def __init__(
        self,
        backend: Backend,
        budget: Budget,
        metrics: Metrics,
        *,
        backend_timeout: float,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._backend = backend
        self._budget = budget
        self._queue = Queue(budget)
        self._admission = Admission(budget.queue_cells)
        self._deadlines = Deadlines()
        self._metrics = metrics
        self._timeout = backend_timeout
        self._clock = clock
        self._batches: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._quiet = 0  # turns since a row came
        self._patience = 0  # turns that a freed slot still waits
        self._closed = False

    async def __aenter__(self) -> "Scheduler":
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what waits with Draining, and let the batches under way finish."""
        self._closed = True
        _fail(self._queue.clear(), draining())
        self._metrics.queue_cells.set(0)
        await asyncio.gather(*self._batches)
        self._deadlines.close()

    def calling(self, key: BatchKey, deadline: float, principal: str = "") -> AbstractContextManager[Caller]:
        """Open a request's place: rows are put by `submit` and come back by `Caller.settled`.

        At the end of the block, however it ends, what still waits is dropped.

        Args:
            deadline: absolute; past it the rows are dropped, their neighbours are not.
            principal: who asks: turns are shared between principals.
        """
        return _Calling(self, Caller(key, deadline, principal))

    def _leave(self, caller: Caller) -> None:
        self._queue.leave(caller)
        self._deadlines.leave()
        self._metrics.queue_cells.set(self._queue.cells)

    def submit(
        self, caller: Caller, rows: Mapping[int, Row], costs: Sequence[int], *, is_paced: bool = False
    ) -> None:
        """Put a request's rows in the queue, all or none; each leaves in a batch with whatever rows fit.

        Args:
            rows: by their places, which come back with their outcomes.
            costs: what each takes, in cells, as `cells_of` has it.
            is_paced: they are let in whole, but begin as answers are taken (`go_on`): as many as the slots
                take may have begun.

        Raises:
            QueueFull, Draining.
        """
        if self._closed:
            raise draining()
        arrived = self._clock()
        entries = [
            Entry(caller, place, row, arrived, cost)
            for (place, row), cost in zip(rows.items(), costs, strict=True)
        ]
        cells = sum(entry.cells for entry in entries)
        self._check(caller.key.served.model, caller.principal, caller.deadline, len(entries), cells)
        if is_paced:
            batches = max(self._backend.slots, LEAST_AHEAD)
            pace = Pace(batches * self._budget.rows, batches * self._budget.cells, deque(entries))
            caller.pace, entries = pace, pace.begin(arrived)
        self._append(entries)

    def go_on(self, caller: Caller, taken: Iterable[int]) -> None:
        """Put more rows of a paced request in the queue; those that find it closed end with Draining.

        They were let in with the first: the queue's limit may be passed by as much as one has begun.

        Args:
            taken: places whose answers have been taken.
        """
        if (pace := caller.pace) is None:
            return
        caller.forget()
        pace.take(taken)
        if self._closed:
            _fail(pace.later, draining())
            pace.later.clear()
        elif begun := pace.begin(self._clock()):
            self._append(begun)

    def _append(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._queue.append(entry)
        self._metrics.queue_cells.set(self._queue.cells)
        self._quiet = 0
        self._schedule()

    def check_room(self, model: str, deadline: float, principal: str = "") -> None:
        """Raise QueueFull where one more row, as long as others, would be refused."""
        self._check(model, principal, deadline)

    def _check(
        self, model: str, principal: str, deadline: float, rows: int = 1, cells: int | None = None
    ) -> None:
        left = deadline - asyncio.get_running_loop().time()
        line = self._queue.line(model)
        self._admission.check(line, model, principal, left, self._clock(), rows, cells)

    def _schedule(self) -> None:
        """Look for batches when this turn of the loop is over: by then, all who come now have come."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._patience and self._quiet < QUIET:
            self._patience -= 1
            self._quiet += 1
            loop.call_soon(self._dispatch)
            return
        self._is_due, self._patience = False, 0
        while len(self._batches) < self._backend.slots and (batch := self._queue.take(loop.time())):
            task = asyncio.create_task(self._answer(batch))
            self._batches.add(task)
            task.add_done_callback(partial(self._ended, len(batch)))
        self._metrics.queue_cells.set(self._queue.cells)

    def _ended(self, rows: int, task: asyncio.Task[None]) -> None:
        """Give the slot to the next batch; where there are others, not before all who come back have.

        Who has an answer now may well ask again, and there is more to choose from then: on one core 13 to
        20 % more texts a second from 64 callers. With more slots the others' batches run meanwhile.
        """
        if len(self._batches) == self._backend.slots and (rows > 1 or self._queue.cells):
            self._quiet, self._patience = 0, MOST
        self._batches.discard(task)
        if self._queue.cells or self._patience:
            self._schedule()

    async def _answer(self, batch: list[Entry]) -> None:
        try:
            now, waited = self._clock(), self._stage(batch[0].key.served, "queue")
            for entry in batch:
                waited.observe(now - entry.arrived)
            await self._settle(batch)
        except Exception:
            log.exception("a batch failed unexpectedly")
        finally:  # whatever happened, nobody waits for ever
            _fail(batch, errors.Unexpected("an unexpected fault; the log has it"))

    async def _settle(self, batch: list[Entry]) -> None:
        """Give every row its outcome; halve a batch that the model failed on, so that one row fails alone."""
        try:
            outputs = await self._compute(batch)
        except errors.Internal as error:
            if len(batch) == 1:
                return _fail(batch, error)
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                now = asyncio.get_running_loop().time()
                _fail([entry for entry in half if not entry.is_live(now)], late())
                if live := [entry for entry in half if entry.is_live(now)]:
                    await self._settle(live)
        except errors.SeqserveError as error:
            _fail(batch, error)
        else:
            _deliver(batch, outputs)

    async def _compute(self, batch: list[Entry]) -> Outputs:
        loop, key = asyncio.get_running_loop(), batch[0].key
        started = self._clock()
        rows = [entry.row for entry in batch]
        length = padded_length(max(row.length for row in rows), key.served.manifest)
        self._count(key.served, rows, length)
        signature = key.served.manifest.signatures[key.signature]
        inputs = pad_batch(rows, length, signature, key.served.manifest, key.options)
        padded = self._clock()
        self._stage(key.served, "pad").observe(padded - started)
        deadline = min(loop.time() + self._timeout, max(entry.caller.deadline for entry in batch))
        spec = Spec(key.served.model, key.served.version, key.signature, key.served.digest)
        try:
            outputs = await self._backend.predict(spec, inputs, deadline)
            now = self._clock()
            self._learn(batch, length, now - padded, now)
            return outputs
        finally:
            self._stage(key.served, "backend").observe(self._clock() - padded)

    def _learn(self, batch: list[Entry], length: int, seconds: float, now: float) -> None:
        model, cells = batch[0].key.served.model, sum(entry.cells for entry in batch)
        self._queue.observe(batch, length, seconds)
        self._admission.observe(self._queue.line(model), model, cells, seconds, now)

    def _count(self, served: Served, rows: Sequence[Row], length: int) -> None:
        labels, of = (served.model, str(served.version)), self._metrics.of
        real, cells = sum(row.length for row in rows), len(rows) * length
        of(self._metrics.batch_rows, *labels).observe(len(rows))
        of(self._metrics.batch_cells, *labels).observe(cells)
        of(self._metrics.real_cells, *labels).inc(real)
        of(self._metrics.padding_cells, *labels).inc(cells - real)

    def _stage(self, served: Served, stage: str) -> Histogram:
        return self._metrics.of(self._metrics.stage_seconds, served.model, str(served.version), stage)


class _Calling:
    """One request's place."""

    __slots__ = ("_caller", "_scheduler")

    def __init__(self, scheduler: Scheduler, caller: Caller) -> None:
        self._scheduler = scheduler
        self._caller = caller

    def __enter__(self) -> Caller:
        self._scheduler._deadlines.enter(self._caller)
        return self._caller

    def __exit__(self, *_: object) -> None:
        self._scheduler._leave(self._caller)


def _fail(batch: Iterable[Entry], error: errors.SeqserveError) -> None:
    for entry in batch:
        if entry.outcome is None:
            entry.caller.settle(entry, error.at())  # each its own copy: a traceback belongs to one caller


def _deliver(batch: Sequence[Entry], outputs: Outputs) -> None:
    """Give each entry its row; outputs that break the manifest fail the batch, which halving cannot mend."""
    try:
        declared = _declared(outputs, len(batch), batch[0].key)
    except errors.BackendFailed as error:
        return _fail(batch, error)
    answered = Batch(declared, [entry.row.length for entry in batch])
    for row, entry in enumerate(batch):
        # of a paced request one may wait long for its reader: not with the whole batch
        own = RowOutputs(answered, row) if entry.caller.pace is None else _own(declared, row)
        entry.caller.settle(entry, own)


def _own(outputs: Outputs, row: int) -> Outputs:
    """Return a row's outputs apart from those of its batch; bytes are apart already."""
    rows = {name: value[row] for name, value in outputs.items()}
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in rows.items()}


def _declared(outputs: Outputs, rows: int, key: BatchKey) -> Outputs:
    """Return those of a batch's outputs that the manifest declares.

    Raises:
        BackendFailed: one is missing, or is of another shape or type.
    """
    declared = key.served.manifest.signatures[key.signature].outputs
    for name, tensor in declared.items():
        value = outputs.get(name)
        if value is None:
            raise errors.BackendFailed(f"the model's answer lacks the output {name!r}")
        if value.ndim != len(tensor.axes) or value.shape[0] != rows:
            axes = ", ".join(tensor.axes)
            raise errors.BackendFailed(f"output {name!r} has shape {value.shape}, not {rows} rows of {axes}")
        if value.dtype != NUMPY_TYPES[tensor.dtype]:
            raise errors.BackendFailed(f"output {name!r} is {value.dtype}, not {tensor.dtype}")
    return {name: outputs[name] for name in declared}
