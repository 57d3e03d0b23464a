"""The REST server behind a real socket, and callers that write bytes of their own."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.metrics import Metrics
from seqserve.service.rest.edge import Edge
from seqserve.service.rest.server import RestServer
from seqserve.service.settings import Settings
from tests.edge.fakes import open_entrance

WAIT = 10.0
"""Seconds in which anything must happen; no test waits for them."""
OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
LARGE = 2**22
GET = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        """Whether it says that the connection is closed."""
        return self.headers.get("connection") == "close"


@dataclass(slots=True)
class Caller:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, *parts: bytes | str) -> None:
        """Send, without waiting."""
        self.writer.write(b"".join(part.encode() if isinstance(part, str) else part for part in parts))

    async def said(self, *parts: bytes | str) -> None:
        """Send, and wait until the kernel has taken it."""
        self.say(*parts)
        await asyncio.wait_for(self.writer.drain(), WAIT)

    async def hear(self, *, head: bool = False) -> Answer:
        """Return the next answer; `head`: to a HEAD."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT)
        line, *rest = raw.decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
        length = 0 if head else int(headers.get("content-length", 0))
        body = await asyncio.wait_for(self.reader.readexactly(length), WAIT)
        return Answer(int(line.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Return everything up to the end; a reset is one."""
        try:
            return await asyncio.wait_for(self.reader.read(), WAIT)
        except ConnectionError:
            return b""


@dataclass(slots=True)
class House:
    """A server, and what a test looks at.

    Args:
        seen: every request that the application was given: method, path, body.
        gates: paths that wait for an event before they are answered.
    """

    settings: Settings
    metrics: Metrics
    in_flight: BytesInFlight
    server: RestServer
    port: int
    seen: list[tuple[str, str, bytes]]
    gates: dict[str, asyncio.Event]
    callers: AsyncExitStack

    async def caller(self, host: str = "127.0.0.1", **options: Any) -> Caller:
        """Open a connection."""
        reader, writer = await asyncio.open_connection(host, self.port, limit=2**24, **options)
        self.callers.callback(writer.close)
        return Caller(reader, writer)

    async def slow_caller(self, host: str = "127.0.0.1", **options: Any) -> Caller:
        """Open a connection whose caller reads nothing, and takes little in, until `resume_reading`."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", self.port))
        name = {"server_hostname": host} if "ssl" in options else {}
        reader, writer = await asyncio.open_connection(sock=small, limit=2**24, **name, **options)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.callers.callback(writer.close)
        return Caller(reader, writer)

    def refused(self, reason: str) -> float:
        """Return how many were refused before there was a call."""
        labels = {"transport": "rest", "reason": reason}
        return self.metrics.registry.get_sample_value("seqserve_turned_away_total", labels) or 0.0

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what the server does by itself."""
        async with asyncio.timeout(WAIT):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def is_unread(self) -> bool:
        """Tell whether an answer has been written that its caller does not read."""
        return any(not connection.is_writable for connection in self.server._shared.connections)  # type: ignore[attr-defined]

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self.server._shared.connections)


@dataclass(slots=True)
class Told:
    """An application that tells what it was asked.

    `/unread…` is answered without reading the body, `…/large` by LARGE bytes.
    """

    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, body = scope["path"], b""
        if path in self.gates:
            await self.gates[path].wait()
        if not path.startswith("/unread"):
            while (message := await receive())["type"] == "http.request":
                body += message["body"]
                if not message["more_body"]:
                    break
        self.seen.append((scope["method"], path, body))
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = {"path": path, "query": scope["query_string"].decode(), "headers": headers, "got": len(body)}
        told |= {"client": scope["client"], "scheme": scope["scheme"], "tls": scope.get("extensions")}
        answer = json.dumps(told).encode().ljust(LARGE if path.endswith("/large") else 0)
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def house(
    app: ASGIApp | None = None, server: dict[str, Any] | None = None, **given: Any
) -> AsyncIterator[House]:
    """Run a server on a free port.

    Args:
        app: instead of `Told`.
        server: further arguments of RestServer.
        given: settings.
    """
    settings, metrics, told = Settings(rest_port=0, **given), Metrics(CollectorRegistry()), Told()
    in_flight = BytesInFlight(settings.body_bytes_in_flight)
    entrance = open_entrance(metrics)
    edge = Edge(app or told, entrance, settings.default_timeout, settings.max_timeout, None)
    running = RestServer(edge, settings, metrics, entrance, in_flight, **(server or {}))
    port = await running.start()
    try:
        async with AsyncExitStack() as callers:
            yield House(settings, metrics, in_flight, running, port, told.seen, told.gates, callers)
    finally:
        await running.stop()


def in_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in the loop that the service runs in, whose transports are others than asyncio's."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        uvloop.run(test(*arguments, **named))

    return run


def post(body: bytes = b"", *, path: str = "/post", headers: str = "", length: int | None = None) -> bytes:
    """Return a request; `length` is declared instead of the body's."""
    length = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + body


def chunked(*parts: bytes, trailers: str = "", extension: str = "", headers: str = "") -> bytes:
    """Return a request whose body comes in chunks."""
    head = f"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{headers}\r\n".encode()
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension.encode(), part) for part in parts)
    return head + body + f"0\r\n{trailers}\r\n".encode()


def reason(answer: Answer) -> str:
    """Return a problem's reason; the connection ends with it."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"] != ""
    return str(answer.json["reason"])


def resident() -> int:
    """Return the bytes of memory that this process has in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
