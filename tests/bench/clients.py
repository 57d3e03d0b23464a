"""Callers: as many as are wanted, through either door, cheap enough not to be what is measured.

Requests are bytes made beforehand, and answers are kept as bytes.
"""

import asyncio
import gc
import itertools
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TypeVar, cast

import grpc
import httptools
import numpy as np

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Send a request; return its status (HTTP's, or 200 and 500 for gRPC's OK and others) and the answer."""
T = TypeVar("T")
HOST = "127.0.0.1"
OK = 200
PATIENCE = 3.0
HEAD, LITTLE = 1.0, 0.01
CHANNELS = 4
"""gRPC connections that callers share, as programs do."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self.retry_after = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep for how long whoever was refused is to stay away; the parser calls this."""
        if name == b"retry-after":
            self.retry_after = float(value)

    def on_body(self, part: bytes) -> None:
        """Keep a part of the answer; the parser calls this."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Hand over the answer; the parser calls this."""
        body, self._body = b"".join(self._body), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the server"))

    async def __call__(self, request: bytes) -> tuple[int, bytes]:
        """Send one request and wait for its answer."""
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionResetError("closed by the server")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def by_rest(port: int, count: int, addresses: Sequence[str] = (HOST,)) -> AsyncIterator[list[Ask]]:
    """Open a connection for each of so many callers, from loopback addresses in turn: each is a principal."""
    loop, sources = asyncio.get_running_loop(), itertools.cycle(addresses)
    opened = [
        (await loop.create_connection(Connection, HOST, port, local_addr=(next(sources), 0)))[1]
        for _ in range(count)
    ]
    try:
        yield list(opened)
    finally:
        for connection in opened:
            connection.close()


@asynccontextmanager
async def by_grpc(
    port: int,
    method: str,
    count: int,
    connections: int = CHANNELS,
    key: str = "",
    seconds: float | None = None,
) -> AsyncIterator[list[Ask]]:
    """Open some channels, each a connection, for so many callers.

    Args:
        key: an API key that comes with each call.
        seconds: that each call is given; None: it names none.
    """
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [grpc.aio.insecure_channel(f"{HOST}:{port}", options) for _ in range(min(count, connections))]
    calls = [channel.unary_unary(method, None, None) for channel in channels]
    named = (("x-api-key", key),) if key else ()
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        asks = [partial(call, metadata=named, timeout=seconds) for call in calls]
        yield [_asking(ask) for ask in itertools.islice(itertools.cycle(asks), count)]
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


def _asking(call: Callable[[bytes], Awaitable[bytes]]) -> Ask:
    async def ask(request: bytes) -> tuple[int, bytes]:
        try:
            return OK, await call(request)
        except grpc.aio.AioRpcError as error:
            return 500, f"{error.code()} {error.details()}".encode()

    return ask


def http(port: int, path: str, body: bytes, timeout: str | None = None, key: str = "") -> bytes:
    """Return the bytes of a POST of JSON, with an API key if given; `timeout` as `Grpc-Timeout` has it."""
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {HOST}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *([f"Grpc-Timeout: {timeout}"] if timeout else []),
        *([f"X-API-Key: {key}"] if key else []),
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


@dataclass(slots=True)
class Load:
    """What came of it: of each request when it was (to be) sent, how long it took, and its status."""

    sent: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0

    def add(self, sent: float, status: int) -> None:
        self.sent.append(sent)
        self.seconds.append(perf_counter() - sent)
        self.statuses.append(status)

    @property
    def failed(self) -> int:
        """How many were not answered with 200."""
        return sum(status != OK for status in self.statuses)

    def kept(self, seconds: float) -> float:
        """Return the share of all requests that were answered with 200 within so many seconds."""
        return float(np.mean((np.array(self.statuses) == OK) & (np.array(self.seconds) <= seconds)))

    @property
    def rate(self) -> float:
        """Answers (200) a second, from the last one before the span began to the last one within it.

        Answers come in bunches, a batch at a time, so a span is measured from bunch to bunch.
        """
        good = np.array(self.statuses) == OK
        done = np.sort((np.array(self.sent) + np.array(self.seconds))[good])
        first, last = np.searchsorted(done, [self.begun, self.ended])
        if last - first < 2:
            return 0.0
        first = max(first, 1)
        return float((last - first) / (done[last - 1] - done[first - 1]))

    def latencies(self, status: int = OK) -> np.ndarray:
        """Return the seconds of the requests sent within the span that got a status."""
        sent, seconds, statuses = map(np.array, (self.sent, self.seconds, self.statuses))
        within = (sent >= self.begun) & (sent <= self.ended) & (statuses == status)
        return np.asarray(seconds[within])

    def percentile_ms(self, percent: float) -> float:
        """Return within how many ms so many percent of the requests were answered."""
        return float(np.percentile(self.latencies(), percent)) * 1e3


