"""What a model of translations wrote, read for all rows of a batch together: most calls cost as much for one.

`service.core.translate` asks it row by row. What is wrong with a row is told where that row is asked for, and
harms no other.
"""

from collections.abc import Container

import numpy as np

from seqserve.service.contract.padding import Array
from seqserve.service.core.alignment import Attention
from seqserve.service.core.doubts import LOW_WORD
from seqserve.service.core.types import Batch

ATTENTION, COVERAGE, ATTENDED = "attention", "coverage", "attended"
"""The outputs of the attention weights, their sums, and the most attended places: a model may lack them.

Where there are the last two, they are read, and the first for the alignment alone.
"""


class Hypotheses:
    """A batch's.

    Args:
        given: the outputs that the signature has.
    """

    def __init__(self, batch: Batch, given: Container[str]) -> None:
        self._outputs = batch.outputs
        self._has_coverage, self._has_attention = COVERAGE in given, ATTENTION in given
        self._lengths: list[list[int]] = batch.outputs["lengths"].tolist()
        self._scores: list[list[float]] = batch.outputs["scores"].tolist()
        self._ids = batch.outputs["ids"]
        self._best: list[list[int]] = self._ids[:, 0].tolist() if self._ids.shape[1] else []
        self._attention: dict[tuple[int, int], Attention | None] = {}
        self._low: list[int] | None = None  # pieces of each row that the best attends to little
        if self._has_coverage and _is_sound(batch):
            self._low = _low(batch).tolist()

    def scores(self, row: int) -> list[float]:
        """Return a row's, of each beam."""
        return self._scores[row]

    def ids(self, row: int, beam: int) -> list[int]:
        """Return the ids of a hypothesis, cut to its length.

        Raises:
            ValueError: a length of the row is outside the time axis.
            IndexError: there is no such beam.
        """
        lengths, steps = self._lengths[row], self._ids.shape[2]
        if min(lengths) < 1 or max(lengths) > steps:
            raise ValueError(f"lengths {lengths} for {steps} ids")
        if not beam:
            return self._best[row][: lengths[0]]
        ids: list[int] = self._ids[row, beam, : lengths[beam]].tolist()
        return ids

    def low(self, row: int) -> int | None:
        """Return how many source pieces the best hypothesis hardly attends to; None: not known."""
        return None if self._low is None else self._low[row]

    def attention(self, row: int, beam: int, length: int, steps: int, is_whole: bool) -> Attention | None:
        """Return what a hypothesis of so many steps attended to; None where the model does not say.

        Args:
            length: of the source, in pieces.
            is_whole: whether all weights are wanted, where they are there.

        Raises:
            ValueError: they are not finite, or of another shape.
        """
        if (row, beam) not in self._attention:
            self._attention[row, beam] = self._read_attention(row, beam, length, steps, is_whole)
        return self._attention[row, beam]

    def _read_attention(
        self, row: int, beam: int, length: int, steps: int, is_whole: bool
    ) -> Attention | None:
        outputs, matrix = self._outputs, None
        if self._has_attention and (is_whole or not self._has_coverage):
            matrix = _finite(outputs[ATTENTION][row][beam, :steps, :length], (steps, length))
        if not self._has_coverage:
            return None if matrix is None else Attention(np.add.reduce(matrix), None, matrix)
        coverage = _finite(outputs[COVERAGE][row][beam, :length], (length,))
        places = _finite(outputs[ATTENDED][row][beam, :steps], (steps,))
        if places.min() < 0 or places.max() >= outputs[COVERAGE].shape[-1]:
            raise ValueError("attended places are outside the source")
        # a model that does not mask its padding may look there
        return Attention(coverage, np.minimum(places, length - 1), matrix)


def _is_sound(batch: Batch) -> bool:
    """Tell whether no row's coverage and places can be wrong, so that none has to be looked at by itself."""
    coverage, places = batch.outputs[COVERAGE], batch.outputs[ATTENDED]
    beams, steps = batch.outputs["ids"].shape[1:]
    if coverage.shape[1] != beams or places.shape[1:] != (beams, steps) or not places.size:
        return False
    is_within = max(batch.lengths) <= coverage.shape[2] and places.min() >= 0
    return bool(is_within and places.max() < coverage.shape[2] and np.isfinite(coverage).all())


def _low(batch: Batch) -> Array:
    """Return how many real source pieces the best hypothesis of each row attends to little: (rows)."""
    coverage = batch.outputs[COVERAGE][:, 0]  # (rows, source)
    real = np.arange(coverage.shape[1]) < np.array(batch.lengths)[:, None]
    low: Array = np.count_nonzero((coverage < LOW_WORD) & real, axis=1)
    return low


def _finite(values: Array, shape: tuple[int, ...]) -> Array:
    """Return values as they are; raises ValueError where they are not finite, or of another shape."""
    if values.shape != shape or np.count_nonzero(np.isfinite(values)) < values.size:
        raise ValueError("attention is not finite, or of another shape than ids and source")
    return values
