"""Who is refused for the waiting ahead: judged by room, and by the pace at which batches end. No tasks."""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field

from seqserve.service import errors
from seqserve.service.core.queue import Line
from seqserve.service.core.returns import Returns

HOPELESS = 0.5
"""Share of its time that a row may be expected to wait; past it, it is refused at once."""
RECENT = 10
"""Batches that the pace is estimated from."""
ENOUGH_SEEN = 3
"""Batches to be seen before anybody is refused for the waiting ahead."""


@dataclass(slots=True)
class _Pace:
    """How fast a model's batches end while others wait, whatever else has its turn meanwhile."""

    seconds: float = 0.0  # a cell; 0: not known
    interval: float = 0.0  # seconds from the end of a batch to that of the next
    since: float | None = None  # when the last batch ended, if others waited then
    ends: int = 0  # of the line, by then
    seen: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    # seconds from one such end to the next, and cells
    returns: Returns = field(default_factory=Returns)  # of those who are refused

    def observe(self, cells: int, seconds: float, now: float, line: Line) -> None:
        """Learn from the end of a batch, if others have waited since the one before.

        The longest time is left out: a stall would make waits look hopeless, and refused rows teach nothing.
        What is learned is kept for the next rush, unless a batch that nobody waited behind was quicker.
        """
        if self.since is not None and self.ends == line.ends:
            self.seen.append((now - self.since, cells))
            kept = sorted(self.seen)[:-1] if len(self.seen) >= ENOUGH_SEEN else []
            taken = sum(seconds for seconds, _ in kept)
            self.seconds = taken / max(1, sum(cells for _, cells in kept))
            self.interval = taken / max(1, len(kept))
        elif seconds < self.seconds * cells:
            self.seconds, self.interval = seconds / cells, min(seconds, self.interval)
        self.since, self.ends = now if line.size else None, line.ends

    def refusal(
        self, message: str, principal: str, cells: int, wait: float, now: float, limit: str = ""
    ) -> errors.QueueFull:
        """Return what a principal is told whose request of so many cells would wait so many seconds."""
        after, held = self.returns.give(principal, cells * self.seconds, wait, now)
        error = errors.QueueFull(message, retry_after=after, limit=limit)
        error.told_after = held
        return error


class Admission:
    """Lets requests into the queue, whole or not at all.

    Args:
        queue_cells: the most that may wait for one model.
    """

    def __init__(self, queue_cells: int) -> None:
        self._limit = queue_cells
        self._paces: defaultdict[str, _Pace] = defaultdict(_Pace)

    def observe(self, line: Line, model: str, cells: int, seconds: float, now: float) -> None:
        """Learn from a batch of a model, of so many cells, that took so long and has ended now."""
        self._paces[model].observe(cells, seconds, now, line)

    def check(
        self,
        line: Line,
        model: str,
        principal: str,
        left: float,
        now: float,
        rows: int = 1,
        cells: int | None = None,
    ) -> None:
        """Refuse a new request as a whole, or tell beforehand whether one row would be refused.

        Each model has room of its own, and a request that nobody waits before is always taken.

        Args:
            line: those who wait for the model.
            left: seconds to its deadline.
            now: on the clock of `observe`.
            cells: of its rows together; None: they are taken to be as long as those that wait.

        Raises:
            QueueFull: its cells do not fit, or it would wait for most of the time that it has.
        """
        if not line.size:
            return
        more = math.ceil(rows * line.cells / line.size) if cells is None else cells
        pace = self._paces[model]
        if line.cells + more > self._limit:
            message = (
                f"{line.cells} cells wait for {model!r} and {more} more would pass the limit of {self._limit}"
            )
            raise pace.refusal(message, principal, more, line.cells * pace.seconds, now, "max_queue_cells")
        # half a batch that is under way, and on average half of its own last one
        wait = line.ahead(principal, rows, more) * pace.seconds + pace.interval
        if 0 < HOPELESS * left < wait:
            message = f"{wait:.1f} s of waiting are ahead, and the deadline is in {left:.1f} s"
            raise pace.refusal(message, principal, more, wait, now)
