"""One HTTP request and its answer, as an ASGI application sees them: `receive` and `send`.

The connection (`service.rest.connection`) makes one as soon as a request's headers have come, and tells it of
each part of the body; what the application sends leaves through the connection.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Scope

from seqserve.service import errors
from seqserve.service.edge.bytes_in_flight import Held
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID
from seqserve.service.rest.problems import problem
from seqserve.service.rest.shared import Shared

log = logging.getLogger(__name__)
HIGH_WATER = 16 * 1024
"""Bytes of a body that wait for the application; from there on, no more is read."""
PASSED_OVER = 64 * 1024
"""Bytes of a body that nobody wants which are read all the same, so that the connection can be kept."""
PROMPT = ("/healthz", "/readyz")
"""Paths that wait for no turn: who asks must not take a flood for a death."""
WHOLE = "seqserve.whole"
"""Where a scope says whether the whole body was there when the application began."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Line(Protocol):
    """What an exchange needs of its connection."""

    is_writable: bool  # the caller has read enough of what was sent

    def write(self, data: bytes) -> None:
        """Send."""

    async def writable(self) -> None:
        """Return once it has."""

    def wants(self) -> None:
        """Read on."""

    def answered(self) -> None:
        """Hear that the answer has been written."""

    def abort(self) -> None:
        """Close at once: the answer broke off."""


