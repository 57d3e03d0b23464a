"""A request's items, each on its own way to an answer: encode, batch with others, decode.

Called by `service.core.gateway` for callers and by `service.core.catalog` for golden examples, so
that a version is admitted by the very path that will serve it.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from service.core.queue import BatchKey, Caller, Entry
from service.core.scheduler import Scheduler
from service.core.types import Body, Encoded, Outcome, Plan, Served
from service.errors import DeadlineExceeded, SeqserveError, Unexpected
from service.metrics import Metrics

log = logging.getLogger(__name__)
TOGETHER = 128
"""Items that are encoded before their rows are queued."""
TURN_SECONDS = 0.002
"""How long one request's items are encoded or decoded before the event loop sees to the others."""


class ItemRunner:
    """Answers items; one item's fault is that item's outcome and touches no other."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics

    async def run(self, served: Served, body: Body, deadline: float) -> list[Outcome]:
        """Return each item's answer or error, in order.

        Raises:
            InvalidArgument: the options, which all items share, do not fit the model.
        """
        with self._timed(served, "validate"):
            plan = served.codec.plan(body)
        outcomes: list[Outcome | None] = [None] * len(plan.items)
        key = BatchKey(served, plan.signature, plan.batch_options)
        with self._scheduler.calling(key, deadline) as caller:
            try:
                encoded = await self._submitted(plan, caller, outcomes)
                left = len(caller.entries)
                while left:
                    settled = await caller.settled()
                    await self._decoded(plan, encoded, settled, outcomes)
                    left -= len(settled)
            except DeadlineExceeded as error:
                return [error.at() if outcome is None else outcome for outcome in outcomes]
        return [outcome for outcome in outcomes if outcome is not None]

    async def _submitted(
        self, plan: Plan, caller: Caller, outcomes: list[Outcome | None]
    ) -> dict[int, Encoded]:
        """Encode the items and put their rows in the queue, or their faults in their places.

        Many at once, so that those encoded first do not leave in a small batch.
        """
        encoded: dict[int, Encoded] = {}
        turn, items = _Turn(), list(enumerate(plan.items))
        for at in range(0, len(items), TOGETHER):
            for place, item in items[at : at + TOGETHER]:
                with self._fault_to(outcomes, place), self._timed(caller.key.served, "encode"):
                    encoded[place] = plan.encode(item)
                await turn.end_if_long()
            for place, _ in items[at : at + TOGETHER]:
                if place in encoded:
                    with self._fault_to(outcomes, place):
                        self._scheduler.submit(caller, place, encoded[place].row)
        return encoded

    async def _decoded(
        self, plan: Plan, encoded: dict[int, Encoded], settled: list[Entry], outcomes: list[Outcome | None]
    ) -> None:
        turn = _Turn()
        for entry in settled:
            outcome = entry.outcome
            if isinstance(outcome, SeqserveError):
                outcomes[entry.place] = outcome
                continue
            assert outcome is not None  # that is what settled means
            with self._fault_to(outcomes, entry.place), self._timed(entry.key.served, "decode"):
                outcomes[entry.place] = plan.decode(encoded[entry.place], outcome)
            await turn.end_if_long()

    @contextmanager
    def _fault_to(self, outcomes: list[Outcome | None], place: int) -> Iterator[None]:
        try:
            yield
        except SeqserveError as error:
            outcomes[place] = error
        except Exception:
            log.exception("an item failed unexpectedly")
            outcomes[place] = Unexpected("an unexpected fault; the log has it")

    @contextmanager
    def _timed(self, served: Served, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            labels = (served.model, str(served.version), stage)
            self._metrics.of(self._metrics.stage_seconds, *labels).observe(perf_counter() - started)


class _Turn:
    """A bounded time on the event loop."""

    def __init__(self) -> None:
        self._began = perf_counter()

    async def end_if_long(self) -> None:
        """Let the others have their turn, where this one is used up."""
        if perf_counter() - self._began > TURN_SECONDS:
            await asyncio.sleep(0)
            self._began = perf_counter()
