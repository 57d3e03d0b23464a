"""Rows to batches: their order, their padding, and the scale that numbers are divided by.

The batches of an epoch are a function of (seed, epoch) alone, so a resumed run sees what an uninterrupted one
would.
"""

from collections.abc import Iterator, Sequence

import numpy as np

ROUNDING = 1e-9


def epoch_batches(lengths: Sequence[float], batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the row indices of each batch of an epoch: shuffled, with rows of similar length together.

    Rows are sorted within pools of 50 batches only, so batches differ from epoch to epoch.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    pool = 50 * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(np.asarray(lengths)[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def scale_of(values: np.ndarray) -> np.ndarray:
    """Return the deviation of each column of (rows, …), to divide by; 1 where only rounding varies it."""
    deviation = values.std(axis=0)
    return np.where(deviation > ROUNDING * np.maximum(1.0, np.abs(values.mean(axis=0))), deviation, 1.0)


def pad_right(rows: Sequence[np.ndarray], value: float) -> np.ndarray:
    """Stack rows of different lengths into one array, padded on the right with `value`."""
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), longest, *rows[0].shape[1:]), value, rows[0].dtype)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out