class Exchange:
    """A request whose headers have come, up to the end of its answer.

    Args:
        keeps: whether the connection may be kept when it is answered.
        awaits_continue: whether the caller waits for `100 Continue` before it sends the body.
    """

    __slots__ = (
        "_awaits_continue",
        "_came",
        "_fault",
        "_has_failed",
        "_held",
        "_is_chunked",
        "_is_gone",
        "_left",
        "_line",
        "_news",
        "_parts",
        "_shared",
        "_start",
        "_task",
        "_waiting",
        "arrives",
        "has_begun",
        "is_answered",
        "keeps",
        "scope",
    )

    def __init__(self, line: Line, shared: Shared, scope: Scope, keeps: bool, awaits_continue: bool) -> None:
        self.scope = scope
        self.keeps = keeps
        self.arrives = True  # the body has not ended
        self.has_begun = False  # the answer
        self.is_answered = False
        self._line = line
        self._shared = shared
        self._awaits_continue = awaits_continue
        self._held: Held | None = None
        self._came = 0
        self._parts: list[bytes] = []
        self._waiting = 0  # bytes of the parts
        self._news = asyncio.Event()
        self._is_gone = False
        self._task: asyncio.Task[None] | None = None  # while the application has sent nothing
        self._fault: SeqserveError | None = None
        self._has_failed = False
        self._start: Message | None = None
        self._is_chunked = False
        self._left: int | None = 0  # bytes that Content-Length still promises; None: it promises nothing

    # --- what the connection tells ----------------------------------------------------------------

    def part(self, part: bytes) -> bool:
        """Take a part of the body, and return whether the next one has to wait."""
        self._came += len(part)
        if self.is_answered or self._has_failed:
            return False
        try:
            if self._held is None:
                self._held = self._shared.in_flight.hold(self.fail)
            self._held.add(len(part))
        except errors.QueueFull as error:
            self.fail(error)
            return False
        self._parts.append(part)
        self._waiting += len(part)
        self._news.set()
        return self._waiting >= HIGH_WATER

    def end(self) -> None:
        """Hear that the body has ended."""
        self.arrives = False
        if self._held is not None:
            self._held.arrived()
        self._news.set()

    def fail(self, error: SeqserveError) -> None:
        """Let the application's next `receive` raise, or end an answer that has begun."""
        if self.has_begun:
            self._line.abort()
        elif not self._has_failed:
            self._fault, self._has_failed, self.keeps = error, True, False
            self._drop()

    def gone(self) -> None:
        """Hear that the connection is no more: nobody waits for what is not answered yet."""
        self._is_gone = True
        self._drop()
        if self._task is not None and not self.arrives:  # else the next `receive` tells
            self._task.cancel()

    def _drop(self) -> None:
        self._parts.clear()
        self._release()
        self._news.set()

    def _taken_fault(self) -> SeqserveError:
        """Return the fault, and keep it nowhere: its traceback comes to hold what was read of the body."""
        fault, self._fault = self._fault, None
        assert fault is not None
        return fault

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()

    # --- what the application does -----------------------------------------------------------------

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; it is cancelled where its caller goes before it has begun to."""
        self._task = asyncio.current_task()
        try:
            if self.scope["path"] not in PROMPT:
                await self._shared.turnstile.enter()
            self.scope[WHOLE] = not self.arrives
            await app(self.scope, self.receive, self.send)
            if not self.is_answered and not self._is_gone:
                raise RuntimeError("the application returned without an answer")
        except SeqserveError:  # of an answer that has begun: the access log has it
            if not (self.is_answered or self._is_gone):
                self._line.abort()
        except Exception:
            log.exception("the application failed")
            if self.has_begun:
                self._line.abort()
            elif not self._is_gone:
                self._start = None
                await problem(errors.Unexpected("an unexpected fault"))(self.scope, self.receive, self.send)
        finally:
            self._fault = self._task = None
            self._release()

    async def receive(self) -> Message:
        """Return the next part of the body, or that the caller has gone.

        Raises:
            SeqserveError: the body came too slowly, broke off, or found no room.
        """
        if self._awaits_continue and not self._is_gone and not self.has_begun:
            self._awaits_continue = False
            self._line.write(CONTINUE)
        if not (self._is_gone or self.is_answered or self._has_failed):
            if not self._news.is_set():
                self._line.wants()
            await self._news.wait()
            self._news.clear()
        if self._fault is not None:
            raise self._taken_fault()
        if self._is_gone or self.is_answered or self._has_failed:
            return {"type": "http.disconnect"}
        body = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        if not self.arrives:
            self._line.wants()  # else nobody would hear that the caller goes
        return {"type": "http.request", "body": body, "more_body": self.arrives}

    async def send(self, message: Message) -> None:
        """Take a part of the answer; the head leaves together with the first part of the body.

        Raises:
            ClientDisconnect: the caller has gone, and has not had the whole of an answer that comes in parts.
        """
        self._task = None
        if not self._line.is_writable:
            await self._line.writable()
        if self._is_gone and self.has_begun and not self.is_answered:
            raise ClientDisconnect
        if self._is_gone:
            return
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None or self.is_answered:
            raise RuntimeError(f"{message['type']!r} is out of its order")
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        head = b"" if self.has_begun else self._head(len(body) if is_last else None)
        self._line.write(head + self._framed(body, is_last))
        if is_last:
            self.is_answered = True
            self._news.set()
            self._line.answered()
        else:
            self._task = asyncio.current_task()  # who goes meanwhile waits for no more of it

    # --- the answer's bytes ------------------------------------------------------------------------

    def _head(self, whole: int | None) -> bytes:
        """Return the status line and headers.

        Args:
            whole: bytes of the body where all of it is there.
        """
        assert self._start is not None
        self.has_begun = True
        status, length = self._start["status"], None
        lines = [STATUS_LINES[status], self._shared.date]
        for name, value in self._start.get("headers", ()):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.keeps = self.keeps and b"close" not in value.lower()
                continue
            elif name == b"transfer-encoding":
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if self.scope["method"] != "HEAD" and status not in (204, 304):
            lines += self._framing(length, whole)
        self.keeps = self.keeps and self._is_spent() and not self._shared.is_leaving
        if not self.keeps:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            raise RuntimeError("a header of the answer has a line break")
        return head + b"\r\n"

    def _framing(self, length: int | None, whole: int | None) -> tuple[bytes, ...]:
        """Decide how the end of the answer's body is told, and return the header that tells it, if any."""
        self._left = length if length is not None else whole
        if length is not None:
            return ()
        if whole is not None:
            return (b"content-length: %d\r\n" % whole,)
        self._is_chunked = self.scope["http_version"] == "1.1"
        self.keeps = self.keeps and self._is_chunked
        return (b"transfer-encoding: chunked\r\n",) if self._is_chunked else ()

    def _framed(self, body: bytes, is_last: bool) -> bytes:
        if self.scope["method"] == "HEAD":
            return b""
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk + b"0\r\n\r\n" if is_last else chunk
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise RuntimeError("the answer's body has not the length that its head tells")
        return body

    def _is_spent(self) -> bool:
        """Tell whether so little of the body is still to come that it is read to keep the connection."""
        if not self.arrives:
            return True
        if self._awaits_continue:
            return False
        declared = [int(value) for name, value in self.scope["headers"] if name == b"content-length"]
        return bool(declared) and declared[0] - self._came <= PASSED_OVER


def refusal(error: SeqserveError, id: str, date: bytes) -> bytes:
    """Return an error as a whole response, outside of any request."""
    token = REQUEST_ID.set(id)
    try:
        response = problem(error)
        headers = [*response.raw_headers, (b"x-request-id", id.encode())]
    finally:
        REQUEST_ID.reset(token)
    lines = [STATUS_LINES[response.status_code], date, *(b"%b: %b\r\n" % header for header in headers)]
    return b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)])
