"""What a batch costs, learned from the batches that were run: chooses how many rows leave together.

One object a batch key, held by `service.core.queue`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul

import numpy as np

from service.contract.padding import Array

MEMORY = 0.98
"""What an observation weighs when the next has come: about the last fifty count."""
ENOUGH = 0.96
"""Of the best pace that any number of rows would have; more rows for the rest would only make others wait."""
SWEEPS = 20
BEYOND, FADES = 2.0, 0.99
"""How many times as many rows as were run of late can be judged; what "of late" is worth a batch later."""
TRIAL = 16
"""Each so many batches, twice or half the rows that seem best are run: among batches of one size, the terms
cannot be told from one another, and a size once thought best would stay so."""


@dataclass(slots=True)
class Cost:
    """Seconds of a batch ≈ a + b · length + c · rows · length + d · Σ steps, none of them negative.

    The call, its steps, its cells and its real ones: whether a graph drops finished rows shows in its times.
    The least squares of relative errors, so that small and large batches count alike, by Gauss-Seidel sweeps
    over the normal equations, each coefficient cut at zero.

    As a few rows tell little of many (costs are concave), far more than were run are simply tried.
    """

    weights: list[float] = field(default_factory=lambda: [0.0] * 4)
    most: float = 1.0
    # plain numbers, as four are too few for arrays to be quicker
    _normal: list[list[float]] = field(default_factory=lambda: [[0.0] * 4 for _ in range(4)])
    _target: list[float] = field(default_factory=lambda: [0.0] * 4)
    _chosen: int = 0

    def observe(self, rows: int, length: int, steps: int, seconds: float) -> None:
        """Learn from one batch: its rows, padded to `length`, their real steps, and how long it took."""
        terms = [x / max(seconds, 1e-6) for x in (1.0, length, rows * length, steps)]
        self._target = [MEMORY * x + term for x, term in zip(self._target, terms, strict=True)]
        self._normal = [
            [MEMORY * x + term * other for x, other in zip(line, terms, strict=True)]
            for line, term in zip(self._normal, terms, strict=True)
        ]
        self.most = max(rows, FADES * self.most)
        for _ in range(SWEEPS):
            for i, line in enumerate(self._normal):
                left = self._target[i] - sum(map(mul, line, self.weights))
                self.weights[i] = max(0.0, self.weights[i] + left / line[i])

    def seconds(self, lengths: Sequence[int]) -> float:
        """Return what a batch of rows will take; 0 while nothing is known."""
        return float(self._seconds(lengths)[-1])

    def best(self, lengths: Sequence[int]) -> int:
        """Return how many of the rows, in the order given, to run together.

        That is the fewest that come within `ENOUGH` of the best pace, in real steps a second; all of them
        while nothing is known. Each `TRIAL`-th time it is another number.
        """
        if not any(self.weights):
            return len(lengths)
        if len(lengths) > BEYOND * self.most:
            return int(BEYOND * self.most)
        pace = np.cumsum(lengths) / self._seconds(lengths)
        best = int(np.argmax(pace >= ENOUGH * pace.max())) + 1
        self._chosen += 1
        if self._chosen % TRIAL:
            return best
        return 2 * best if 2 * best <= len(lengths) else (best + 1) // 2

    def _seconds(self, lengths: Sequence[int]) -> Array:
        """Return what each number of the rows would take."""
        rows, longest = np.arange(1, len(lengths) + 1), np.maximum.accumulate(lengths)
        terms = np.stack([np.ones(len(rows)), longest, rows * longest, np.cumsum(lengths)])
        seconds: Array = np.array(self.weights) @ terms
        return seconds
