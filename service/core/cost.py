"""What a batch costs, learned from the batches that were run: chooses how many rows leave together.

One object a batch key, held by `service.core.queue`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

MEMORY = 0.98
"""What an observation weighs when the next has come: about the last fifty count."""
ENOUGH = 0.94
"""Of the best pace that any number of rows would have; more rows for the rest would only make others wait."""
SWEEPS = 8


@dataclass(slots=True)
class Cost:
    """Seconds of a batch ≈ a + b · length + c · rows · length, with a, b and c not negative.

    The least squares of relative errors, so that small and large batches count alike, by Gauss-Seidel
    sweeps over the normal equations, each coefficient cut at zero.
    """

    weights: list[float] = field(default_factory=lambda: [0.0] * 3)
    _normal: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    _target: list[float] = field(default_factory=lambda: [0.0] * 3)

    def observe(self, rows: int, length: int, seconds: float) -> None:
        """Learn from one batch: how many rows, padded to what length, how long it took."""
        terms = [term / max(seconds, 1e-6) for term in _terms(rows, length)]
        for i, term in enumerate(terms):
            self._target[i] = MEMORY * self._target[i] + term
            self._normal[i] = [MEMORY * n + term * t for n, t in zip(self._normal[i], terms, strict=True)]
        for _ in range(SWEEPS):
            for i, line in enumerate(self._normal):
                left = self._target[i] - sum(n * w for n, w in zip(line, self.weights, strict=True))
                self.weights[i] = max(0.0, self.weights[i] + left / line[i])

    def seconds(self, rows: int, length: int) -> float:
        """Return what a batch will take; 0 while nothing is known."""
        return sum(w * t for w, t in zip(self.weights, _terms(rows, length), strict=True))

    def best(self, lengths: Sequence[int]) -> int:
        """Return how many of the rows, in the order given, to run together.

        That is the fewest that come within `ENOUGH` of the best pace, in real steps a second; all of them
        while nothing is known.
        """
        if not any(self.weights):
            return len(lengths)
        work = accumulate(lengths)
        paces = [
            done / self.seconds(rows, longest)
            for rows, (done, longest) in enumerate(zip(work, accumulate(lengths, max), strict=True), start=1)
        ]
        wanted = ENOUGH * max(paces)
        return next(rows for rows, pace in enumerate(paces, start=1) if pace >= wanted)


def _terms(rows: int, length: int) -> tuple[float, float, float]:
    return 1.0, float(length), float(rows * length)
