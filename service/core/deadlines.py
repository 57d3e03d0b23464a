"""When callers' deadlines come: one timer for all of them; one for each would cost more than all this."""

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count

from seqserve.service.core.entries import Caller

STALE = 64
"""Callers who have left that are kept beside as many as there are."""
GRAIN = 1e-3
"""Seconds by which a loop's timer may be early: its clock may tick in milliseconds."""


class Deadlines:
    """Tells callers when their deadline has come."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Caller]] = []  # by deadline
        self._numbers = count()
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, caller: Caller) -> None:
        """Tell a caller, unless it leaves before."""
        self._open += 1
        heappush(self._heap, (caller.deadline, next(self._numbers), caller))
        if self._timer is None or caller.deadline < self._timer.when():
            self._set()

    def leave(self) -> None:
        """Hear that a caller has gone."""
        self._open -= 1
        if len(self._heap) > 2 * self._open + STALE:
            self._heap = [place for place in self._heap if not place[2].gone]
            heapify(self._heap)

    def close(self) -> None:
        """Tell nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        self.close()
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._look)

    def _look(self) -> None:
        """Tell those whose deadline has come."""
        now = asyncio.get_running_loop().time() + GRAIN
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].gone):
            caller = heappop(self._heap)[2]
            if not caller.gone:
                caller.expire()
        self._set()
