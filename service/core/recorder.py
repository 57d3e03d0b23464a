"""What the metrics say of requests and their items: each is counted and timed once, whatever its end.

Nothing else touches these families.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from types import TracebackType
from typing import Self

from seqserve.service import errors
from seqserve.service.core.types import Call, ModelRef, Outcome
from seqserve.service.errors import OK, SeqserveError
from seqserve.service.metrics import NONE, OTHER, Metrics

NO_REASON = ""


class Recorder:
    """Makes the record of each request.

    Args:
        is_known: tells whether there is a model of a name; a label never has another one.
    """

    def __init__(
        self,
        metrics: Metrics,
        is_known: Callable[[str], bool],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._metrics = metrics
        self._is_known = is_known
        self._clock = clock

    def request(self, verb: str, ref: ModelRef, call: Call) -> "Record":
        """Return the record of a request that begins; it is a context, to be left when the request ends.

        Args:
            verb: what is asked of the model, out of a closed set.
        """
        model = ref.name if self._is_known(ref.name) else OTHER
        call.visit.model = model
        return Record(self._metrics, verb, call, (model, NONE), self._clock)

    def refused(self, verb: str, ref: ModelRef, call: Call, error: SeqserveError) -> None:
        """Count a request that was refused on arrival, before it was read."""
        self._metrics.of(self._metrics.rejected, error.reason).inc()
        self.request(verb, ref, call).end(error.code.value, error.reason)


class Record:
    """One request: which version answers it, what became of its items, how it ended and how long it took."""

    def __init__(
        self,
        metrics: Metrics,
        verb: str,
        call: Call,
        labels: tuple[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._verb = verb
        self._call = call
        self._labels = labels  # of the model and the version
        self._clock = clock
        self._started = clock()

    def __enter__(self) -> Self:
        self._open = self._metrics.of(self._metrics.in_flight, self._call.transport)
        self._open.inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.dec()
        self.end(*ending(error, self._call))

    def version(self, model: str, number: int) -> None:
        """Say which version answers."""
        self._labels = (model, str(number))
        self._call.visit.version = number

    def items(self, outcomes: Sequence[Outcome]) -> None:
        """Count what became of each item."""
        for outcome in outcomes:
            code, reason = OK, NO_REASON
            if isinstance(outcome, SeqserveError):
                code, reason = outcome.code.value, outcome.reason
                if not isinstance(outcome, errors.InvalidArgument):
                    self._metrics.of(self._metrics.rejected, reason).inc()
            for warning in getattr(outcome, "warnings", ()):
                self._metrics.of(self._metrics.warnings, *self._labels, warning).inc()
            self._metrics.of(self._metrics.items, *self._outcome_labels(code, reason)).inc()

    def end(self, code: str, reason: str) -> None:
        """Count and time the request."""
        metrics, seconds = self._metrics, self._clock() - self._started
        metrics.of(metrics.requests, *self._outcome_labels(code, reason)).inc()
        times = metrics.of(metrics.request_seconds, *self._labels, self._verb, self._call.transport)
        times.observe(seconds)

    def _outcome_labels(self, code: str, reason: str) -> tuple[str, ...]:
        return (*self._labels, self._verb, self._call.transport, code, reason)


def ending(error: BaseException | None, call: Call | None = None) -> tuple[str, str]:
    """Return the code and the reason of a call's end, for metrics and the access log.

    Args:
        error: what ended it; None: it was answered.
        call: which it ended; where its deadline had passed, that is why a door cancelled it.
    """
    if error is None:
        return OK, ""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        is_late = call is not None and call.is_late()
        kind: type[SeqserveError] = errors.DeadlineExceeded if is_late else errors.Cancelled
    else:
        kind = type(error) if isinstance(error, SeqserveError) else errors.Unexpected
    return kind.code.value, kind.reason
