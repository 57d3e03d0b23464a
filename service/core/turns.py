"""Turns on the event loop: what takes long for one request is done in short ones, between those of others."""

import asyncio
from collections.abc import Callable
from time import perf_counter

TURN_SECONDS = 0.002
"""How long one request's work goes on before the event loop sees to the others."""


class Turn:
    """A bounded time on the event loop."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    def is_over(self) -> bool:
        """Tell whether it is used up."""
        return self._clock() - self._began > TURN_SECONDS

    async def end(self) -> None:
        """Let the others have their turn, and begin a new one."""
        await asyncio.sleep(0)
        self._began = self._clock()
