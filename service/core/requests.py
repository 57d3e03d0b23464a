"""Requests that are being answered: how many there are, and what their deadlines end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from seqserve.service import errors
from seqserve.service.core.entries import late
from seqserve.service.core.types import Call

READING_SECONDS = 1.0
"""How long after its deadline what is left of a request's answers may be read, where they come one by one."""


class Open:
    """The requests that are being answered: a context, which each of them is in meanwhile."""

    def __init__(self) -> None:
        self._count = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __enter__(self) -> None:
        self._count += 1
        self._is_empty.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._is_empty.set()

    async def none(self) -> None:
        """Return when there is none."""
        await self._is_empty.wait()


@asynccontextmanager
async def until(call: Call) -> AsyncIterator[None]:
    """Raise DeadlineExceeded where the block takes longer than the call may."""
    try:
        async with asyncio.timeout_at(call.deadline):
            yield
    except TimeoutError:
        raise late() from None


@asynccontextmanager
async def reading(deadline: float) -> AsyncIterator[None]:
    """Raise DeadlineExceeded where the block, which sends a part of an answer, waits long for its reader."""
    try:
        async with asyncio.timeout_at(deadline + READING_SECONDS):
            yield
    except TimeoutError:
        raise errors.DeadlineExceeded("the answer was not read by the deadline") from None
