"""What every call crosses at either door: recognized, within its limits, and written down when it ends.

A door's edge translates its transport into `Credentials`, and the errors that leave here into its own form.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter

from seqserve.service.core.limits import Limits
from seqserve.service.core.recorder import ending
from seqserve.service.core.types import Call, Principal, Visit
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.recognizer import Credentials, Recognizer
from seqserve.service.errors import ResourceExhausted, SeqserveError
from seqserve.service.metrics import Metrics

NO_PLACE = nullcontext()
"""That of a call which anybody may make."""
MOST_HELD = 2048
"""Refusals that are told later, at once: each keeps a connection or a call of its caller open."""


class Entrance:
    """Takes calls in, and out again."""

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        access_log: AccessLog,
        metrics: Metrics,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._recognizer = recognizer
        self._limits = limits
        self._access_log = access_log
        self._metrics = metrics
        self._clock = clock
        self._leaving = asyncio.Event()
        self._held = 0

    def crossing(
        self,
        credentials: Credentials,
        transport: str,
        deadline: Callable[[], float],
        id: str,
        is_open: bool = False,
    ) -> AbstractContextManager[Call]:
        """Take a call in: a context, in which it is answered.

        Args:
            deadline: returns the absolute deadline, on the event loop's clock; may raise what the door then
                shows. It is asked once the caller is known.
            id: the request's.
            is_open: whether anybody may, as often as they like: a probe's question, a page.

        Raises:
            Unauthenticated; RateLimited.
        """
        return _Crossing(self, _Arrival(self._clock(), credentials, transport, id), deadline, is_open)

    def _recognized(self, arrival: "_Arrival", is_open: bool) -> AbstractContextManager[None]:
        """Say who calls, and return its place."""
        if is_open:  # what anybody may ask is no leave to ask for more
            arrival.principal = Principal(self._recognizer.address(arrival.credentials), frozenset())
            return NO_PLACE
        arrival.principal = self._recognizer.principal(arrival.credentials)
        return self._limits.calling(arrival.principal.name)

    async def held(self, error: BaseException) -> None:
        """Wait for as long as a refusal is told later, unless the service leaves, or as many wait as may."""
        if not isinstance(error, ResourceExhausted) or not error.told_after or self._held == MOST_HELD:
            return
        self._held += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(error.told_after):
                    await self._leaving.wait()
        finally:
            self._held -= 1

    def leave(self) -> None:
        """Hold no refusal back any more."""
        self._leaving.set()

    def refused(self, error: SeqserveError, address: str, transport: str, id: str = "") -> None:
        """Count what a door refused before there was a call, and write it down if it was answered.

        Args:
            id: the answer's; empty: there was none.
        """
        self._left(_Arrival(self._clock(), Credentials(address), transport, id), error)

    def _left(self, arrival: "_Arrival", error: BaseException | None) -> None:
        """Count and write down how a call ended."""
        call, metrics = arrival.call, self._metrics
        code, reason = ending(error, call)
        if call is None:
            metrics.of(metrics.turned_away, arrival.transport, reason).inc()
        if isinstance(error, SeqserveError) and error.limit:
            metrics.of(metrics.limit_hits, error.limit).inc()
        if arrival.id:
            visit = call.visit if call is not None else Visit()
            seconds = self._clock() - arrival.began
            who = (
                {"principal": arrival.principal.name}
                if arrival.principal is not None
                else {"address": self._recognizer.address(arrival.credentials)}
            )
            self._access_log.write(visit, code, reason, seconds, arrival.id, arrival.transport, **who)


@dataclass(slots=True)
class _Arrival:
    """A call that stands in the entrance: the principal and the `Call` come one after the other."""

    began: float
    credentials: Credentials
    transport: str
    id: str
    principal: Principal | None = None
    call: Call | None = None


class _Crossing:
    """One call's way through the entrance."""

    __slots__ = ("_arrival", "_deadline", "_entrance", "_is_open", "_place")

    def __init__(
        self, entrance: Entrance, arrival: _Arrival, deadline: Callable[[], float], is_open: bool
    ) -> None:
        self._entrance = entrance
        self._arrival = arrival
        self._deadline = deadline
        self._is_open = is_open

    def __enter__(self) -> Call:
        arrival = self._arrival
        try:
            self._place = self._entrance._recognized(arrival, self._is_open)
            self._place.__enter__()
            try:
                assert arrival.principal is not None  # it has been recognized
                arrival.call = Call(arrival.transport, self._deadline(), arrival.id, arrival.principal)
            except BaseException:
                self._place.__exit__(None, None, None)
                raise
        except BaseException as error:
            self._entrance._left(arrival, error)
            raise
        return arrival.call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._place.__exit__(None, None, None)
        self._entrance._left(self._arrival, error)
