"""The calls that are open at the gRPC door: how many there may be, and when they have their answers."""

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
        self._open: set[asyncio.Task[Any]] = set()
        self._answering: set[asyncio.Task[Any]] = set()

    def begin(self, *, ends: bool) -> None:
        """Count the call that the running task answers, until the task ends.

        Args:
            ends: that it ends by itself, with an answer: a health watch does not.

        Raises:
            RateLimited: as many are open as may be.
        """
        if len(self._open) >= self._most:
            message = f"{len(self._open)} calls are open, the limit (SEQSERVE_GRPC_CALLS); come back later"
            raise errors.RateLimited(message, retry_after=1.0, limit="grpc_calls")
        task = asyncio.current_task()
        assert task is not None
        for counted in (self._open, self._answering) if ends else (self._open,):
            counted.add(task)
            task.add_done_callback(counted.discard)

    async def quiet(self) -> None:
        """Return when every call that waits for its answer now has it."""
        if self._answering:
            await asyncio.wait(self._answering.copy())
