"""Where sessions are kept: what a store does, and the one in this process's memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from seqserve.service.metrics import Metrics

OVERHEAD = 512
"""Bytes that a session takes beside its own."""
AGE, ROOM = "age", "room"
"""Why the memory forgets a session."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store has of a session.

    Args:
        number: of the event that comes next.
    """

    number: int
    data: bytes


class Store(Protocol):
    """Keeps sessions by their ids. Where processes share it, what `put` has kept outlives this one.

    Each method raises SessionsUnavailable where the store cannot be reached.
    """

    async def get(self, id: str) -> Kept | None:
        """Return what is kept; None: nothing."""

    async def put(self, id: str, owner: str, kept: Kept, expected: int | None) -> bool:
        """Keep a session, if it is as it was: compare and set.

        Args:
            owner: whose it is.
            expected: the number that must be kept now; None: nothing may be.

        Returns:
            Whether it is kept; if not, another call was first, or it is there no more.
        """

    async def delete(self, id: str) -> None:
        """Forget a session."""

    async def close(self) -> None:
        """Hold nothing open any more."""


@dataclass(slots=True)
class _Place:
    owner: str
    kept: Kept
    ends: float

    @property
    def size(self) -> int:
        return len(self.kept.data) + OVERHEAD


class MemoryStore:
    """Sessions in this process: they end with it.

    Where room ends, the owner who holds most loses what was used longest ago: nobody makes others lose theirs
    by making more.

    Args:
        most_bytes: of all sessions together.
        seconds: after which one is forgotten that has not changed.
    """

    def __init__(
        self, most_bytes: int, seconds: float, metrics: Metrics, clock: Callable[[], float] = monotonic
    ) -> None:
        self._most = most_bytes
        self._seconds = seconds
        self._metrics = metrics
        self._clock = clock
        self._places: OrderedDict[str, _Place] = OrderedDict()  # the next to end first
        self._owners: dict[str, OrderedDict[str, int]] = {}  # ids and sizes, what was used longest ago first
        self._held: dict[str, int] = {}  # bytes by owner
        self._bytes = 0

    async def get(self, id: str) -> Kept | None:
        """Return what is kept; None: nothing."""
        self._forget_old()
        place = self._places.get(id)
        if place is None:
            return None
        self._owners[place.owner].move_to_end(id)
        return place.kept

    async def put(self, id: str, owner: str, kept: Kept, expected: int | None) -> bool:
        """Keep a session, whatever others have to go for it; see `Store`."""
        self._forget_old()
        place = self._places.get(id)
        if (place.kept.number if place is not None else None) != expected:
            return False
        new = _Place(owner, kept, self._clock() + self._seconds)
        if place is not None:
            self._remove(id)
        self._places[id] = new
        self._owners.setdefault(owner, OrderedDict())[id] = new.size
        self._held[owner] = self._held.get(owner, 0) + new.size
        self._bytes += new.size
        while self._bytes > self._most and len(self._places) > 1:
            largest = max(self._held, key=lambda name: self._held[name] - new.size * (name == owner))
            self._drop(next(other for other in self._owners[largest] if other != id), ROOM)
        self._show()
        return True

    async def delete(self, id: str) -> None:
        """Forget a session."""
        if id in self._places:
            self._remove(id)
            self._show()

    async def close(self) -> None:
        """Hold nothing open any more."""

    def _forget_old(self) -> None:
        now = self._clock()
        while self._places and next(iter(self._places.values())).ends <= now:
            self._drop(next(iter(self._places)), AGE)
            self._show()

    def _drop(self, id: str, why: str) -> None:
        self._remove(id)
        self._metrics.of(self._metrics.sessions_dropped, why).inc()

    def _remove(self, id: str) -> None:
        place = self._places.pop(id)
        own = self._owners[place.owner]
        del own[id]
        self._held[place.owner] -= place.size
        self._bytes -= place.size
        if not own:
            del self._owners[place.owner], self._held[place.owner]

    def _show(self) -> None:
        self._metrics.sessions.set(len(self._places))
        self._metrics.session_bytes.set(self._bytes)
