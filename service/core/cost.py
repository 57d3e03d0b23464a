"""What a batch costs, learned from the batches that were run: chooses how many rows leave together.

One object a batch key, held by `service.core.queue`.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from seqserve.service.contract.padding import Array

MEMORY = 0.98
"""What an observation weighs when the next has come: about the last fifty count."""
PENDING = 256
"""Observations that are kept until somebody asks: those before them would count for a hundredth together."""
SLACK = 0.01
"""Of the best batch's steps a second: more rows for so little would only make others wait."""
SHORTEST = 1e-6
"""Seconds that a batch takes at least: a clock may not tell the time before from the time after."""
TERMS, RIDGE = 4, 1e-6
SETS = [kept for size in range(1, TERMS + 1) for kept in combinations(range(TERMS), size)]
KEPT = np.array([[term in kept for term in range(TERMS)] for kept in SETS], float)  # (sets, terms)
WITHIN, BESIDE = KEPT[:, :, None] * KEPT[:, None, :], np.eye(TERMS) * (1 - KEPT)[:, None, :]
"""All sets are solved at once: the terms that one lacks stand for themselves, and come out as 0."""
TRIAL = 64
"""Each so many batches, twice or half the rows that seem best are run: among batches of one size, the terms
cannot be separated, and a size once thought best would stay so."""


@dataclass(slots=True)
class Cost:
    """Seconds of a batch ≈ a + b · length + c · rows · length + d · Σ steps, none of them negative.

    The call, its steps, its cells and its real ones: whether a graph drops finished rows shows in its times.
    The least squares of relative errors, so that small and large batches count alike.
    """

    weights: Array = field(default_factory=lambda: np.zeros(TERMS))
    _normal: Array = field(default_factory=lambda: np.zeros((TERMS, TERMS)))
    _target: Array = field(default_factory=lambda: np.zeros(TERMS))
    _seen: deque[tuple[int, int, int, float]] = field(default_factory=lambda: deque(maxlen=PENDING))
    # batches that the weights are not from yet, as `observe` is told of them
    _chosen: int = 0

    def observe(self, rows: int, length: int, steps: int, seconds: float) -> None:
        """Learn from one batch: its rows, padded to `length`, their real steps, and how long it took.

        What is learned is worked out once it is asked for: where rows come one by one, nobody does.
        """
        self._seen.append((rows, length, steps, max(seconds, SHORTEST)))

    def seconds(self, lengths: Sequence[int]) -> float:
        """Return what a batch of rows will take; 0 while nothing is known."""
        return float(self._seconds(lengths)[-1])

    def best(
        self, lengths: Sequence[int], least: int = 1, most_seconds: float = math.inf, is_whole: bool = False
    ) -> int:
        """Return how many of the rows, in the order given, to run together: all, while nothing is known.

        As few as come near the most steps a second, so that the others need not wait for more. Each
        `TRIAL`-th time it is another number. A request that is alone leaves whole, unless two batches are
        quicker: its last rows would have nobody to go with.

        Args:
            least: so many of them may go together, whatever they take.
            most_seconds: what more of them may take together.
            is_whole: they are a whole request, and nobody else waits.
        """
        if len(lengths) == 1 or not self._learned().any():
            return len(lengths)
        seconds = self._seconds(lengths)
        within = max(least, int(np.searchsorted(seconds, most_seconds, side="right")))
        pace = np.cumsum(lengths[:within]) / seconds[:within]
        best = int(np.argmax(pace >= (1 - SLACK) * pace.max())) + 1
        self._chosen += 1
        if self._chosen % TRIAL:
            return len(lengths) if is_whole and not self._pays_in_two(lengths, best) else best
        return 2 * best if 2 * best <= len(pace) else (best + 1) // 2

    def _pays_in_two(self, lengths: Sequence[int], first: int) -> bool:
        """Tell whether rows take less time if the first of them leave before the others."""
        if first == len(lengths):
            return False
        return self.seconds(lengths[:first]) + self.seconds(lengths[first:]) < self.seconds(lengths)

    def _seconds(self, lengths: Sequence[int]) -> Array:
        """Return what each number of the rows would take."""
        rows, longest = np.arange(1, len(lengths) + 1), np.maximum.accumulate(lengths)
        terms = np.stack([np.ones(len(rows)), longest, rows * longest, np.cumsum(lengths)])
        seconds: Array = self._learned() @ terms
        return seconds

    def _learned(self) -> Array:
        if self._seen:
            rows, lengths, steps, seconds = np.array(self._seen, float).T
            terms = np.stack([np.ones(len(rows)), lengths, rows * lengths, steps]) / seconds  # (terms, seen)
            weigh = MEMORY ** np.arange(len(rows) - 1, -1, -1)
            before = MEMORY ** len(rows)
            self._target = before * self._target + terms @ weigh
            self._normal = before * self._normal + (terms * weigh) @ terms.T
            self._seen.clear()
            self.weights = _non_negative(self._normal, self._target)
        return self.weights


def _non_negative(normal: Array, target: Array) -> Array:
    """Return the non-negative least squares solution of the normal equations.

    It is the best, of all sets of terms, of those whose own solution is non-negative.
    """
    ridged = normal + RIDGE * np.diag(np.diag(normal))  # batches of one size and length leave it singular
    weights = np.linalg.solve(ridged * WITHIN + BESIDE, (KEPT * target)[..., None])[..., 0]  # (sets, terms)
    explained = np.where((weights >= 0).all(axis=1), weights @ target, 0.0)
    best = int(explained.argmax())
    return np.asarray(weights[best] if explained[best] > 0 else np.zeros(TERMS))
