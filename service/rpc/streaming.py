"""Calls with many requests, each answered on its own: `service.rpc.edge` lets each in."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from seqserve.service import errors
from seqserve.service.core.types import Call
from seqserve.service.rpc.calls import Context
from seqserve.service.rpc.faults import Field

AT_ONCE = 64
"""Requests of one call that are answered at once; then no more are read until one has been."""


@dataclass(frozen=True, slots=True)
class Stream(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """One method of ours with many requests and an answer to each.

    Args:
        about: what a request is about; those about the same are answered one after the other.
        answer: the coroutine function that answers one.
        answered, failed: make the response to a request of its place in the call, counted from 0.
        field: names a violation's place in the request.
    """

    request: type[Message]
    about: Callable[[Any], Hashable]
    answer: Callable[[Any, Call], Awaitable[Message]]
    answered: Callable[[int, Any], Message]
    failed: Callable[[int, status_pb2.Status], Message]
    field: Field


class Streams:
    """Counts such calls: grpc's core holds of each as much as a message may have, once it waits for one.

    Args:
        most: how many may be open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a call, until the block ends; raises RateLimited where as many are open as may be."""
        if self._open >= self._most:
            limit = f"{self._open} streams are open, the limit (SEQSERVE_GRPC_APPEND_STREAMS)"
            message = f"{limit}; one stream serves many sessions"
            raise errors.RateLimited(message, retry_after=1.0, limit="grpc_append_streams")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


@dataclass(frozen=True, slots=True)
class Taken:
    """A request that has come.

    Args:
        about: what it is about.
        request: it, or why it cannot be read.
        release: holds its bytes no more.
    """

    about: Hashable
    request: Any
    release: Callable[[], None]


class Exchanges:
    """What goes to and fro in one call.

    Args:
        take: reads a request's bytes.
        respond: returns the response to a request of its place, as bytes; it raises nothing of its own. It
            waits for the task that it is given before it begins, where there is one.
    """

    def __init__(
        self,
        context: Context,
        take: Callable[[bytes], Awaitable[Taken]],
        respond: Callable[[int, Any, "asyncio.Task[None] | None"], Awaitable[bytes]],
    ) -> None:
        self._context = context
        self._take = take
        self._respond = respond
        self._room = asyncio.Semaphore(AT_ONCE)
        self._writing = asyncio.Lock()
        self._last: dict[Hashable, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answer each request, until the caller has no more."""
        place = 0
        try:
            while isinstance(raw := await self._context.read(), bytes):
                await self._room.acquire()
                self._begin(place, await self._take(raw))
                place += 1
            while self._tasks:
                await asyncio.wait(self._tasks.copy())
        finally:
            for task in self._tasks:
                task.cancel()

    def _begin(self, place: int, taken: Taken) -> None:
        task = asyncio.create_task(self._one(place, taken.request, self._last.get(taken.about)))
        self._last[taken.about] = task
        self._tasks.add(task)

        def ended(_: object) -> None:  # be it that it has never begun
            self._tasks.discard(task)
            if self._last.get(taken.about) is task:
                del self._last[taken.about]
            taken.release()
            self._room.release()

        task.add_done_callback(ended)

    async def _one(self, place: int, request: Any, before: "asyncio.Task[None] | None") -> None:
        response = await self._respond(place, request, before)
        async with self._writing:
            with suppress(grpc.aio.InternalError):  # the caller has gone
                await self._context.write(response)
