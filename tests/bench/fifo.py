"""The service with a queue that takes rows as they come: what the scheduler is measured against.

`python -m tests.bench.fifo serve …` is `seqserve serve …` but for that. Batches are first come, first served:
as many rows as may be, whatever their lengths.
"""

from seqserve.service.core import scheduler
from seqserve.service.core.entries import Caller, Entry
from seqserve.service.core.queue import Budget, Queue


class FirstCome(Queue):
    """First in, first out."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self._limit = budget
        self._waiting: list[Entry] = []
        self.cells = 0

    def append(self, entry: Entry) -> None:
        """Take a row in. The bound is not what is measured here: there is none."""
        self._waiting.append(entry)
        entry.caller.entries.append(entry)

    def take(self, now: float) -> list[Entry]:
        """Remove and return the next batch."""
        live = [entry for entry in self._waiting if entry.is_live(now)]
        batch = [entry for entry in live[: self._limit.rows] if entry.key == live[0].key]
        taken = set(batch)
        self._waiting = [entry for entry in live if entry not in taken]
        return batch

    def clear(self) -> list[Entry]:
        """Remove and return all rows."""
        left, self._waiting = self._waiting, []
        return left

    def leave(self, caller: Caller) -> None:
        """Let a caller go: `take` drops who has gone."""
        caller.leave()

    def observe(self, *_: object) -> None:
        """Learn nothing."""


if __name__ == "__main__":
    from seqserve.service.cli import app

    scheduler.Queue = FirstCome  # type: ignore[misc, attr-defined]
    app()
