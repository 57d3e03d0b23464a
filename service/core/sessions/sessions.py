"""Sessions: made, appended to, looked at, deleted. The gateway lets callers in; this does what they ask.

An append is one read of the store, the steps, and one write that takes effect only where the number of the
next event is still the one that was read. So two gateways cannot both append, and what was acknowledged is in
the store. Whoever comes second finds its events there, and has their answer, or others, and is told.
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqserve.service import errors
from seqserve.service.contract.events import Events, count, features_of, joined, part
from seqserve.service.contract.features import Encoded
from seqserve.service.contract.items import Prediction
from seqserve.service.contract.padding import Row
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.items import Admission, ItemRunner
from seqserve.service.core.sessions.session import OtherFormat, Session, pack, unpack
from seqserve.service.core.sessions.steps import Details, Options, Stepper, Steppers, Steps
from seqserve.service.core.sessions.store import Kept, MemoryStore, Store
from seqserve.service.core.types import Call, ModelRef, Outputs, Served
from seqserve.service.errors import SeqserveError
from seqserve.service.metrics import Metrics

ID = re.compile(r"[A-Za-z0-9_-]{22}")
ID_BYTES = 16
ATTEMPTS = 4
"""How often an append begins anew where another was first, or the version went away."""
MOVED, KEPT, EXPIRED = "moved", "kept", "expired"
MIB = 2**20
MEMORY = 256 * MIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a session may be.

    Args:
        seconds: after which one may be forgotten that has not changed.
        replay: events, up to which a session moves to another version by replaying them.
        data: bytes that one may take.
    """

    seconds: float = 7 * 86_400.0
    replay: int = 256
    data: int = MIB


@dataclass(frozen=True, slots=True)
class Append:
    """What is asked of a session: events to be appended, and an answer after the last of them.

    Args:
        first_event: the number of the first of them, counted from 0.
        features: the events, as `SequenceEncoder.encode` takes a sequence.
    """

    first_event: int
    features: Mapping[str, Any]
    options: Options = Options()  # noqa: RUF009  # it is frozen


@dataclass(frozen=True, slots=True)
class Appended:
    """The session as it is now, and the answer after the last event that was sent."""

    session: Session
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class _Way:
    """How a session goes on: which version takes it from which outputs through which steps."""

    served: Served
    stepper: Stepper
    outputs: Outputs
    rows: Sequence[Row]
    details: Details