async def closed_loop(
    asks: Sequence[Ask], requests: Sequence[bytes], seconds: float, seed: int = 0, comes: float = 0.0
) -> Load:
    """Let each caller send its next request when it has its answer.

    The span begins after a fifth of the seconds and a round of all callers, and has two rounds in it, however
    slow the server is; but it does not wait for that more than `PATIENCE` times as long.

    Args:
        comes: seconds over which callers come one by one, before the span begins; those who are refused stay
            away for as long as they are told, and rounds are not waited for. 0: no such thing.
    """
    drawn = random.Random(seed)
    order, rounds = drawn.sample(requests, len(requests)), 0 if comes else len(asks)
    following, load = itertools.cycle(order), Load()
    start = perf_counter() + comes
    over = asyncio.get_running_loop().create_future()
    load.begun = load.ended = math.inf

    def goes_on(now: float) -> bool:
        done, most = len(load.sent), PATIENCE * seconds
        if load.begun == math.inf and now - start > seconds / 5 and (done >= rounds or now - start > most):
            load.begun = now
        in_span = now - load.begun
        if in_span > seconds and (done >= 3 * rounds or in_span > most) and not over.done():
            load.ended = now
            over.set_result(None)
        return load.ended == math.inf

    async def call(ask: Ask) -> None:
        await asyncio.sleep(drawn.uniform(0, comes))
        while goes_on(sent := perf_counter()):
            status, _ = await ask(next(following))
            load.add(sent, status)
            if comes and status != OK:
                await asyncio.wait([over], timeout=_told(ask))

    async def watch() -> None:  # all may be away when the span ends
        while goes_on(perf_counter()):
            await asyncio.wait([over], timeout=LITTLE)

    with _uncollected():
        await asyncio.gather(*map(call, asks), *([watch()] if comes else ()))
    return load


def _told(ask: Ask) -> float:
    """Return the seconds for which a caller who was refused is to stay away."""
    return ask.retry_after if isinstance(ask, Connection) else 1.0


async def beside(
    asks: Sequence[Ask],
    requests: Sequence[bytes],
    main: Awaitable[T],
    told: Counter[int] | None = None,
    *,
    heeds: bool = True,
) -> T:
    """Wait for something while other callers send, each its next request when it has its answer.

    It begins when they have been there for `HEAD` seconds.

    Args:
        told: counts their answers, by status.
        heeds: whether they stay away after a refusal for as long as they are told.
    """
    following = itertools.cycle(requests)

    async def call(ask: Ask) -> None:
        while True:
            status, _ = await ask(next(following))
            if told is not None:
                told[status] += 1
            if status != OK and heeds:
                await asyncio.sleep(_told(ask))

    others = [asyncio.create_task(call(ask)) for ask in asks]
    try:
        await asyncio.sleep(HEAD if others else 0)
        return await main
    finally:
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def open_loop(
    asks: Sequence[Ask], requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0
) -> Load:
    """Send at random times, so many a second on average (Poisson), whether or not there were answers.

    A request's time runs from when it was to be sent. Where every connection is taken, it waits here.
    """
    random_ = np.random.default_rng(seed)
    begun = perf_counter() + 0.05
    due = begun + np.cumsum(random_.exponential(1 / rate, int(1.2 * seconds * rate)))
    load = Load(begun=begun + seconds / 5, ended=begun + seconds * 1.2)
    free: asyncio.LifoQueue[Ask] = asyncio.LifoQueue()
    for ask in asks:
        free.put_nowait(ask)

    async def call(request: bytes, at: float) -> None:
        ask = await free.get()
        status, _ = await ask(request)
        load.add(at, status)
        free.put_nowait(ask)

    with _uncollected():
        async with asyncio.TaskGroup() as tasks:
            for at, request in zip(due, itertools.cycle(requests), strict=False):
                await asyncio.sleep(max(0.0, at - perf_counter()))
                tasks.create_task(call(request, at))
    return load


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from stopping all callers at once."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
