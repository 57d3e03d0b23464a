"""A grpc.aio server that takes calls in itself, and answers those of one request and one answer.

The one of grpc.aio ends for good on a call whose path is no UTF-8, since it decodes paths in the loop that
takes calls in. Here every method is registered with grpc's core, which tells methods apart by their bytes,
and a call of any other is never asked for its path. And grpc.aio sends initial metadata apart from the
answer, which costs a fifth of a small call. What is used of `cygrpc` has no public form: the version is
locked, and tests send such a path, and have callers who go, or do not read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from seqserve.service.rpc.calls import Context

NO_METHOD = "/"
"""Stands for the path of a method that does not exist."""
ASKED_FOR = 16
"""Calls of a method that grpc's core is asked for at once. Of those that come together, one after another
would cost a turn of grpc's thread and of the event loop each, and leave in small batches."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Answer(NamedTuple):
    """All that a call is sent, at once.

    Args:
        initial: the metadata before the message.
        message: None: there is none, as the code says why.
    """

    initial: Metadata
    message: bytes | None
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailing: Metadata = ()


Unary = Callable[[Context], Awaitable[Answer]]
"""Answers a call whose request it reads from the context; it raises nothing but CancelledError."""


class Server(_server.Server):
    """A server of registered methods alone; build it inside the running event loop.

    Args:
        around: returns of a path and a method's handler what answers it: a `Unary`, or a handler of grpc's.
    """

    def __init__(self, around: Callable[[str, Any], Any], options: Sequence[tuple[str, int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = self._acceptor = _Acceptor(self._loop, None, (), (), tuple(options), None)
        self._around = around

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Ignore them: generated code gives the same methods to be registered."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Take a service's methods."""
        paths = {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}
        named = {path: self._around(path, handler) for path, handler in paths.items()}
        self._acceptor.methods |= named
        self._acceptor.add_registered_method_handlers(named)


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # its stubs say nothing of it
    """Waits for the calls of each method, and makes a task of each."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.methods: dict[str, Any] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Task[None]:
        """Return what grpc's own loop waits for: it ends when the server stops."""
        return asyncio.get_running_loop().create_task(self._accept(method), name="grpc accept")

    async def _accept(self, method: bytes | None) -> None:
        await asyncio.gather(*(self._accept_each(method) for _ in range(ASKED_FOR)))

    async def _accept_each(self, method: bytes | None) -> None:
        name = NO_METHOD if method is None else method.decode()
        handler = self.methods.get(name)
        resolver = cygrpc._MethodResolver([], self.methods)
        loop = asyncio.get_running_loop()
        while True:
            state = await (self._request_call() if method is None else self._request_registered_call(method))
            if handler is None or isinstance(handler, grpc.RpcMethodHandler):
                answer = cygrpc._handle_rpc(name, resolver, (), state, loop, False)
                whole = cygrpc._schedule_rpc_coro(answer, state, loop, name)
            else:
                whole = _Call(state, loop).answer(handler)
            task = loop.create_task(whole)
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)


class _Call:
    """One call of a `Unary`."""

    __slots__ = ("_is_sending", "_loop", "_state")

    def __init__(self, state: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop
        self._is_sending = False

    async def answer(self, unary: Unary) -> None:
        """Answer, unless the caller goes before."""
        task, closing = asyncio.current_task(), cygrpc.ReceiveCloseOnServerOperation(0)
        closed = self._execute(closing)

        def end(_: object) -> None:
            with suppress(StopIteration, cygrpc.ExecuteBatchError):
                closed.send(None)
            if closing.cancelled() and not self._is_sending and task is not None:
                task.cancel()

        # a task that waits for the end would cost more than the waiting: its two steps are done by hand
        closed.send(None).add_done_callback(end)
        answer = await unary(cygrpc._ServicerContext(self._state, None, None, self._loop))
        self._is_sending = True  # and so about to end by itself
        message = () if answer.message is None else (cygrpc.SendMessageOperation(answer.message, 0),)
        with suppress(cygrpc.ExecuteBatchError):  # the caller has gone
            await self._execute(
                cygrpc.SendInitialMetadataOperation(answer.initial, 0),
                *message,
                cygrpc.SendStatusFromServerOperation(
                    answer.trailing, answer.code.value[0], answer.details, 0
                ),
            )

    def _execute(self, *operations: Any) -> Any:
        return cygrpc.execute_batch(self._state, operations, self._loop)
