"""A request's items, each on its own way to an answer: encode, batch with others, decode.

Golden examples go the same way as callers' requests, so that a version is admitted by the very path that
will serve it.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count, takewhile
from time import perf_counter

from seqserve.service.contract.items import Body
from seqserve.service.contract.manifest import STEP_SIGNATURE
from seqserve.service.contract.padding import Row
from seqserve.service.core.entries import BatchKey, Caller, Entry, cells_of
from seqserve.service.core.limits import ANY_NUMBER
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Encoded, Order, Outcome, Outputs, Placed, Plan, Served
from seqserve.service.errors import (
    DeadlineExceeded,
    RequestTooCostly,
    SeqserveError,
    Unexpected,
    without_frames,
)
from seqserve.service.metrics import Metrics
from seqserve.service.series import Histogram

log = logging.getLogger(__name__)
Admission = Callable[[int], AbstractContextManager[None]]
"""Takes a request's cells for as long as it is computed; raises RateLimited."""


class ItemRunner:
    """Answers items; one item's fault is that item's outcome and touches no other.

    Args:
        max_request_cells: the most that one request may take.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        metrics: Metrics,
        clock: Callable[[], float] = perf_counter,
        *,
        max_request_cells: int = ANY_NUMBER,
    ) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._clock = clock
        self._most = max_request_cells

    async def run(
        self,
        served: Served,
        body: Body,
        deadline: float,
        admission: Admission = lambda _: nullcontext(),
        principal: str = "",
    ) -> list[Outcome]:
        """Return each item's answer or error, in order.

        Raises:
            What `come` raises.
        """
        plan, key, outcomes = self._planned(served, body)
        encoded, costs = await self._encoded(plan, key, outcomes)
        if encoded:  # else there is nothing to refuse: how busy the service is would hide the items' faults
            with admission(sum(costs)), self._scheduler.calling(key, deadline, principal) as caller:
                self._scheduler.submit(caller, _rows(encoded), costs)
                while encoded:
                    outcomes |= await self._come(plan, encoded, caller)
        return [outcomes[place] for place in range(len(outcomes))]

    async def come(
        self,
        served: Served,
        body: Body,
        deadline: float,
        admission: Admission,
        principal: str,
        order: Order,
    ) -> AsyncGenerator[Sequence[Placed]]:
        """Yield each item's answer or error as it comes, some at a time, until there is one of each.

        All items are encoded before any waits, so that what the request takes is known: it is let in, and
        queued, whole or not at all. Rows begin as what was yielded is taken: few answers wait for a slow
        reader.

        Raises:
            InvalidArgument: the options, which all items share, do not fit the model; or RequestTooCostly.
            RateLimited, QueueFull, Draining.
        """
        plan, key, faults = self._planned(served, body)
        encoded, costs = await self._encoded(plan, key, faults)
        ready = _Ready(faults, order)
        if not encoded:  # as in `run`
            yield ready.due({})
            return
        with admission(sum(costs)), self._scheduler.calling(key, deadline, principal) as caller:
            self._scheduler.submit(caller, _rows(encoded), costs, is_paced=True)
            while encoded:
                if due := ready.due(await self._come(plan, encoded, caller)):
                    yield due
                if encoded:
                    self._scheduler.go_on(caller, (place for place, _ in due))

    async def advance(
        self,
        served: Served,
        events: Sequence[Row],
        state: Outputs,
        deadline: float,
        admission: Admission,
        principal: str,
    ) -> Outputs:
        """Take a recurrent model through events, one after the other, each in a batch with whatever fits.

        Args:
            events: at least one, each the inputs of `step` but for its state.
            state: what it starts from, by name.

        Returns:
            The outputs after the last event, the new state among them.

        Raises:
            RequestTooCostly; RateLimited, QueueFull, Draining; DeadlineExceeded; what the backend raises.
        """
        if len(events) > self._most:
            raise _too_costly(len(events), len(events), len(events), self._most)
        key = BatchKey(served, STEP_SIGNATURE, ())
        with admission(len(events)), self._scheduler.calling(key, deadline, principal) as caller:
            for place, event in enumerate(events):
                self._scheduler.submit(caller, {place: Row({**state, **event.inputs}, 1)}, [1])
                (entry,) = await caller.settled()
                if isinstance(entry.outcome, SeqserveError):
                    raise entry.outcome
                assert entry.outcome is not None  # that is what settled means
                state = entry.outcome
        return state

    def check_room(self, model: str, deadline: float, principal: str = "") -> None:
        """Raise QueueFull if one more row, taken to be as long as the others, would be refused."""
        self._scheduler.check_room(model, deadline, principal)

    def _planned(self, served: Served, body: Body) -> tuple[Plan, BatchKey, dict[int, Outcome]]:
        """Return how a request's items are answered, what their rows may share a batch with, and no outcome.

        Raises:
            InvalidArgument: the options do not fit the model.
        """
        started = self._clock()
        plan = served.codec.plan(body)
        self._stage(served, "validate").observe(self._clock() - started)
        return plan, BatchKey(served, plan.signature, plan.batch_options), {}

    async def _encoded(
        self, plan: Plan, key: BatchKey, faults: dict[int, Outcome]
    ) -> tuple[dict[int, Encoded], list[int]]:
        """Encode the items, or put down their faults; return them by place, and what each takes.

        Raises:
            RequestTooCostly, as soon as that is certain.
        """
        encoded: dict[int, Encoded] = {}
        costs: list[int] = []
        turn, stage, cells = Turn(self._clock), self._stage(key.served, "encode"), 0
        for place in range(len(plan.items)):
            started = self._clock()
            try:
                encoded[place] = plan.encode(plan.items[place])
            except Exception as error:
                faults[place] = _fault(error)
            else:
                costs.append(cells_of(encoded[place].row, key))
                cells += costs[-1]
            stage.observe(self._clock() - started)
            if cells > self._most:
                raise _too_costly(place + 1, len(plan.items), cells, self._most)
            if turn.is_over():
                await turn.end()
        return encoded, costs

    async def _come(self, plan: Plan, encoded: dict[int, Encoded], caller: Caller) -> dict[int, Outcome]:
        """Wait for rows; return their items' outcomes by place, past the deadline of all that are left."""
        try:
            return await self._decoded(plan, encoded, await caller.settled())
        except DeadlineExceeded as error:
            late: dict[int, Outcome] = {place: error.at() for place in encoded}
            encoded.clear()
            return late

    async def _decoded(
        self, plan: Plan, encoded: dict[int, Encoded], settled: list[Entry]
    ) -> dict[int, Outcome]:
        """Return the outcomes of rows by place, and let go of what they were encoded to."""
        outcomes: dict[int, Outcome] = {}
        turn, stage = Turn(self._clock), self._stage(settled[0].key.served, "decode")
        for entry in settled:
            item, outcome = encoded.pop(entry.place), entry.outcome
            if isinstance(outcome, SeqserveError):
                outcomes[entry.place] = outcome
                continue
            assert outcome is not None  # that is what settled means
            started = self._clock()
            try:
                outcomes[entry.place] = plan.decode(item, outcome)
            except Exception as error:
                outcomes[entry.place] = _fault(error)
            stage.observe(self._clock() - started)
            if turn.is_over():
                await turn.end()
        return outcomes

    def _stage(self, served: Served, stage: str) -> Histogram:
        return self._metrics.of(self._metrics.stage_seconds, served.model, str(served.version), stage)


