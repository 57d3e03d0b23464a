"""The ceiling: how fast a scheduler without a gateway's cost could be, simulated on the measured table.

Callers have one text each and send the next when they have the answer. When the model is free, the text that
has waited longest leads a batch, filled with those of like length, as many as give the most texts a second.
Finished rows cost nothing more. Tests hold it to numbers made by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
Pair = tuple[int, int]
"""Steps of a text, and of its answer (0 where nothing is decoded)."""


@dataclass(frozen=True, slots=True)
class Table:
    """Seconds by length and rows, of `SIZES`: of encoding, and of one step of decoding."""

    lengths: list[int]
    encoding: list[list[float]]  # (lengths, sizes)
    step: list[list[float]]  # (lengths, sizes)

    def encode_seconds(self, rows: int, length: int) -> float:
        """Return what it takes to encode so many rows, padded to a length."""
        return _between(self.encoding, self.lengths, rows, length)

    def step_seconds(self, rows: int, length: int) -> float:
        """Return what a step takes while so many rows have not ended."""
        return _between(self.step, self.lengths, rows, length)

    def seconds(self, batch: Sequence[Pair]) -> float:
        """Return what a batch takes, padded to its longest, rows dropped as soon as they have ended."""
        longest = max(source for source, _ in batch)
        targets = np.array([target for _, target in batch])
        alive = [int((targets > step).sum()) for step in range(targets.max())]
        return self.encode_seconds(len(batch), longest) + sum(self.step_seconds(n, longest) for n in alive)


def _between(values: list[list[float]], lengths: Sequence[int], rows: int, length: int) -> float:
    """Interpolate; past the longest, and past the most rows, in proportion."""
    by_rows = [float(np.interp(rows, SIZES, line)) * max(1.0, rows / SIZES[-1]) for line in values]
    return float(np.interp(length, lengths, by_rows)) * max(1.0, length / lengths[-1])


def ideal_rate(table: Table, pairs: Sequence[Pair], rows: int = 64) -> float:
    """Return texts a second of batches sorted by length: what the table says of the ideal."""
    ordered = sorted(pairs)
    batches = [ordered[at : at + rows] for at in range(0, len(ordered), rows)]
    return len(ordered) / sum(map(table.seconds, batches))


def ceiling_rate(
    table: Table, pairs: Sequence[Pair], callers: int, batches: int = 400, seed: int = 0
) -> float:
    """Return texts a second of a closed loop of so many callers, once it has settled."""
    random = np.random.default_rng(seed)
    ratio = sum(target for _, target in pairs) / sum(source for source, _ in pairs)

    def drawn(count: int) -> list[Pair]:
        return [pairs[place] for place in random.integers(len(pairs), size=count)]

    waiting, done, seconds = drawn(callers), 0, 0.0
    for number in range(batches + batches // 4):
        chosen = _batch(table, waiting, ratio)
        batch = [waiting[place] for place in chosen]
        if number >= batches // 4:
            seconds += table.seconds(batch)
            done += len(batch)
        taken = set(chosen)
        waiting = [pair for place, pair in enumerate(waiting) if place not in taken] + drawn(len(batch))
    return done / seconds


def _batch(table: Table, waiting: Sequence[Pair], ratio: float) -> list[int]:
    """Choose the places of the next batch: the oldest's, and the likest ones', by the best expected pace."""
    lead = waiting[0][0]
    mates = sorted(range(len(waiting)), key=lambda place: abs(waiting[place][0] - lead))[: SIZES[-1]]
    lengths = [waiting[place][0] for place in mates]
    counts = sorted({min(len(mates), round(1.25**power)) for power in range(23)})

    def pace(rows: int) -> float:
        longest = max(lengths[:rows])
        steps = ratio * sum(lengths[:rows]) / rows
        return rows / (table.encode_seconds(rows, longest) + steps * table.step_seconds(rows, longest))

    return mates[: max(counts, key=pace)]
