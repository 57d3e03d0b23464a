"""How a service is asked, without asking: what to send, when to wait, what to send again, how lists are cut.

Each function is a generator of steps, which `Client` takes by blocking and `AsyncClient` by awaiting: it
yields what is to be done, and is sent what came of it or has the error thrown in.
"""

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from seqserve.client import checking, errors
from seqserve.client.answers import Answers, ModelVersion, SessionState
from seqserve.client.asking import MEMBERS, ONCE, Ask, Kind, Which, body, which
from seqserve.client.errors import ServiceError, Violation

SECONDS, RETRIES, PARALLEL, PART = 60.0, 3, 4, 64
FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds before the second try, twice as many before each further one, where the service names none."""
MOST_ITEMS = 1024
"""Of a request, as the service has it by default; one that takes fewer says so, and lists are cut smaller."""
CLOSED = "the client is closed"
TOO_MUCH = (
    errors.TooManyItems,
    errors.BodyTooLarge,
    errors.RequestTooCostly,
    errors.MalformedMessage,  # it has more values than the service reads
)
NOT_DONE = (
    errors.QueueFull,
    errors.RateLimited,
    errors.Draining,
    errors.NotReady,
    errors.TooManyConnections,
)
"""Refused before anything was done."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this and return its answer, within so many seconds."""

    ask: Ask
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Together:
    """Take these steps at once, a few at a time, and return what came of each."""

    all: Sequence["Steps[Any]"]


Step = Send | Wait | Together
Result = TypeVar("Result")
Steps = Generator[Step, Any, Result]
Fates = list[Any]
"""Of items: an answer each, or a ServiceError."""


