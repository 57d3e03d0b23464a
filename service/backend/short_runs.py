"""Runs so short that they are done on the event loop itself: a thread is handed one for more than it takes.

On one core a hand-over and back is five switches between threads, which wait for the interpreter's lock and
find their caches cold. Meanwhile the loop does nothing else, as it does for any other part of a request.
"""

from dataclasses import dataclass, field

from seqserve.service.backend.base import Tensors

SHORT_SECONDS = 0.002
"""What a run may be expected to take on the loop: a request's turn there, as `service.core.turns` has it."""
MOST_SECONDS = 0.02
"""When one that takes longer after all is stopped, to be run again in a thread."""


@dataclass(slots=True)
class ShortRuns:
    """What the last run of one row took, by a version's signatures: seconds, and entries of its inputs."""

    _last: dict[str, tuple[float, int]] = field(default_factory=dict)

    def expects(self, signature: str, inputs: Tensors) -> bool:
        """Tell whether a run has one row and will be short, judged by the last one of one row."""
        seconds, size = self._last.get(signature, (SHORT_SECONDS, 1))
        return _is_row(inputs) and seconds * max(size, _size(inputs)) < SHORT_SECONDS * size

    def observe(self, signature: str, inputs: Tensors, seconds: float) -> None:
        """Learn from a run, however it was done."""
        if _is_row(inputs):
            self._last[signature] = seconds, _size(inputs)


def _is_row(inputs: Tensors) -> bool:
    """Tell whether it is one row of numbers: of a string nobody knows how long it is."""
    arrays = inputs.values()
    return {len(array) for array in arrays if array.ndim} == {1} and all(
        array.dtype != object for array in arrays
    )


def _size(inputs: Tensors) -> int:
    return max(1, sum(array.size for array in inputs.values()))
