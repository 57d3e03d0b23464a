"""The one door behind both transports: find the model that is meant, and answer a request's items.

`service.rest` and `service.rpc` convert and call; nothing else reaches a model.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.entries import draining
from seqserve.service.core.items import Admission, ItemRunner
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.outcomes import is_gone, may_be_gone, settled, shown, went_away
from seqserve.service.core.recorder import Record, Recorder
from seqserve.service.core.requests import Open, until
from seqserve.service.core.sessions.session import Session
from seqserve.service.core.sessions.sessions import Append, Appended, Sessions, in_memory
from seqserve.service.core.standing import VersionReport
from seqserve.service.core.tasks import SEQUENCE, Tasks
from seqserve.service.core.types import (
    NOBODY,
    Answered,
    Asked,
    Call,
    Come,
    ModelRef,
    Order,
    Outcome,
    Placed,
    Principal,
    Served,
    Task,
)
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A model as both doors show it."""

    name: str
    versions: tuple[VersionReport, ...]
    current: Served | None


class Gateway:
    """Answers requests from the catalog's versions: unready once it leaves, refusing once it drains."""

    def __init__(
        self,
        catalog: Catalog,
        runner: ItemRunner,
        metrics: Metrics,
        max_items: int,
        clock: Callable[[], float] = perf_counter,
        *,
        limits: Limits | None = None,
        sessions: Sessions | None = None,
    ) -> None:
        self._limits = limits if limits is not None else Limits(Shares())
        self._catalog = catalog
        self._runner = runner
        self._recorder = Recorder(metrics, catalog.__contains__, clock)
        self._max_items = max_items
        self._sessions = sessions or in_memory(catalog, runner, metrics)
        self._open = Open()
        self._leaving = False
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
        if self._leaving or self._draining:
            return draining()
        return self._catalog.unready(model)

    def leave(self) -> None:
        """Be unready from now on, so that callers go elsewhere; those who still come are answered."""
        self._leaving = True

    @property
    def tasks(self) -> Tasks:
        """What can be asked; both doors have a call for each."""
        return self._catalog.tasks

    def models(self, principal: Principal = NOBODY) -> list[ModelReport]:
        """Return every model that a principal may do anything with."""
        return [self.model(name) for name in self._catalog.models() if principal.sees(name)]

    def model(self, name: str, principal: Principal = NOBODY) -> ModelReport:
        """Return one model; raises PermissionDenied, ModelNotFound."""
        if not principal.sees(name):
            raise _denied(principal, "see", name, f"of it, such as *:{name[:60]}")
        return ModelReport(name, tuple(self._catalog.versions(name)), self._catalog.current(name))

    def current(self, name: str, principal: Principal) -> Served | None:
        """Return the version that answers for a model now; None where a principal may know of none.

        For protocols that do not say what they ask of a model.
        """
        if name not in self._catalog or not principal.sees(name):
            return None
        return self._catalog.current(name)

    async def meant(self, ref: ModelRef, call: Call) -> Served:
        """Return the version that a caller asks about.

        Raises:
            PermissionDenied; ModelNotFound, VersionNotFound, LabelNotFound, NotReady; or why it is refused.
        """
        self.model(ref.name, call.principal)
        async with until(call):
            return await self._catalog.resolve(ref)

    def check_room(self, task: Task, ref: ModelRef, call: Call) -> None:
        """Refuse a request that would wait too long. A door asks once, before it reads or converts one.

        Raises:
            PermissionDenied: the caller may not ask that of the model.
            QueueFull: the queue has no room, or no time, for one more row, taken to be as long as the others.
        """
        if not call.principal.may(task.verb, ref.name):
            with self._recorder.request(task.verb, ref, call):
                self._permit(task, ref, call)
        if self._draining:
            return  # `answer` says so
        try:
            self._runner.check_room(ref.name, call.deadline, call.principal.name)
        except errors.QueueFull as error:
            self._recorder.refused(task.verb, ref, call, error)
            raise

    async def answer(self, task: Task, ref: ModelRef, asked: Asked, call: Call) -> Answered:
        """Answer a request's items; the fault of one that failed stands in its place.

        Raises:
            SeqserveError: the request is at fault, no version can answer it, or every item failed.
        """
        with self._open, self._recorder.request(task.verb, ref, call) as record:
            served, body = await self._let_in(task, ref, asked, call, record)
            try:
                outcomes = await self._run(served, body, call)
            except (errors.ResourceExhausted, errors.Unavailable) as error:
                record.items([error] * asked.count)
                raise
            if ref.version is None and may_be_gone(outcomes):
                try:
                    served, outcomes = await self._again(task, ref, served, body, call, outcomes)
                except SeqserveError:
                    record.items(outcomes)
                    raise
                record.version(served.model, served.version)
            record.items(outcomes)
            items = settled(task.body_member, outcomes, asked.is_whole)
            return Answered(served.model, served.version, served.digest, items)

    async def stream(
        self, task: Task, ref: ModelRef, asked: Asked, call: Call, order: Order
    ) -> AsyncGenerator[Come]:
        """Answer a request's items as they come; the fault of one that failed stands in its place.

        Nothing is yielded before one item has been answered: until then the request fails as with `answer`,
        and moves on to another version where that of its items has gone. Few answers wait for a slow reader.

        Raises:
            SeqserveError: as `answer` does, before anything is yielded.
        """
        with self._open, self._recorder.request(task.verb, ref, call) as record:
            served, body = await self._let_in(task, ref, asked, call, record)
            held: list[Placed] = []  # faults, as long as all may come to fail
            is_answered = False
            try:
                async with aclosing(self._coming(task, ref, served, body, call, order)) as groups:
                    async for by, come in groups:
                        if by is not served:
                            served, held = by, []
                            record.version(served.model, served.version)
                        held += come
                        is_answered = is_answered or not all(isinstance(o, SeqserveError) for _, o in come)
                        if is_answered:
                            told, held = held, []
                            record.items([outcome for _, outcome in told])
                            items = shown(task.body_member, told)
                            yield Come(served.model, served.version, served.digest, items)
            except SeqserveError as error:
                is_busy = isinstance(error, errors.ResourceExhausted | errors.Unavailable)
                if not is_answered and (is_busy or call.visit.cells):  # which it has once it is let in
                    record.items([error] * asked.count)
                raise
            if not is_answered:
                outcomes = [outcome for _, outcome in sorted(held, key=lambda placed: placed[0])]
                record.items(outcomes)
                settled(task.body_member, outcomes, asked.is_whole)  # which raises

    async def create_session(self, ref: ModelRef, call: Call) -> Session:
        """Make a live sequence of a model, before any event.

        Raises:
            WrongTask, StepUnsupported; SessionsUnavailable; what looking the model up raises.
        """
        async with self._asking("create_session", ref, call) as record:
            served = await self._find(SEQUENCE, ref, call)
            record.version(served.model, served.version)
            return await self._sessions.create(served, ref, call)

    async def append(self, ref: ModelRef, id: str, asked: Append, call: Call) -> Appended:
        """Append events to a session, and answer after the last of them.

        Raises:
            SeqserveError: see `Sessions.append`. Where it is not known whether anything was appended, the
                same append again will tell.
        """
        async with self._asking("append", ref, call) as record:
            call.visit.items = 1
            try:
                appended = await self._sessions.append(ref, id, asked, call, self._admission(call))
            except SeqserveError as error:
                record.items([error])
                raise
            record.version(ref.name, appended.session.version)
            record.items([appended.prediction])
            return appended

    async def session(self, ref: ModelRef, id: str, call: Call) -> Session:
        """Return a session; raises SessionNotFound, SessionsUnavailable."""
        async with self._asking("get_session", ref, call):
            return await self._sessions.get(ref, id, call)

    async def delete_session(self, ref: ModelRef, id: str, call: Call) -> None:
        """Forget a session; raises SessionNotFound, SessionsUnavailable."""
        async with self._asking("delete_session", ref, call):
            await self._sessions.delete(ref, id, call)

    async def drain(self, seconds: float) -> None:
        """Take no new request, and wait up to `seconds` for those that are open."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._open.none()
        except TimeoutError:
            pass  # the transports cancel what is left

    @asynccontextmanager
    async def _asking(self, verb: str, ref: ModelRef, call: Call) -> AsyncIterator[Record]:
        """Answer something about sessions: a context, counted; who may predict may do that.

        Raises:
            PermissionDenied, Draining; ModelNotFound; DeadlineExceeded.
        """
        with self._open, self._recorder.request(verb, ref, call) as record:
            self._permit(SEQUENCE, ref, call)
            if self._draining:
                raise draining()
            self._catalog.versions(ref.name)
            async with until(call):
                yield record

    def _permit(self, task: Task, ref: ModelRef, call: Call) -> None:
        """Refuse what the caller may not ask, before anything is looked up; raises PermissionDenied."""
        if not call.principal.may(task.verb, ref.name):
            raise _denied(call.principal, f"{task.verb} with", ref.name, f"{task.verb}:{ref.name[:60]}")

    async def _let_in(
        self, task: Task, ref: ModelRef, asked: Asked, call: Call, record: Record
    ) -> tuple[Served, Body]:
        """Return who is to answer a request, and what it asks."""
        call.visit.items = asked.count
        self._permit(task, ref, call)
        served = await self._find(task, ref, call)
        record.version(served.model, served.version)
        return served, self._converted(task, asked)

    async def _find(self, task: Task, ref: ModelRef, call: Call) -> Served:
        if self._draining:
            raise draining()
        if ref.label is None:
            served = await self._catalog.resolve(ref)
        else:  # which may need the backend
            async with until(call):
                served = await self._catalog.resolve(ref)
        if served.task.name != task.name:
            raise errors.WrongTask(f"model {ref.name!r} is for {served.task.name}; it cannot {task.verb}")
        return served

    async def _run(self, served: Served, body: Body, call: Call, paid: int = 0) -> list[Outcome]:
        admission = self._admission(call, paid)
        return await self._runner.run(served, body, call.deadline, admission, call.principal.name)

    def _admission(self, call: Call, paid: int = 0) -> Admission:
        """Return what takes a request's cells of its principal's share, and writes them down."""
        return partial(self._computing, call, paid)

    def _computing(self, call: Call, paid: int, cells: int) -> AbstractContextManager[None]:
        call.visit.cells = cells
        return self._limits.computing(call.principal.name, cells, paid)

    def _converted(self, task: Task, asked: Asked) -> Body:
        """Convert a request that is not too long.

        Raises:
            TooManyItems, EmptyRequest; what the conversion raises.
        """
        member, limit = task.body_member, self._max_items
        if asked.count > limit:
            message = f"{member} has {asked.count} entries, more than the limit of {limit}"
            raise errors.TooManyItems(message, path=(member,), limit="max_items")
        body = asked.convert()
        if not getattr(body, member):
            raise errors.EmptyRequest(f"{member} is empty", path=(member,))
        return body

    async def _again(
        self, task: Task, ref: ModelRef, served: Served, body: Body, call: Call, outcomes: list[Outcome]
    ) -> tuple[Served, list[Outcome]]:
        """Answer by what is current now, if the version that the items were encoded for has gone.

        The whole request moves on, once, so that no answer mixes two versions.
        """
        gone = is_gone(outcomes)
        current = await self._current(task, ref, served, call, gone)
        if current is served and not gone:
            return served, outcomes
        outcomes = await self._run(current, body, call, paid=call.visit.cells)
        if is_gone(outcomes):
            raise went_away(current)
        return current, outcomes

    async def _current(self, task: Task, ref: ModelRef, served: Served, call: Call, gone: bool) -> Served:
        """Return what answers now, after another look where what did has gone."""
        async with until(call):
            current = await self._find(task, ref, call)
            if current is served and gone:
                await self._catalog.renew(ref.name)
                current = await self._find(task, ref, call)
        return current

    async def _coming(
        self, task: Task, ref: ModelRef, served: Served, body: Body, call: Call, order: Order
    ) -> AsyncGenerator[tuple[Served, Sequence[Placed]]]:
        """Yield outcomes as they come, with the version that they are of.

        Where it has gone before an item has been answered, the whole request moves on, once: what was yielded
        before counts no more.
        """
        may_move, paid = ref.version is None, 0
        while True:
            admission = self._admission(call, paid)
            come = self._runner.come(served, body, call.deadline, admission, call.principal.name, order)
            async with aclosing(come) as groups:
                async for group in groups:
                    outcomes = [outcome for _, outcome in group]
                    may_move = may_move and all(isinstance(outcome, SeqserveError) for outcome in outcomes)
                    if may_move and may_be_gone(outcomes):
                        may_move, gone = False, is_gone(outcomes)
                        current = await self._current(task, ref, served, call, gone)
                        if gone or current is not served:
                            served, paid = current, call.visit.cells
                            break
                    yield served, group if ref.version else [_never_gone(served, *placed) for placed in group]
                else:
                    return


def _denied(principal: Principal, action: str, model: str, scope: str) -> errors.PermissionDenied:
    """Return what is said whether or not there is such a model."""
    who = f"{principal.name!r} may not {action} model {model[:60]!r}"
    return errors.PermissionDenied(f"{who}: its key or token has no scope {scope}")


def _never_gone(served: Served, place: int, outcome: Outcome) -> Placed:
    """Return an outcome, of which nobody hears that there is no such version who has not asked for one."""
    return place, went_away(served) if isinstance(outcome, errors.VersionNotFound) else outcome
