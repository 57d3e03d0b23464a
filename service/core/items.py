"""A request's items, each on its own way to an answer: encode, batch with others, decode.

Called by `service.core.gateway` for callers and by `service.core.catalog` for golden examples, so
that a version is admitted by the very path that will serve it.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from service.core.scheduler import Scheduler
from service.core.types import Body, Outcome, Plan, Served
from service.errors import SeqserveError, Unexpected
from service.metrics import Metrics

log = logging.getLogger(__name__)


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
        return await asyncio.gather(*(self._one(served, plan, item, deadline) for item in plan.items))

    async def _one(self, served: Served, plan: Plan, item: Any, deadline: float) -> Outcome:
        try:
            with self._timed(served, "encode"):
                encoded = plan.encode(item)
            outputs = await self._scheduler.run(
                served, plan.signature, plan.batch_options, encoded.row, deadline
            )
            with self._timed(served, "decode"):
                return plan.decode(encoded, outputs)
        except SeqserveError as error:
            return error
        except Exception:
            log.exception("an item failed unexpectedly")
            return Unexpected("an unexpected fault; the log has it")

    @contextmanager
    def _timed(self, served: Served, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            labels = (served.model, str(served.version), stage)
            self._metrics.stage_seconds.labels(*labels).observe(perf_counter() - started)