@dataclass(slots=True)
class Core:
    """Decides for one client.

    Args:
        timeout: seconds of a call that names none.
        retries: how often one request is sent again at most.
        clock: seconds, monotonic.
        chance: from 0 to 1, so that many clients do not come back at once.
    """

    timeout: float | None
    retries: int
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    _most_items: int = field(default=MOST_ITEMS, init=False)

    def ask(self, ask: Ask, timeout: float | None) -> Steps[Any]:
        """Have a request answered."""
        return self.call(ask, self._deadline(timeout))

    def ask_list(
        self, kind: Kind, model: str, items: Sequence[Any], options: Mapping[str, Any]
    ) -> Steps[Answers[Any]]:
        """Have each item of a list answered, in as many requests as it takes."""
        listed = list(checking.items(MEMBERS[kind], items))
        ask = Ask(kind, which(model, options), {MEMBERS[kind]: listed, **body(kind, options)})
        return self.answers(ask, self._deadline(options.get("timeout")))

    def stream(
        self, kind: Kind, model: str, items: Iterable[Any], size: int, options: Mapping[str, Any]
    ) -> "Stream":
        """Have items answered part by part, each in its own time."""
        ask = Ask(kind, which(model, options), body(kind, options))
        return Stream(self, ask, checking.items(MEMBERS[kind], items), size, options.get("timeout"))

    def part(self, part: "_Part", timeout: float | None) -> Steps[tuple[ModelVersion | None, Fates]]:
        """Return who answered a part of a list, and what became of each item."""
        return self._part(part, self._deadline(timeout))

    def opening(self, model: str, id: str, options: Mapping[str, Any]) -> Ask:
        """Return what makes a session, or takes one up."""
        kind = Kind.GET_SESSION if id else Kind.CREATE_SESSION
        return Ask(kind, which(model, options), body(kind, options), session=id)

    def append(
        self, which: Which, session: SessionState, events: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Steps[Any]:
        """Have events appended."""
        given = body(Kind.APPEND, options)
        content = {"first_event": session.next_event, "sequence": events, **given}
        return self.ask(Ask(Kind.APPEND, which, content, session.id), options.get("timeout"))

    def _deadline(self, timeout: float | None) -> float | None:
        """Return when a call that begins now must be over."""
        seconds = self.timeout if timeout is None else timeout
        return None if seconds is None else self.clock() + seconds

    def call(self, ask: Ask, deadline: float | None) -> Steps[Any]:
        """Send one request until it is answered, refused for good, or out of time."""
        for count in range(self.retries + 1):
            try:
                return (yield Send(ask, self._left(deadline)))
            except ServiceError as error:
                wait = self._wait(error, count)
                if count == self.retries or not may_repeat(error, ask):
                    raise
                if deadline is not None and self.clock() + wait >= deadline:
                    raise
            yield Wait(wait)
        raise AssertionError  # the last round returns or raises

    def _left(self, deadline: float | None) -> float | None:
        if deadline is None:
            return None
        left = deadline - self.clock()
        if left <= 0:
            raise errors.DeadlineExceeded("the time of the call was over before it was sent")
        return left

    def _wait(self, error: ServiceError, count: int) -> float:
        """Return seconds; never fewer than the service asks for."""
        return (error.retry_after or 0.0) + self.chance() * min(LONGEST_WAIT, FIRST_WAIT * 2.0**count)

    # --- lists -----------------------------------------------------------------------------------

    def answers(self, ask: Ask, deadline: float | None) -> Steps[Answers[Any]]:
        """As `ask_list`; the first part's version answers the others too."""
        items = ask.body[MEMBERS[ask.kind]]
        rest = self.cut(ask, 0, len(items)) or [_Part(ask, 0)]
        fates: Fates = []
        model = None
        while rest and model is None:
            model, first = yield from self._part(rest.pop(0), deadline)
            fates += first
        if rest and model is not None:
            pinned = [part.by(model) for part in rest]
            parts = yield Together([self._part(part, deadline) for part in pinned])
            fates += [fate for _, fated in parts for fate in fated]
        if model is None:
            raise _all_failed(fates)
        return Answers(model, tuple(fates))

    def cut(self, ask: Ask, start: int, end: int) -> list["_Part"]:
        """Return the requests for the items from start to end, none of more than the service takes."""
        member = MEMBERS[ask.kind]
        places = range(start, end, self._most_items)
        return [_Part(_with(ask, ask.body[member][i : min(i + self._most_items, end)]), i) for i in places]

    def _part(self, part: "_Part", deadline: float | None) -> Steps[tuple[ModelVersion | None, Fates]]:
        """Return who answered, and what became of each item; None: nobody, as each has failed."""
        try:
            checking.check_items(part.member, part.ask.body[part.member])
            answered: Answers[Any] = yield from self.call(part.ask, deadline)
        except ServiceError as error:
            if is_too_much(error) and part.count == 1:
                return None, [part.seen(error)]
            fates = _fates(error, part)
            if fates is not None:
                return None, fates
            if part.count < 2 or not (is_too_much(error) or error.left_out):
                raise
            if isinstance(error, errors.TooManyItems):
                self._most_items = min(self._most_items, (part.count + 1) // 2)
        else:
            return answered.model, [part.seen(item) for item in answered.items]
        return (yield from self._halves(part, deadline))

    def _halves(self, part: "_Part", deadline: float | None) -> Steps[tuple[ModelVersion | None, Fates]]:
        model, fates = yield from self._part(part.half(0), deadline)
        second = part.half(1) if model is None else part.half(1).by(model)
        other, more = yield from self._part(second, deadline)
        return model or other, fates + more


class Stream:
    """A list of any length, perhaps without end, that is taken and answered part by part.

    Args:
        size: items of a part.
    """

    def __init__(self, core: Core, ask: Ask, items: Iterable[Any], size: int, timeout: float | None) -> None:
        if size < 1:
            raise ValueError(f"a part has at least one item, not {size}")
        self.model: ModelVersion | None = None
        self._core = core
        self._ask = ask
        self._items = iter(items)
        self._size = size
        self._timeout = timeout

    def parts(self) -> Iterator[Steps[Fates]]:
        """Yield, for each part, the steps that have it answered; once one was, by the version that did."""
        start = 0
        while items := list(islice(self._items, self._size)):
            part = _Part(_with(self._ask, items), start)
            yield self._answered(part if self.model is None else part.by(self.model))
            start += len(items)

    def _answered(self, part: "_Part") -> Steps[Fates]:
        model, fates = yield from self._core.part(part, self._timeout)
        self.model = self.model or model
        return fates


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of the items of a list, from one place on."""

    ask: Ask
    start: int

    @property
    def member(self) -> str:
        return MEMBERS[self.ask.kind]

    @property
    def count(self) -> int:
        return len(self.ask.body[self.member])

    def by(self, model: ModelVersion) -> "_Part":
        """Return the same, to be answered by a version."""
        return _Part(
            replace(self.ask, which=replace(self.ask.which, version=model.version, label=None)), self.start
        )

    def half(self, which: int) -> "_Part":
        items, middle = self.ask.body[self.member], (self.count + 1) // 2
        half = items[middle:] if which else items[:middle]
        return _Part(_with(self.ask, half), self.start + which * middle)

    def seen(self, item: Any) -> Any:
        """Return an item's error as the whole list has it; an answer as it is."""
        if not isinstance(item, ServiceError):
            return item
        return _listing(item, [self.moved(violation) for violation in item.errors])

    def moved(self, violation: Violation) -> Violation:
        """Return a fault with its place in the whole list."""
        place = self.place(violation)
        if place is None:
            return violation
        old, new = (f"#/{self.member}/{place + start}" for start in (0, self.start))
        return replace(violation, pointer=new + violation.pointer.removeprefix(old))

    def place(self, violation: Violation) -> int | None:
        """Return which of the items is at fault."""
        root, _, behind = violation.pointer.partition(f"#/{self.member}/")
        number = behind.partition("/")[0]
        return int(number) if not root and number.isdecimal() else None


def _with(ask: Ask, items: Sequence[Any]) -> Ask:
    return replace(ask, body={**ask.body, MEMBERS[ask.kind]: items})


def may_repeat(error: ServiceError, ask: Ask) -> bool:
    """Whether the same may be sent again: it was not done, or doing it again changes nothing."""
    if isinstance(error, errors.Unreachable):
        return not error.sent or ask.kind not in ONCE
    if isinstance(error, NOT_DONE):
        return True
    known = isinstance(error, errors.Unavailable) or (
        isinstance(error, errors.ResourceExhausted) and error.retry_after is not None
    )
    return known and ask.kind not in ONCE


def is_too_much(error: ServiceError) -> bool:
    """Whether fewer items may fit. What grpc itself finds too large has no reason."""
    return isinstance(error, TOO_MUCH) or (isinstance(error, errors.ResourceExhausted) and not error.reason)


def _fates(error: ServiceError, part: _Part) -> Fates | None:
    """Return each item's own error, where the request failed because every one did and all are told."""
    places: Mapping[int | None, Violation] = {part.place(fault): fault for fault in reversed(error.errors)}
    if error.left_out or set(places) != set(range(part.count)):
        return None
    return [part.seen(_fate(error, places[place])) for place in range(part.count)]


def _fate(error: ServiceError, fault: Violation) -> ServiceError:
    kind = errors.kind_of(error.code, fault.reason)
    code = kind.code if kind.reason else error.code
    return kind(fault.message, code=code, reason=fault.reason, errors=[fault], request_id=error.request_id)


def _all_failed(fates: Fates) -> ServiceError:
    """Return the first item's error with the faults of all."""
    first: ServiceError = fates[0]
    return _listing(first, [fault for fate in fates for fault in fate.errors])


def _listing(error: ServiceError, faults: Sequence[Violation]) -> ServiceError:
    return type(error)(
        error.message,
        code=error.code,
        reason=error.reason,
        errors=faults,
        request_id=error.request_id,
        retry_after=error.retry_after,
        left_out=error.left_out,
    )
