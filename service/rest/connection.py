"""One connection of the REST door: who may open it, what it waits for and how long, and how it ends.

A phase has its seconds (`Phase`). One timer serves a connection: a phase moves its end, and the timer is set
again where it fires too early, so that a request costs none. Whoever is refused gets a problem, after the
answers to what was asked before it; what else was sent is then read for a moment and thrown away, because a
close with bytes unread makes the kernel throw away the answer.
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Any, cast

from starlette.types import Scope

from seqserve.service import errors
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import request_id
from seqserve.service.rest.edge import TRANSPORT
from seqserve.service.rest.exchange import Exchange, refusal
from seqserve.service.rest.half_closed import HalfClosed
from seqserve.service.rest.reader import Reader
from seqserve.service.rest.shared import Shared

CLOSE_SECONDS = 1.0
"""How long the rest of what a refused caller sends is read, and how long a close takes once all is sent."""
MOST_PIPELINED = 64
"""Requests of one connection that may be unanswered at once."""
MOST_TURNED_AWAY = 32
"""Connections beyond the room that are told so at once; those beyond them are just closed."""


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()  # the first byte of a request
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()  # has no seconds: its call has a deadline
    READER = auto()  # the caller, who does not read its answer
    CLOSE = auto()


LASTS = {
    Phase.IDLE: "idle_seconds",
    Phase.HEAD: "head_seconds",
    Phase.BODY: "body_seconds",
    Phase.READER: "body_seconds",
}
"""The setting that says how long a phase may last."""


class Connection(asyncio.BufferedProtocol):
    """A caller's connection: a queue of exchanges, of which the first is being answered.

    Args:
        peer: whose address has taken room for it already; None: it has none yet.
    """

    def __init__(self, shared: Shared, peer: str | None = None) -> None:
        self._shared = shared
        self.is_made = False
        self._peer = peer
        self._settings = shared.settings
        self._loop = asyncio.get_running_loop()
        self._exchanges: deque[Exchange] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self.is_writable = True
        self._is_paused = False  # nothing is read
        self._is_deaf = False  # what is read is thrown away
        self._half_closed: HalfClosed | None = None  # the caller sends nothing more, and waits for answers
        self._refusal: SeqserveError | None = None  # to be told once everything before it is answered
        self._phase = Phase.IDLE
        self._until = self._fires = self._flushed_by = 0.0  # on the loop's clock
        self._timer: asyncio.TimerHandle | None = None

    # --- the transport's calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or turn it away."""
        self.is_made = True
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        client = address_of(transport, "peername")
        self._client = client[0] if client is not None else ""
        self._reader = Reader(self._settings, self._described(client), self)
        self._shared.opened(self)
        if self._peer is None:
            try:
                self._shared.room.enter(self._client)
            except errors.TooManyConnections as error:
                self._turn_away(error)
                return
            self._peer = self._client
        self._shared.metrics.rest_connections.inc()
        self._expect_for(Phase.IDLE)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where what comes is put: it is read, or copied, before anything else comes.

        A view: TLS fills the rest of it by slices, which would be copies of an array.
        """
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read what came."""
        data = bytes(self._shared.buffer[:nbytes])
        if self._is_deaf:
            self._tell_refusal()
            return
        error = self._reader.feed(data)
        if error is not None:
            self._refuse(error)
        else:
            self._expect_due()

    def eof_received(self) -> bool:
        """Hear that nothing more will come; the connection is kept for answers to whole requests.

        By TLS it is not: there, who ends what it sends ends everything.
        """
        last = self._exchanges[-1] if self._exchanges else None
        if last is None or last.arrives or last.is_answered or not self._transport.can_write_eof():
            return False
        last.keeps = self._refusal is not None
        self._half_closed = HalfClosed(self._transport.write)
        self._probe(self._half_closed)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that belongs to the connection."""
        if self._timer is not None:
            self._timer.cancel()
        for exchange in self._exchanges:
            exchange.gone()
        self._writable.set()
        self._shared.closed(self)
        if self._peer is not None:
            self._shared.room.leave(self._peer)
            self._shared.metrics.rest_connections.dec()
        else:
            self._shared.turned_away -= 1

    def pause_writing(self) -> None:
        """Hear that the caller does not read what was sent."""
        self._writable.clear()
        self.is_writable = False
        self._expect_due()

    def resume_writing(self) -> None:
        """Hear that it does again."""
        self._writable.set()
        self.is_writable = True
        self._expect_due()

    # --- the reader's calls ------------------------------------------------------------------------

    def request(self, scope: Scope, keeps: bool, awaits_continue: bool) -> None:
        """Answer a request, after those before it; raises QueueFull where too many are."""
        if len(self._exchanges) == MOST_PIPELINED:
            raise errors.QueueFull(
                f"{MOST_PIPELINED} requests of this connection are unanswered, the most that may be; read an "
                f"answer first, or use more connections"
            )
        exchange = Exchange(self, self._shared, scope, keeps, awaits_continue)
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            self._start(exchange)
        else:
            self._pause()

    def part(self, part: bytes) -> None:
        """Hand on a part of a body."""
        if self._exchanges[-1].part(part):
            self._pause()

    def end(self) -> None:
        """Hand on the end of a body."""
        exchange = self._exchanges[-1]
        exchange.end()
        if exchange.is_answered:
            self._next()

    # --- the exchange's calls ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data if self._half_closed is None else self._half_closed.rest(data))

    async def writable(self) -> None:
        """Return once it has."""
        await self._writable.wait()

    def wants(self) -> None:
        """Read on, but not into what is asked after the request that is being answered."""
        if len(self._exchanges) < 2:
            self._resume()

    def answered(self) -> None:
        """Go on, or end, after the first exchange's answer."""
        exchange = self._exchanges[0]
        if not exchange.keeps:
            self._end(has_more=exchange.arrives or self._is_deaf or len(self._exchanges) > 1)
        elif exchange.arrives:
            self.wants()  # the rest of the body, which is passed over
        else:
            self._next()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # --- its course --------------------------------------------------------------------------------

    def leave(self) -> None:
        """Close now if nothing is being answered, else after the answer, which says so."""
        if not self._exchanges and not self._is_deaf:
            self._end(has_more=False)

    def _start(self, exchange: Exchange) -> None:
        self._shared.run(exchange.run(self._shared.app))

    def _next(self) -> None:
        self._exchanges.popleft()
        if self._exchanges:
            self._start(self._exchanges[0])
        elif self._refusal is not None:
            self._tell_refusal()
        elif self._shared.is_leaving:
            self._end(has_more=False)
        if self._phase is not Phase.READER and self._phase is not Phase.CLOSE:
            self._phase = Phase.ANSWER  # what is due now has its whole time
        self._expect_due()
        self.wants()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _turn_away(self, error: SeqserveError) -> None:
        """Refuse the connection: told when its first bytes come, for they would be unread otherwise."""
        self._is_deaf, self._refusal = True, error
        self._shared.turned_away += 1
        self._expect(Phase.CLOSE, CLOSE_SECONDS)
        if self._shared.turned_away > MOST_TURNED_AWAY:
            self._shared.entrance.refused(error, self._client, TRANSPORT)
            self.abort()

    def _refuse(self, error: SeqserveError) -> None:
        """Read nothing more: the request that is arriving fails, or the error is told after the answers."""
        self._is_deaf = True
        last = self._exchanges[-1] if self._exchanges else None
        if last is None or not last.arrives:
            self._refusal = error
            self._tell_refusal()
        elif last.is_answered:
            self._end(has_more=True)
        else:
            last.fail(error)
        self._expect_due()

    def _tell_refusal(self) -> None:
        """Tell why nothing more is read, if that is due."""
        error = self._refusal
        if error is None or self._exchanges:
            return
        self._refusal = None
        id = request_id("")
        self._shared.entrance.refused(error, self._client, TRANSPORT, id)
        self.write(refusal(error, id, self._shared.date))
        self._end(has_more=self._shared.turned_away <= MOST_TURNED_AWAY // 2)  # a flood is not waited for

    def _end(self, has_more: bool) -> None:
        """Close.

        Args:
            has_more: whether there may be bytes of the caller that nobody has read.
        """
        self._is_deaf = True
        if self._phase is not Phase.IDLE:  # else there was time to read the last answer
            self._flushed_by = self._loop.time() + self._settings.body_seconds
        self._expect(Phase.CLOSE, CLOSE_SECONDS)
        if has_more and self._transport.can_write_eof():
            self._transport.write_eof()
            self._resume()  # whatever is still to be answered: nobody will
        else:
            self._transport.close()

    # --- its time ----------------------------------------------------------------------------------

    def _expect_due(self) -> None:
        """Wait for what is due; a phase that is lasting goes on, and a close is the last."""
        due = self._due()
        if self._phase is due or self._phase is Phase.CLOSE:
            return
        if due is Phase.ANSWER:
            self._phase = due
        else:
            self._expect_for(due)

    def _due(self) -> Phase:
        if not self.is_writable:
            return Phase.READER
        if self._exchanges:
            return Phase.BODY if self._exchanges[-1].arrives and not self._is_deaf else Phase.ANSWER
        return Phase.HEAD if self._reader.in_head else Phase.IDLE

    def _expect_for(self, phase: Phase) -> None:
        """Wait for what a phase waits for, as long as the settings say."""
        self._expect(phase, getattr(self._settings, LASTS[phase]))

    def _expect(self, phase: Phase, seconds: float) -> None:
        """Wait for what a phase waits for, so many seconds."""
        self._phase, self._until = phase, self._loop.time() + seconds
        if self._timer is not None and self._fires > self._until:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        self._fires = self._until
        self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        """Look whether the phase has outlasted its seconds."""
        self._timer = None
        if self._phase is Phase.ANSWER and self._half_closed is None:
            return
        if self._loop.time() < self._until:
            self._set_timer()
        elif self._phase is Phase.ANSWER and self._half_closed is not None:
            self._probe(self._half_closed)
        elif self._phase is Phase.IDLE:
            self._end(has_more=False)
        elif self._phase is Phase.HEAD:
            self._refuse(self._too_slow("the request's headers"))
        elif self._phase is Phase.BODY and self._is_paused:
            self._expect_for(Phase.BODY)  # it is we who are slow
        elif self._phase is Phase.BODY:
            self._refuse(self._too_slow("the request's body"))
        elif self._phase is Phase.CLOSE and self._is_flushing():
            self._expect(Phase.CLOSE, CLOSE_SECONDS)
        else:
            self.abort()

    def _probe(self, half_closed: HalfClosed) -> None:
        """Find out whether the caller is still there, now and again while no answer is under way."""
        if not self._exchanges[0].has_begun:
            self._expect(Phase.ANSWER, half_closed.probe())

    def _too_slow(self, what: str) -> errors.RequestTimeout:
        name = LASTS[self._phase]
        seconds = getattr(self._settings, name)
        return errors.RequestTimeout(
            f"{what} had not come after the {seconds:g} seconds that {name} allows; send faster, or less",
            limit=name,
        )

    def _is_flushing(self) -> bool:
        """Tell whether the caller may still be reading its answer; TLS does not tell what it has sent."""
        if self._loop.time() >= self._flushed_by:
            return False
        is_tls = self._transport.get_extra_info("ssl_object") is not None
        return is_tls or self._transport.get_write_buffer_size() > 0

    def _described(self, client: tuple[str, int] | None) -> dict[str, Any]:
        """Return what the scopes of all its requests say."""
        scope: dict[str, Any] = {
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "server": address_of(self._transport, "sockname"),
            "client": client,
            "scheme": "http",
            "root_path": "",
        }
        ssl_object = self._transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            name = self._shared.certificate(ssl_object.getpeercert() or {})
            scope |= {"scheme": "https", "extensions": {"tls": {"client_cert_name": name or None}}}
        return scope


def address_of(transport: asyncio.BaseTransport, which: str) -> tuple[str, int] | None:
    """Return a socket's address and port; None where it has none any more."""
    name = transport.get_extra_info(which)
    return (str(name[0]).removeprefix("::ffff:"), int(name[1])) if isinstance(name, tuple) else None
