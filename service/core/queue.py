"""The entries that wait for a batch, and the choice of the next batch. A plain state object: no tasks.

Owned by `service.core.scheduler`. Oldest entry first, filled with entries of like length under a
budget of padded cells, after text-embeddings-inference's queue (see CONTRIBUTING.md).
"""

import asyncio
from dataclasses import dataclass, field

from service import errors
from service.contract.padding import Row, bucket_of
from service.core.types import BatchOptions, Outputs, Served

RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class BatchKey:
    """Rows with equal keys may share a batch. `served` is compared by identity: one version's rows."""

    served: Served
    signature: str
    options: BatchOptions


@dataclass(slots=True, eq=False)
class Entry:
    """One row waiting. Its future ends with the row's outputs, an error, or the caller's leaving."""

    key: BatchKey
    row: Row
    deadline: float  # absolute, on the event loop's clock
    arrived: float  # on time.perf_counter: a loop's clock may tick in milliseconds
    future: asyncio.Future[Outputs]
    cells: int = field(init=False)  # what the row takes of a budget when padded to its own bucket

    def __post_init__(self) -> None:
        manifest, length = self.key.served.manifest, self.row.length
        self.cells = length if manifest.batching == "single" else bucket_of(length, manifest.buckets)

    def is_live(self, now: float) -> bool:
        """Tell whether someone still waits for the answer, and in time."""
        return not self.future.done() and self.deadline > now


@dataclass(frozen=True, slots=True)
class Budget:
    """What bounds a batch (rows, and rows times padded length) and the whole queue (cells)."""

    rows: int
    cells: int
    queue_cells: int


class Queue:
    """First in, first considered."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._entries: list[Entry] = []
        self.cells = 0

    def append(self, entry: Entry, now: float) -> None:
        """Take an entry in.

        Raises:
            QueueFull: its cells would not fit, even after those that nobody waits for are dropped.
        """
        if self.cells + entry.cells > self._budget.queue_cells:
            self._keep([waiting for waiting in self._entries if waiting.is_live(now)])
        if self.cells + entry.cells > self._budget.queue_cells:
            limit = self._budget.queue_cells
            raise errors.QueueFull(
                f"{self.cells} cells wait and {entry.cells} more would pass the limit of {limit}",
                retry_after=RETRY_SECONDS,
            )
        self._entries.append(entry)
        self.cells += entry.cells

    def take(self, now: float) -> list[Entry]:
        """Remove and return the next batch; empty if nobody waits. Dead entries are dropped first."""
        live = [entry for entry in self._entries if entry.is_live(now)]
        if not live:
            self._keep([])
            return []
        chosen = self._fill(live)
        taken = set(chosen)
        self._keep([entry for entry in live if entry not in taken])
        return chosen

    def clear(self) -> list[Entry]:
        """Remove and return all entries."""
        left = self._entries
        self._keep([])
        return left

    def _fill(self, live: list[Entry]) -> list[Entry]:
        oldest = live[0]
        if oldest.key.served.manifest.batching == "single":
            return [oldest]
        mates = [entry for entry in live if entry.key == oldest.key]
        mates.sort(key=lambda entry: (entry is not oldest, abs(entry.row.length - oldest.row.length)))
        chosen, longest = [oldest], oldest.cells
        for entry in mates[1:]:
            if len(chosen) == self._budget.rows:
                break
            needed = max(longest, entry.cells)
            if needed * (len(chosen) + 1) <= self._budget.cells:  # else a shorter one may still fit
                chosen.append(entry)
                longest = needed
        return chosen

    def _keep(self, entries: list[Entry]) -> None:
        self._entries = entries
        self.cells = sum(entry.cells for entry in entries)
