"""What a batch costs, learned from the batches that were run: chooses how many rows leave together.

One object a batch key, held by `service.core.queue`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.contract.padding import Array

MEMORY = 0.98
"""What an observation weighs when the next has come: about the last fifty count."""
ENOUGH = 0.96
"""Of the best pace that any number of rows would have; more rows for the rest would only make others wait."""
SWEEPS = 20
BEYOND, FADES = 2.0, 0.99
"""How many times as many rows as were run of late can be judged; what "of late" is worth a batch later."""


@dataclass(slots=True)
class Cost:
    """Seconds of a batch ≈ a + b · length + c · rows · length + d · Σ steps, none of them negative.

    The call, its steps, its cells and its real ones: whether a graph drops finished rows shows in its times.
    The least squares of relative errors, so that small and large batches count alike, by Gauss-Seidel sweeps
    over the normal equations, each coefficient cut at zero.

    As a few rows tell little of many (costs are concave), far more than were run are simply tried.
    """

    weights: Array = field(default_factory=lambda: np.zeros(4))
    most: float = 1.0
    _normal: Array = field(default_factory=lambda: np.zeros((4, 4)))
    _target: Array = field(default_factory=lambda: np.zeros(4))

    def observe(self, rows: int, length: int, steps: int, seconds: float) -> None:
        """Learn from one batch: its rows, padded to `length`, their real steps, and how long it took."""
        terms = np.array([1.0, length, rows * length, steps]) / max(seconds, 1e-6)
        self._target = MEMORY * self._target + terms
        self._normal = MEMORY * self._normal + np.outer(terms, terms)
        self.most = max(rows, FADES * self.most)
        for _ in range(SWEEPS):
            for i, line in enumerate(self._normal):
                left = self._target[i] - line @ self.weights
                self.weights[i] = max(0.0, self.weights[i] + left / line[i])

    def seconds(self, lengths: Sequence[int]) -> float:
        """Return what a batch of rows will take; 0 while nothing is known."""
        return float(self._seconds(lengths)[-1])

    def best(self, lengths: Sequence[int]) -> int:
        """Return how many of the rows, in the order given, to run together.

        That is the fewest that come within `ENOUGH` of the best pace, in real steps a second; all of them
        while nothing is known.
        """
        if not self.weights.any():
            return len(lengths)
        if len(lengths) > BEYOND * self.most:
            return int(BEYOND * self.most)
        pace = np.cumsum(lengths) / self._seconds(lengths)
        return int(np.argmax(pace >= ENOUGH * pace.max())) + 1

    def _seconds(self, lengths: Sequence[int]) -> Array:
        """Return what each number of the rows would take."""
        rows, longest = np.arange(1, len(lengths) + 1), np.maximum.accumulate(lengths)
        terms = np.stack([np.ones(len(rows)), longest, rows * longest, np.cumsum(lengths)])
        seconds: Array = self.weights @ terms
        return seconds