class Sessions:
    """All sessions of one store, for the versions of one catalog.

    Args:
        clock: tells Unix time.
    """

    def __init__(
        self,
        catalog: Catalog,
        runner: ItemRunner,
        store: Store,
        metrics: Metrics,
        bounds: Bounds = Bounds(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._runner = runner
        self._store = store
        self._metrics = metrics
        self._bounds = bounds
        self._clock = clock
        self._steppers = Steppers()

    async def create(self, served: Served, ref: ModelRef, call: Call) -> Session:
        """Make a session of a version that a reference stands for now, before any event.

        Raises:
            StepUnsupported; SessionsUnavailable.
        """
        stepper = self._steppers.of(served)
        session = Session(
            secrets.token_urlsafe(ID_BYTES),
            ref,
            call.principal.name,
            served.version,
            served.digest,
            stepper.start(),
            expires=self._clock() + self._bounds.seconds,
        )
        await self._put(session, None)
        return session

    async def get(self, ref: ModelRef, id: str, call: Call) -> Session:
        """Return a session of the caller's.

        Raises:
            SessionNotFound; SessionsUnavailable.
        """
        if not ID.fullmatch(id):
            raise _not_found(id)
        kept = await self._store.get(id)
        if kept is None:
            raise _not_found(id)
        try:
            session = unpack(kept.data)
        except OtherFormat as error:
            raise errors.SessionExpired(f"session {id} was written by another release: {error}") from error
        if session.principal != call.principal.name or not _is_of(session.ref, ref):
            raise _not_found(id)
        return session

    async def delete(self, ref: ModelRef, id: str, call: Call) -> None:
        """Forget a session of the caller's.

        Raises:
            SessionNotFound; SessionsUnavailable.
        """
        await self.get(ref, id, call)
        await self._store.delete(id)

    async def append(
        self, ref: ModelRef, id: str, asked: Append, call: Call, admission: Admission
    ) -> Appended:
        """Append events to a session of the caller's, and answer after the last of them.

        Events that the session has already are compared and not appended again.

        Raises:
            SessionNotFound, SessionExpired, StepUnsupported; EventGap, EventConflict; InvalidArgument with a
            path inside the body; SessionsUnavailable; what `ItemRunner.advance` raises.
        """
        if asked.first_event < 0:
            message = f"first_event is {asked.first_event}; events are counted from 0"
            raise errors.OptionOutOfRange(message, path=("first_event",))
        for _ in range(ATTEMPTS):
            session = await self.get(ref, id, call)
            try:
                appended = await self._appended(session, asked, call, admission)
            except errors.VersionNotFound:  # the backend had it no more
                await self._catalog.renew(session.ref.name)
                continue
            if appended is not None:
                return appended
        message = f"session {id}: another call was first, or its version went away, {ATTEMPTS} times"
        raise errors.BackendUnavailable(message, retry_after=1.0)

    async def _appended(
        self, session: Session, asked: Append, call: Call, admission: Admission
    ) -> Appended | None:
        """Append, or return None where another call has changed the session meanwhile."""
        there_are = session.next_event
        if asked.first_event > there_are:
            there = f"session {session.id} has {there_are} events"
            raise errors.EventGap(f"{there}; first_event is {asked.first_event}", path=("first_event",))
        own, current = await self._versions(session)
        stepper = self._stepper(session, own, current)
        plan = stepper.plan(asked.options)
        try:
            events, encoded = stepper.read(asked.features)
            end = asked.first_event + count(events)
            new = _new(session, asked.first_event, events)
            if end <= there_are:
                return await self._again(session, end, own or current, asked.options, call, admission)
            whole = encoded if new is events and own is not None else None
            way = self._way(session, new, whole, own, current)
            together = joined(session.events, new)
        except errors.InvalidArgument as error:
            raise error.at("sequence") from None
        if way.stepper is not stepper:
            plan = way.stepper.plan(asked.options)
        outputs = await self._runner.advance(
            way.served, way.rows, way.outputs, call.deadline, admission, call.principal.name
        )
        prediction = way.stepper.decode(plan, way.details, outputs)
        after = session.later(
            version=way.served.version,
            digest=way.served.digest,
            outputs=way.stepper.kept(outputs),
            events=together,
            details=way.details,
            expires=self._clock() + self._bounds.seconds,
        )
        is_kept = await self._put(after, there_are)
        return Appended(after, prediction) if is_kept else None

    async def _versions(self, session: Session) -> tuple[Served | None, Served | None]:
        """Return the version whose state a session has, and the one that it is to have; None: it is gone."""
        own = current = None
        try:
            current = await self._catalog.resolve(session.ref)
            if _is_state_of(session, current):
                return current, current
        except (errors.VersionNotFound, errors.LabelNotFound):
            pass
        try:
            own = await self._catalog.resolve(ModelRef(session.ref.name, session.version))
        except SeqserveError:  # gone, refused, or examined again
            return None, current
        return own if _is_state_of(session, own) else None, current

    def _stepper(self, session: Session, own: Served | None, current: Served | None) -> Stepper:
        """Return what reads a session's events; raises SessionExpired where nothing can go on with it."""
        if own is not None:
            return self._steppers.of(own)
        try:
            if current is not None:
                return self._steppers.of(current)
        except errors.StepUnsupported:
            pass
        raise self._expired(session)

    async def _again(
        self,
        session: Session,
        end: int,
        served: Served | None,
        options: Options,
        call: Call,
        admission: Admission,
    ) -> Appended:
        """Answer once more after an event that the session has."""
        assert served is not None  # else it has expired
        if end == session.next_event and _is_state_of(session, served):
            stepper = self._steppers.of(served)
            prediction = stepper.decode(stepper.plan(options), session.details, session.outputs)
            return Appended(session, prediction)
        so_far = options.body([features_of(part(session.events, 0, end))])
        (outcome,) = await self._runner.run(served, so_far, call.deadline, admission, call.principal.name)
        if isinstance(outcome, errors.InvalidArgument):
            raise self._expired(session) from outcome
        if isinstance(outcome, SeqserveError):
            raise outcome
        assert isinstance(outcome, Prediction)
        return Appended(session.later(version=served.version, digest=served.digest), outcome)

    def _way(
        self,
        session: Session,
        new: Events,
        encoded: Encoded | None,
        own: Served | None,
        current: Served | None,
    ) -> _Way:
        """Return how a session goes on: by its own version, or by another where it can move to that.

        Args:
            encoded: the new events, as its own version has read them.

        Raises:
            SessionExpired; InvalidArgument with a path inside the new events.
        """
        if current is not None and current is not own:
            moved = self._moved(session, new, current)
            if moved is not None or own is not None:
                self._count(MOVED if moved is not None else KEPT)
            if moved is not None:
                return moved
        if own is None:
            raise self._expired(session)
        stepper = self._steppers.of(own)
        steps = stepper.steps(session.events, new, encoded)
        details = stepper.merged((*session.details, *steps.details))
        return _Way(own, stepper, session.outputs, steps.rows, details)

    def _moved(self, session: Session, new: Events, served: Served) -> _Way | None:
        """Return how another version replays a session; None: it cannot, or there is too much of it."""
        if session.next_event > self._bounds.replay:
            return None
        try:
            stepper = self._steppers.of(served)
            before = stepper.steps({}, session.events) if session.next_event else Steps((), ())
        except (errors.StepUnsupported, errors.InvalidArgument):
            return None
        after = stepper.steps(session.events, new)
        details = stepper.merged((*before.details, *after.details))
        return _Way(served, stepper, stepper.start(), (*before.rows, *after.rows), details)

    def _expired(self, session: Session) -> errors.SessionExpired:
        self._count(EXPIRED)
        model = f"model {session.ref.name!r}"
        return errors.SessionExpired(
            f"session {session.id} is of version {session.version} of {model}, which is gone, and its "
            f"{session.next_event} events cannot be replayed by another (at most {self._bounds.replay} are: "
            f"SEQSERVE_SESSION_REPLAY_EVENTS)",
            limit="session_replay_events" if session.next_event > self._bounds.replay else "",
        )

    def _count(self, outcome: str) -> None:
        self._metrics.of(self._metrics.session_moves, outcome).inc()

    async def _put(self, session: Session, expected: int | None) -> bool:
        data = pack(session)
        if len(data) > self._bounds.data:
            message = f"the session would take {len(data)} bytes, more than the limit of {self._bounds.data}"
            raise errors.SequenceTooLong(message, path=("sequence",), limit="session_bytes")
        return await self._store.put(session.id, session.principal, Kept(session.next_event, data), expected)


def in_memory(catalog: Catalog, runner: ItemRunner, metrics: Metrics, bounds: Bounds = Bounds()) -> Sessions:
    """Return sessions that are kept in this process."""
    return Sessions(catalog, runner, MemoryStore(MEMORY, bounds.seconds, metrics), metrics, bounds)


def _new(session: Session, first: int, events: Events) -> Events:
    """Return those events that the session has not; raises EventConflict where it has others."""
    known = min(session.next_event - first, count(events))
    if known <= 0:
        return events
    if part(events, 0, known) != part(session.events, first, first + known):
        message = f"session {session.id} has other events at the numbers {first} to {first + known - 1}"
        raise errors.EventConflict(message, path=("first_event",))
    return part(events, known)


def _is_state_of(session: Session, served: Served) -> bool:
    return (session.version, session.digest) == (served.version, served.digest)


def _is_of(made: ModelRef, asked: ModelRef) -> bool:
    """Tell whether a session is found where it is asked for: under its model, or as it was made."""
    return made.name == asked.name and (asked in (made, ModelRef(made.name)))


def _not_found(id: str) -> errors.SessionNotFound:
    return errors.SessionNotFound(f"no session {id[:30]!r} of this caller and model")
