"""Two or more sides measured in turns, A B A B, each kept running: what a ratio of theirs can be believed by.

A machine's speed drifts within minutes, so a ratio is taken of slices within seconds of each other, turn by
turn, and told as the median with its spread. A probe of fixed work before and after each slice tells whether
the machine itself drifted meanwhile: where it did, turns go on until the last ones were steady, half as many
at most, and are marked where they never were.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")
U = TypeVar("U")
DRIFT, TRIES = 0.10, 1.5
"""By how much the slowest probe may exceed the quickest; and how many times as many turns drift may take."""
PIECES, LOOPS, SIDE = 9, 25_000, 160
"""Of a probe: parts, of which the median counts, for one interruption is no drift; and the work of each."""


@cache
def _matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, 0.01, (SIDE, SIDE)).astype(np.float32)


def probe() -> float:
    """Return the seconds of one part of some 20 ms of fixed work, half of it Python and half numpy."""
    taken = []
    for _ in range(PIECES):
        began = time.perf_counter()
        sum(number * number for number in range(LOOPS))
        value = _matrix()
        for _ in range(12):
            value = np.tanh(value @ _matrix())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@dataclass(frozen=True, slots=True)
class Turns(Generic[T]):
    """What each side came to, turn by turn, and whether the machine's speed drifted meanwhile."""

    took: Mapping[str, Sequence[T]]
    drifted: bool = False

    def of(self, figure: Callable[[T], U]) -> "Turns[U]":
        """Return a figure of each slice."""
        return Turns({side: [figure(one) for one in took] for side, took in self.took.items()}, self.drifted)

    def pairs(self, side: str, to: str) -> list[tuple[T, T]]:
        """Return two sides' slices of each turn."""
        return list(zip(self.took[side], self.took[to], strict=True))

    def ratios(self: "Turns[float]", side: str, to: str, scale: float = 1.0) -> list[float]:
        """Return one side's figure beside another's, that one times `scale`, of each turn."""
        return [ours / (scale * theirs) if theirs else 0.0 for ours, theirs in self.pairs(side, to)]

    def median(self: "Turns[float]", side: str) -> float:
        """Return the median of a side's turns."""
        return statistics.median(self.took[side])


def in_turns(
    sides: Mapping[str, Callable[[int], T]], turns: int, probed: Callable[[], float] = probe
) -> Turns[T]:
    """Measure a slice of each side in each turn, and go on while the machine's speed drifts.

    Args:
        sides: by name; each is given the turn's number.
        turns: those that count: the last ones.
        probed: returns seconds of fixed work where the sides run.
    """
    took: dict[str, list[T]] = {side: [] for side in sides}
    probes, lasting = [probed()], turns * len(sides) + 1
    for turn in range(int(TRIES * turns)):
        for side, measured in sides.items():
            took[side].append(measured(turn))
            probes.append(probed())
        last = probes[-lasting:]
        drifted = max(last) > (1 + DRIFT) * min(last)
        if turn + 1 >= turns and not drifted:
            break
    return Turns({side: slices[-turns:] for side, slices in took.items()}, drifted)
