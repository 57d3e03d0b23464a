"""The one door behind both transports: look the model up, answer its items, count and time everything.

`service.rest` and `service.rpc` convert and call; nothing else reaches a model.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter

from seqserve.service import errors
from seqserve.service.contract.items import FailedItem, Fault, Item, PredictBody, TranslateBody
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.standing import VersionReport
from seqserve.service.core.types import Answered, Body, Call, ModelRef, Outcome, Served
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import NONE, OTHER, Metrics

OK = "OK"
NO_REASON = ""
TASKS = {"translate": "translation", "predict": "sequence"}
MEMBERS = {"translate": "texts", "predict": "sequences"}


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model as both doors show it."""

    name: str
    versions: tuple[VersionReport, ...]
    current: Served | None


class Gateway:
    """Answers requests from the catalog's versions; refuses them while it drains."""

    def __init__(self, catalog: Catalog, runner: ItemRunner, metrics: Metrics, max_items: int) -> None:
        self._catalog = catalog
        self._runner = runner
        self._metrics = metrics
        self._max_items = max_items
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def is_ready(self) -> bool:
        """Whether callers may be sent here."""
        return self.unready() is None

    def unready(self, model: str | None = None) -> SeqserveError | None:
        """Return why callers, or those of one model, may not be sent here; None where they may.

        Raises:
            ModelNotFound; NotReady before the models have been looked at.
        """
        if self._draining:
            return _draining()
        return self._catalog.unready(model)

    async def translate(self, ref: ModelRef, body: TranslateBody, call: Call) -> Answered:
        """Translate texts; an item's fault is in its place, the request's is raised."""
        return await self._counted("translate", ref, body, call)

    async def predict(self, ref: ModelRef, body: PredictBody, call: Call) -> Answered:
        """Predict from sequences; an item's fault is in its place, the request's is raised."""
        return await self._counted("predict", ref, body, call)

    def models(self) -> list[ModelReport]:
        """Return every model."""
        return [self.model(name) for name in self._catalog.models()]

    def model(self, name: str) -> ModelReport:
        """Return one model; raises ModelNotFound."""
        return ModelReport(name, tuple(self._catalog.versions(name)), self._catalog.current(name))

    def check_count(self, member: str, count: int) -> None:
        """Refuse a request with too many items; the doors ask before they convert them.

        Raises:
            TooManyItems: more than the limit.
        """
        if count > self._max_items:
            message = f"{member} has {count} entries, more than the limit of {self._max_items}"
            raise errors.TooManyItems(message, path=(member,))

    def check_room(self, task: str, ref: ModelRef, call: Call) -> None:
        """Refuse a request that would wait too long; the doors ask before they read or convert it.

        Raises:
            QueueFull: the queue has no room, or no time, for one more row, as long as others.
        """
        if self._draining:
            return  # which is what it will be told
        started = perf_counter()
        try:
            self._runner.check_room(ref.name, call.deadline)
        except errors.QueueFull as error:
            self._metrics.of(self._metrics.rejected, error.reason).inc()
            self._count(self._known(ref), task, call, error.code.value, error.reason, started)
            raise

    async def drain(self, seconds: float) -> None:
        """Take no new request, and wait up to `seconds` for those that are open."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            pass  # the transports cancel what is left

    async def _counted(self, task: str, ref: ModelRef, body: Body, call: Call) -> Answered:
        """Own a request's count and time, whatever its end."""
        started, labels, code, reason = (
            perf_counter(),
            (OTHER, NONE),
            "INTERNAL",
            errors.Unexpected.reason,
        )
        self._enter(call)
        try:
            served = await self._find(task, ref, call)
            labels = (served.model, str(served.version))
            answered = await self._answer(task, ref, served, body, call)
            labels = (answered.model, str(answered.version))
            code, reason = OK, NO_REASON
            return answered
        except SeqserveError as error:
            labels = labels if labels[0] != OTHER else self._known(ref)
            code, reason = error.code.value, error.reason
            raise
        except asyncio.CancelledError:
            code, reason = errors.Cancelled.code.value, errors.Cancelled.reason
            raise
        finally:
            self._leave(call)
            self._count(labels, task, call, code, reason, started)

    def _count(
        self, labels: tuple[str, str], task: str, call: Call, code: str, reason: str, started: float
    ) -> None:
        metrics, seconds = self._metrics, perf_counter() - started
        metrics.of(metrics.requests, *labels, task, call.transport, code, reason).inc()
        metrics.of(metrics.request_seconds, *labels, task, call.transport).observe(seconds)

    def _enter(self, call: Call) -> None:
        self._open += 1
        self._idle.clear()
        self._metrics.of(self._metrics.in_flight, call.transport).inc()

    def _leave(self, call: Call) -> None:
        self._open -= 1
        self._metrics.of(self._metrics.in_flight, call.transport).dec()
        if not self._open:
            self._idle.set()

    def _known(self, ref: ModelRef) -> tuple[str, str]:
        """Return metric labels for a request that reached no version: only names that exist."""
        return (ref.name if ref.name in self._catalog else OTHER, NONE)

    async def _find(self, task: str, ref: ModelRef, call: Call) -> Served:
        if self._draining:
            raise _draining()
        async with _until(call) if ref.label is not None else nullcontext():  # only a label is asked for afar
            served = await self._catalog.resolve(ref)
        if served.manifest.task != TASKS[task]:
            raise errors.WrongTask(f"model {ref.name!r} is for {served.manifest.task}; it cannot {task}")
        return served

    async def _answer(self, task: str, ref: ModelRef, served: Served, body: Body, call: Call) -> Answered:
        member = MEMBERS[task]
        count = len(getattr(body, member))
        if not count:
            raise errors.EmptyRequest(f"{member} is empty", path=(member,))
        self.check_count(member, count)
        outcomes = await self._runner.run(served, body, call.deadline)
        if ref.version is None and _may_be_gone(outcomes):
            try:
                served, outcomes = await self._again(task, ref, served, body, call, outcomes)
            except SeqserveError:
                self._count_items(task, served, call, outcomes)
                raise
        self._count_items(task, served, call, outcomes)
        return Answered(served.model, served.version, served.digest, _settled(member, outcomes))

    async def _again(
        self, task: str, ref: ModelRef, served: Served, body: Body, call: Call, outcomes: list[Outcome]
    ) -> tuple[Served, list[Outcome]]:
        """Answer by what is current now, if the version that the items were encoded for has gone.

        The whole request moves on, once, so that no answer mixes two versions.
        """
        gone = any(isinstance(outcome, errors.VersionNotFound) for outcome in outcomes)
        async with _until(call):
            current = await self._find(task, ref, call)
            if current is served and gone:
                await self._catalog.renew(ref.name)
                current = await self._find(task, ref, call)
        if current is served and not gone:
            return served, outcomes
        outcomes = await self._runner.run(current, body, call.deadline)
        if any(isinstance(outcome, errors.VersionNotFound) for outcome in outcomes):
            told = f"version {current.version} of model {ref.name!r} went away while it was called"
            raise errors.BackendUnavailable(told, retry_after=1.0)
        return current, outcomes

    def _count_items(self, task: str, served: Served, call: Call, outcomes: Sequence[Outcome]) -> None:
        version = (served.model, str(served.version))
        for outcome in outcomes:
            if isinstance(outcome, SeqserveError):
                code, reason = outcome.code.value, outcome.reason
                if not isinstance(outcome, errors.InvalidArgument):
                    self._metrics.rejected.labels(reason).inc()
            else:
                code, reason = OK, NO_REASON
                for warning in getattr(outcome, "warnings", ()):
                    self._metrics.warnings.labels(*version, warning).inc()
            self._metrics.of(self._metrics.items, *version, task, call.transport, code, reason).inc()


