"""How many bytes of requests are held at once, by both doors together, and who gives way where room ends.

A request's bytes are held from when they arrive until it has been answered. Where the next ones find no
room, the largest request that is still arriving gives way: who sends much, slowly, loses to who sends little.
"""

from collections.abc import Callable

from seqserve.service import errors
from seqserve.service.errors import SeqserveError

LARGE = 2**20
RETRY_SECONDS = 1.0
"""What a caller is told to wait: about what a request takes."""


class BytesInFlight:
    """Counts the bytes that all requests hold.

    Args:
        limit: the most that they may hold together.
        on_large: is called when a request of LARGE bytes or more has been released.
    """

    def __init__(self, limit: int, on_large: Callable[[], None] | None = None) -> None:
        self._limit = limit
        self._on_large = on_large
        self._arriving: set[Held] = set()
        self.used = 0

    def hold(self, give_way: Callable[[SeqserveError], None] | None = None) -> "Held":
        """Return what counts one request's bytes; it must be released.

        Args:
            give_way: is called, at most once, where the request must give way while it still arrives; None:
                it has come whole.
        """
        held = Held(self, give_way)
        if give_way is not None:
            self._arriving.add(held)
        return held

    def _make_room(self, held: "Held", count: int) -> None:
        """Let the largest of those that still arrive go, until `count` more bytes of `held` fit.

        Raises:
            QueueFull: `held` is itself the largest, or the others have come whole.
        """
        while self.used + count > self._limit:
            largest = max(self._arriving, key=lambda other: other.count, default=held)
            if largest.count < held.count + count:
                raise self._full(count)
            largest.let_go(self._full(count))

    def _full(self, count: int) -> errors.QueueFull:
        return errors.QueueFull(
            f"requests hold {self.used} of the {self._limit} bytes that body_bytes_in_flight allows, "
            f"and {count} more came; send less at once, or try again",
            retry_after=RETRY_SECONDS,
            limit="body_bytes_in_flight",
        )


class Held:
    """The bytes of one request."""

    __slots__ = ("_all", "_give_way", "count")

    def __init__(self, all_held: BytesInFlight, give_way: Callable[[SeqserveError], None] | None) -> None:
        self._all = all_held
        self._give_way = give_way
        self.count = 0

    def add(self, count: int) -> None:
        """Count bytes that came.

        Raises:
            QueueFull: there is no room; they are not counted.
        """
        if self._all.used + count > self._all._limit:
            self._all._make_room(self, count)
        self.count += count
        self._all.used += count

    def arrived(self) -> None:
        """Say that the request has come whole: it gives way no more."""
        self._all._arriving.discard(self)

    def release(self) -> None:
        """Count its bytes no more; a second time is nothing."""
        self.arrived()
        count, self.count = self.count, 0
        self._all.used -= count
        if count >= LARGE and self._all._on_large is not None:
            self._all._on_large()

    def let_go(self, error: SeqserveError) -> None:
        """Make the request give way."""
        self.release()
        assert self._give_way is not None  # it was among those that arrive
        self._give_way(error)
