"""Rows from many callers, batched: one task owns the queue, and a batch leaves when a slot is free.

There is no timer: an idle service adds no wait, and a busy one gathers big batches by itself, because
entries queue while the slots are taken. Called by `service.core.items`, calls a `Backend`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from time import perf_counter

from prometheus_client import Histogram

from service import errors
from service.backend.base import Backend, Spec
from service.contract.padding import NUMPY_TYPES, Array, Row, bucket_of, pad_batch
from service.core.queue import RETRY_SECONDS, BatchKey, Budget, Entry, Queue
from service.core.types import BatchOptions, Outputs, Served
from service.metrics import Metrics

log = logging.getLogger(__name__)


class Scheduler:
    """Batches for one backend. `run` is its only door; use it as an async context manager."""

    def __init__(self, backend: Backend, budget: Budget, metrics: Metrics, *, backend_timeout: float) -> None:
        self._backend = backend
        self._queue = Queue(budget)
        self._metrics = metrics
        self._timeout = backend_timeout
        self._arrived = asyncio.Event()
        self._batches: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> "Scheduler":
        self._owner = asyncio.create_task(self._own(), name="scheduler")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what waits with Draining, and let the batches under way finish."""
        self._closed = True
        self._owner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._owner
        _fail(self._queue.clear(), _draining())
        self._metrics.queue_cells.set(0)
        await asyncio.gather(*self._batches)

    async def run(
        self, served: Served, signature: str, options: BatchOptions, row: Row, deadline: float
    ) -> Outputs:
        """Return one row's outputs, computed in a batch with whatever rows fit.

        Args:
            deadline: absolute; past it the row is dropped, its neighbours are not.

        Raises:
            QueueFull, DeadlineExceeded, BackendFailed, BackendUnavailable, VersionNotFound, Draining.
        """
        if self._closed:
            raise _draining()
        loop = asyncio.get_running_loop()
        key = BatchKey(served, signature, options)
        entry = Entry(key, row, deadline, perf_counter(), loop.create_future())
        try:
            self._queue.append(entry, loop.time())
        finally:  # also when refused: dead entries may have been dropped
            self._metrics.queue_cells.set(self._queue.cells)
        self._arrived.set()
        try:
            async with asyncio.timeout_at(deadline):
                return await entry.future
        except TimeoutError:
            raise errors.DeadlineExceeded("the deadline passed before there was an answer") from None

    async def _own(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            while len(self._batches) >= self._backend.slots:
                await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)
            batch = self._queue.take(loop.time())
            self._metrics.queue_cells.set(self._queue.cells)
            if not batch:
                self._arrived.clear()
                continue
            task = asyncio.create_task(self._answer(batch))
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _answer(self, batch: list[Entry]) -> None:
        try:
            served, now = batch[0].key.served, perf_counter()
            for entry in batch:
                self._stage(served, "queue").observe(now - entry.arrived)
            await self._settle(batch)
        except Exception:
            log.exception("a batch failed unexpectedly")
        finally:  # whatever happened, nobody waits for ever
            _fail(batch, errors.Unexpected("an unexpected fault; the log has it"))

    async def _settle(self, batch: list[Entry]) -> None:
        """End every entry's future; halve a batch that the model failed on, so that one row fails alone."""
        try:
            outputs = await self._compute(batch)
        except errors.Internal as error:
            if len(batch) == 1:
                return _fail(batch, error)
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                live = [entry for entry in half if entry.is_live(asyncio.get_running_loop().time())]
                if live:
                    await self._settle(live)
        except errors.SeqserveError as error:
            _fail(batch, error)
        else:
            _deliver(batch, outputs)

    async def _compute(self, batch: list[Entry]) -> Outputs:
        loop, key = asyncio.get_running_loop(), batch[0].key
        started = perf_counter()
        inputs = self._padded(batch)
        padded = perf_counter()
        self._stage(key.served, "pad").observe(padded - started)
        deadline = min(loop.time() + self._timeout, max(entry.deadline for entry in batch))
        spec = Spec(key.served.model, key.served.version, key.signature, key.served.digest)
        try:
            return await self._backend.predict(spec, inputs, deadline)
        finally:
            self._stage(key.served, "backend").observe(perf_counter() - padded)

    def _padded(self, batch: list[Entry]) -> dict[str, Array]:
        key, rows = batch[0].key, [entry.row for entry in batch]
        manifest = key.served.manifest
        longest = max(row.length for row in rows)
        length = longest if manifest.batching == "single" else bucket_of(longest, manifest.buckets)
        self._count(key.served, rows, length)
        signature = manifest.signatures[key.signature]
        return pad_batch(rows, length, signature, manifest, key.options)

    def _count(self, served: Served, rows: Sequence[Row], length: int) -> None:
        labels = (served.model, str(served.version))
        real, cells = sum(row.length for row in rows), len(rows) * length
        self._metrics.batch_rows.labels(*labels).observe(len(rows))
        self._metrics.batch_cells.labels(*labels).observe(cells)
        self._metrics.real_cells.labels(*labels).inc(real)
        self._metrics.padding_cells.labels(*labels).inc(cells - real)

    def _stage(self, served: Served, stage: str) -> Histogram:
        return self._metrics.stage_seconds.labels(served.model, str(served.version), stage)


def _draining() -> errors.Draining:
    return errors.Draining("the service is shutting down", retry_after=RETRY_SECONDS)


def _fail(batch: list[Entry], error: errors.SeqserveError) -> None:
    for entry in batch:
        if not entry.future.done():
            # each its own copy: a traceback belongs to one caller
            entry.future.set_exception(error.at())
            entry.future.exception()  # retrieved: a caller may have gone meanwhile


def _deliver(batch: list[Entry], outputs: Outputs) -> None:
    """Give each entry its row; outputs that break the manifest fail the batch, which halving cannot mend."""
    try:
        answers = _rows(outputs, len(batch), batch[0].key)
    except errors.BackendFailed as error:
        return _fail(batch, error)
    for entry, answer in zip(batch, answers, strict=True):
        if not entry.future.done():
            entry.future.set_result(answer)


def _rows(outputs: Outputs, rows: int, key: BatchKey) -> list[Outputs]:
    """Take a batch's outputs apart, row by row, or say what is wrong with them.

    Raises:
        BackendFailed: an output that the manifest declares is missing, or is of another shape or type.
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
    return [{name: outputs[name][row] for name in declared} for row in range(rows)]