def _draining() -> errors.Draining:
    return errors.Draining("the service is shutting down", retry_after=1.0)


@asynccontextmanager
async def _until(call: Call) -> AsyncIterator[None]:
    """Raise DeadlineExceeded where the block takes longer than the call may."""
    try:
        async with asyncio.timeout_at(call.deadline):
            yield
    except TimeoutError:
        raise errors.DeadlineExceeded("the deadline passed before there was an answer") from None


def _may_be_gone(outcomes: Sequence[Outcome]) -> bool:
    """Tell whether the backend had the version no longer, or nobody there who could tell."""
    return any(isinstance(o, (errors.VersionNotFound, errors.BackendUnavailable)) for o in outcomes)


def _settled(member: str, outcomes: Sequence[Outcome]) -> tuple[Item, ...]:
    """Put each fault in its item's place.

    Raises:
        SeqserveError: every item failed; the first one's error, with a violation for each.
    """
    faults = [
        outcome.at(member, place)
        for place, outcome in enumerate(outcomes)
        if isinstance(outcome, SeqserveError)
    ]
    if len(faults) == len(outcomes):
        raise faults[0].among(tuple(violation for fault in faults for violation in fault.violations))
    return tuple(
        FailedItem(Fault(outcome.code.value, outcome.reason, outcome.message))
        if isinstance(outcome, SeqserveError)
        else outcome
        for outcome in outcomes
    )
