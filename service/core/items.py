"""A request's items, each on its own way to an answer: encode, batch with others, decode.

Golden examples go the same way as callers' requests, so that a version is admitted by the very path that
will serve it.
"""

import logging
from collections.abc import Callable
from time import perf_counter

from prometheus_client import Histogram

from seqserve.service.contract.items import Body
from seqserve.service.contract.padding import padded_length
from seqserve.service.core.queue import BatchKey, Caller, Entry
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Encoded, Outcome, Plan, Served
from seqserve.service.errors import DeadlineExceeded, SeqserveError, Unexpected
from seqserve.service.metrics import Metrics

log = logging.getLogger(__name__)
TOGETHER = 128
"""Items that are encoded before their rows are queued."""


class ItemRunner:
    """Answers items; one item's fault is that item's outcome and touches no other."""

    def __init__(
        self, scheduler: Scheduler, metrics: Metrics, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._clock = clock

    async def run(self, served: Served, body: Body, deadline: float) -> list[Outcome]:
        """Return each item's answer or error, in order.

        Raises:
            InvalidArgument: the options, which all items share, do not fit the model.
        """
        started = self._clock()
        plan = served.codec.plan(body)
        self._stage(served, "validate").observe(self._clock() - started)
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

    def too_large(self, served: Served, body: Body) -> str | None:
        """Return why an item's row could never be queued, with its cells and the queue's; None if all could.

        Items that do not fit the model are left out.

        Raises:
            InvalidArgument: the options do not fit the model.
        """
        plan = served.codec.plan(body)
        width = BatchKey(served, plan.signature, plan.batch_options).width
        for item in plan.items:
            try:
                length = plan.encode(item).row.length
            except SeqserveError:
                continue
            cells = padded_length(length, served.manifest) * width
            if cells > self._scheduler.capacity:
                limit = f"{self._scheduler.capacity}, which SEQSERVE_MAX_QUEUE_CELLS sets"
                return f"a row of {cells} cells never fits the queue of {limit}"
        return None

    def check_room(self, model: str, deadline: float) -> None:
        """Raise QueueFull if one more row, taken to be as long as the others, would be refused."""
        self._scheduler.check_room(model, deadline)

    async def _submitted(
        self, plan: Plan, caller: Caller, outcomes: list[Outcome | None]
    ) -> dict[int, Encoded]:
        """Encode the items and put their rows in the queue, or their faults in their places.

        Many at once, so that those encoded first do not leave in a small batch.
        """
        encoded: dict[int, Encoded] = {}
        turn, places = Turn(self._clock), range(len(plan.items))
        stage = self._stage(caller.key.served, "encode")
        for at in range(0, len(places), TOGETHER):
            for place in places[at : at + TOGETHER]:
                started = self._clock()
                try:
                    encoded[place] = plan.encode(plan.items[place])
                except Exception as error:
                    outcomes[place] = _fault(error)
                stage.observe(self._clock() - started)
                if turn.is_over():
                    await turn.end()
            for place in places[at : at + TOGETHER]:
                if place in encoded:
                    try:
                        self._scheduler.submit(caller, place, encoded[place].row)
                    except SeqserveError as error:
                        outcomes[place] = error
        return encoded

    async def _decoded(
        self, plan: Plan, encoded: dict[int, Encoded], settled: list[Entry], outcomes: list[Outcome | None]
    ) -> None:
        turn, stage = Turn(self._clock), self._stage(settled[0].key.served, "decode")
        for entry in settled:
            outcome = entry.outcome
            if isinstance(outcome, SeqserveError):
                outcomes[entry.place] = outcome
                continue
            assert outcome is not None  # that is what settled means
            started = self._clock()
            try:
                outcomes[entry.place] = plan.decode(encoded[entry.place], outcome)
            except Exception as error:
                outcomes[entry.place] = _fault(error)
            stage.observe(self._clock() - started)
            if turn.is_over():
                await turn.end()

    def _stage(self, served: Served, stage: str) -> Histogram:
        return self._metrics.of(self._metrics.stage_seconds, served.model, str(served.version), stage)


def _fault(error: Exception) -> SeqserveError:
    """Return an item's fault; one that is not ours is ours to find."""
    if isinstance(error, SeqserveError):
        return error
    log.error("an item failed unexpectedly", exc_info=error)
    return Unexpected("an unexpected fault; the log has it")
