"""A grpc.aio server that takes calls in itself.

The one of grpc.aio ends for good on a call whose path is no UTF-8, since it decodes paths in the loop that
takes calls in. Here every method is registered with grpc's core, which tells methods apart by their bytes,
and a call of any other is never asked for its path. What is used of `cygrpc` has no public form: the version
is locked, and a test sends such a path.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from grpc._cython import cygrpc
from grpc.aio import _server

NO_METHOD = "/"
"""Stands for the path of a method that does not exist."""


class Server(_server.Server):
    """A server of registered methods alone; build it inside the running event loop."""

    def __init__(self, interceptor: Any, options: Sequence[tuple[str, int]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = self._acceptor = _Acceptor(self._loop, None, (), (interceptor,), tuple(options), None)
        self._acceptor.interceptor = interceptor

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Ignore them: generated code gives the same methods to be registered."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Take a service's methods."""
        named = {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}
        self._acceptor.methods |= named
        self._acceptor.add_registered_method_handlers(named)


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # its stubs say nothing of it
    """Waits for the calls of each method, and makes a task of each."""

    interceptor: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.methods: dict[str, Any] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Task[None]:
        """Return what grpc's own loop waits for: it ends when the server stops."""
        return asyncio.get_running_loop().create_task(self._accept(method), name="grpc accept")

    async def _accept(self, method: bytes | None) -> None:
        name = NO_METHOD if method is None else method.decode()
        resolver = cygrpc._MethodResolver([], self.methods)
        loop = asyncio.get_running_loop()
        while True:
            state = await (self._request_call() if method is None else self._request_registered_call(method))
            answer = cygrpc._handle_rpc(name, resolver, (self.interceptor,), state, loop, False)
            task = loop.create_task(cygrpc._schedule_rpc_coro(answer, state, loop, name))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