def _rows(encoded: Mapping[int, Encoded]) -> dict[int, Row]:
    return {place: item.row for place, item in encoded.items()}


class _Ready:
    """Outcomes of one request that nobody has been given.

    Args:
        outcomes: that there are from the beginning.
    """

    def __init__(self, outcomes: Mapping[int, Outcome], order: Order) -> None:
        self._outcomes = dict(outcomes)
        self._order = order
        self._next = 0

    def due(self, come: Mapping[int, Outcome]) -> Sequence[Placed]:
        """Take what has come; return what is to be given now, with its places."""
        self._outcomes |= come
        if self._order is Order.FINISHED:
            due, self._outcomes = [*self._outcomes.items()], {}
            return due
        places = [*takewhile(self._outcomes.__contains__, count(self._next))]
        self._next += len(places)
        return [(place, self._outcomes.pop(place)) for place in places]


def _too_costly(seen: int, items: int, cells: int, most: int) -> RequestTooCostly:
    which = f"{items} items" if seen == items else f"the first {seen} of {items} items"
    return RequestTooCostly(
        f"{which} take {cells} cells (length, and beams times the longest output), more than the limit of "
        f"{most} for one request; ask for fewer items or beams, or a smaller max_length",
        limit="max_request_cells",
    )


def _fault(error: Exception) -> SeqserveError:
    """Return an item's fault; one that is not ours is ours to find."""
    if isinstance(error, SeqserveError):
        return without_frames(error)
    log.error("an item failed unexpectedly", exc_info=error)
    return Unexpected("an unexpected fault; the log has it")
