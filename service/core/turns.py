"""Turns on the event loop: what takes long for one request is done in short ones, between those of others."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time

TURN_SECONDS = 0.002
"""How long one request's work goes on before the event loop sees to the others."""

BEGINNING_SECONDS = 0.016
"""How long in one turn tasks are begun one after the other: more would be heard as a pause."""


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


class Turnstile:
    """Lets tasks begin, in the order in which they come, in a turn of the event loop as many as have time.

    Else whatever comes at once is all begun in one turn, and nobody else is heard until it ends.

    Args:
        most: how many begin in a turn whatever they take, and at most of those that had to wait.
        seconds: of the processor, for which others begin in a turn in which nobody waits.
    """

    def __init__(
        self, most: int, seconds: float = BEGINNING_SECONDS, clock: Callable[[], float] = thread_time
    ) -> None:
        self._most = self._left = most
        self._seconds = seconds
        self._clock = clock
        self._began: float | None = None  # the turn in which somebody has begun
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Return when the running task may begin."""
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began, self._left = self._clock(), self._most
            loop.call_soon(self._turn)
        if not self._waiting and (self._left > 0 or self._clock() - self._began < self._seconds):
            self._left -= 1
            return
        waiting = loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def _turn(self) -> None:
        """Begin a turn: those who wait come first."""
        if not self._waiting:
            self._began = None
            return
        self._began, self._left = self._clock(), self._most
        while self._waiting and self._left:
            waiting = self._waiting.popleft()
            if not waiting.done():  # else its task has been cancelled
                waiting.set_result(None)
                self._left -= 1
        asyncio.get_running_loop().call_soon(self._turn)
