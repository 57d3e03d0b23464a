"""The calls that are open at the gRPC door: how many there may be, and when the last of them is answered."""

import asyncio
from typing import Any

import grpc

from seqserve.service import errors

Context = grpc.aio.ServicerContext[Any, Any]


class Calls:
    """Counts calls until grpc has sent their answer, or has found their caller gone.

    Args:
        most: how many may be open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._answering = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    def begin(self, context: Context, *, ends: bool) -> None:
        """Count a call.

        Args:
            ends: that it ends by itself, with an answer: a health watch does not.

        Raises:
            RateLimited: as many are open as may be.
        """
        if self._open >= self._most:
            message = f"{self._open} calls are open, the limit (SEQSERVE_GRPC_CALLS); come back later"
            raise errors.RateLimited(message, retry_after=1.0, limit="grpc_calls")
        self._open += 1
        self._count_answering(int(ends))
        context.add_done_callback(lambda _: self._end(int(ends)))  # type: ignore[arg-type]  # any callable

    async def quiet(self) -> None:
        """Return when no call is waiting for its answer."""
        await self._is_quiet.wait()

    def _end(self, ends: int) -> None:
        self._open -= 1
        self._count_answering(-ends)

    def _count_answering(self, more: int) -> None:
        self._answering += more
        if self._answering:
            self._is_quiet.clear()
        else:
            self._is_quiet.set()
