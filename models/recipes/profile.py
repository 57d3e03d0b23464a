"""Figures of the training rows that a manifest carries: what live traffic can be measured against."""

from collections.abc import Sequence

import numpy as np

from seqserve.service.contract.padding import Array


def length_percentiles(lengths: Sequence[int] | Array) -> dict[str, int]:
    """Return how long the rows are: the 5th, 50th, 95th and 100th percentile, in steps."""
    return {f"p{q}": int(np.percentile(lengths, q)) for q in (5, 50, 95, 100)}


def column_ranges(values: Array) -> list[list[float]]:
    """Return [least, most] of each column of (steps, columns)."""
    ranges: list[list[float]] = np.stack([values.min(axis=0), values.max(axis=0)], axis=1).tolist()
    return ranges
