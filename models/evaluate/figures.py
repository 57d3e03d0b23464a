"""Figures with their 95 % intervals, by the bootstrap over groups.

Rows of one group (the prefixes of a case, the windows of a week) are not independent, so whole groups are
drawn. Percentile bootstrap: Efron, 1979, https://doi.org/10.1214/aos/1176344552.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqserve.service.contract.padding import Array

DRAWS = 2000
AT_ONCE = 100
LEVELS = (2.5, 97.5)
Groups = Sequence[Hashable] | Array
Statistic = Callable[[Array], Array]
"""From sums over rows, (…, k), to the figure, (…)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


Figures = Mapping[str, Figure | float | int | str]
"""A version's quality: figures with intervals, and plain counts and facts."""


Pictures = Mapping[str, Callable[[], Any]]
"""Functions that draw a picture (a matplotlib figure), by its name; they run only if it is asked for."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A version's figures, and the pictures that can be drawn."""

    figures: Figures
    pictures: Pictures = field(default_factory=dict)


def figure(totals: Array, statistic: Statistic, groups: Groups | None = None) -> Figure:
    """Return a statistic of sums over rows with its interval.

    Args:
        totals: (rows, k), summed over rows before the statistic.
        groups: the group of each row; whole groups are drawn. Each row is its own group if absent.
    """
    by_group = np.asarray(totals, np.float64)
    if groups is not None:
        places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        by_group = np.zeros((len(places), totals.shape[1]))
        np.add.at(by_group, [places[group] for group in groups], totals)
    draw, count = np.random.default_rng(1), len(by_group)
    drawn = []
    for _ in range(DRAWS // AT_ONCE):
        times = draw.multinomial(count, np.full(count, 1 / count), AT_ONCE)  # (draws, groups)
        drawn.append(statistic(times @ by_group))
    low, high = np.nanpercentile(np.concatenate(drawn), LEVELS)
    return Figure(float(statistic(by_group.sum(axis=0))), float(low), float(high))


def mean(values: Sequence[float] | Array, groups: Groups | None = None) -> Figure:
    """Return the mean, with its interval, of one value for each row."""
    column = np.asarray(values, np.float64)
    return figure(np.stack([column, np.ones(len(column))], axis=1), ratio, groups)


def ratio(totals: Array) -> Array:
    """Return the first sum over the second: the mean, where the second counts rows."""
    shares: Array = totals[..., 0] / totals[..., 1]
    return shares


def as_json(figures: Figures) -> dict[str, Any]:
    """Return figures as a JSON-ready dict: values by name, and under `intervals` [low, high] by name."""
    intervals = {
        name: [_short(entry.low), _short(entry.high)]
        for name, entry in figures.items()
        if isinstance(entry, Figure)
    }
    plain = {name: entry.value if isinstance(entry, Figure) else entry for name, entry in figures.items()}
    return {
        **{name: _short(value) if isinstance(value, float) else value for name, value in plain.items()},
        "intervals": intervals,
    }


def _short(value: float) -> float:
    return round(value, 4)
