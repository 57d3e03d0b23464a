"""What --enable_batching refuses. Nothing is merged: each call is a batch of its own."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from grpc import StatusCode

from tests.tfserving.status import StatusError, failed_precondition, invalid

DEFAULT_BATCH = 1000
DEFAULT_QUEUE = 10


class Batching:
    """The scheduler's limits, from --batching_parameters_file."""

    def __init__(self, parameters: Any) -> None:
        self._largest = _value(parameters, "max_batch_size", DEFAULT_BATCH)
        self._splits = parameters.enable_large_batch_splitting.value
        self._queue = _value(parameters, "max_enqueued_batches", DEFAULT_QUEUE)
        self._threads = threading.Semaphore(_value(parameters, "num_batch_threads", os.cpu_count() or 1))
        self._lock = threading.Lock()
        self._waiting = 0

    def check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Refuse what has no common number of rows, or too many."""
        if not inputs:
            raise invalid("Batching Run() must have at least one input tensor")
        if any(value.ndim == 0 for value in inputs.values()):
            raise invalid("Batching Run() input tensors must have at least one dimension")
        rows = {value.shape[0] for value in inputs.values()}
        if len(rows) > 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        if max(rows) > self._largest and not self._splits:
            told = f"Task size {max(rows)} is larger than maximum input batch size {self._largest}"
            raise invalid(told)

    @contextmanager
    def thread(self, millis: int) -> Iterator[int]:
        """Wait for one of the threads that run batches; refuse where too many wait. Gives the time left."""
        start = time.monotonic()
        if not self._threads.acquire(blocking=False):
            self._wait(millis / 1000 if millis else None)
        try:
            waited = int((time.monotonic() - start) * 1000)
            yield max(1, millis - waited) if millis else 0
        finally:
            self._threads.release()

    def check_outputs(self, outputs: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> None:
        """Refuse outputs that cannot be split into the callers' rows."""
        rows = next(iter(inputs.values())).shape[0]
        for value in outputs.values():
            if value.ndim == 0:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if value.shape[0] != rows:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
                    "of the input tensors"
                )

    def _wait(self, seconds: float | None) -> None:
        with self._lock:
            if self._waiting >= self._queue:
                raise StatusError(
                    StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{self._waiting} batches enqueued and max_enqueued_batches is {self._queue}",
                )
            self._waiting += 1
        came = self._threads.acquire(timeout=seconds)
        with self._lock:
            self._waiting -= 1
        if not came:
            told = "Run() timeout exceeded while waiting in batching queue"
            raise StatusError(StatusCode.DEADLINE_EXCEEDED, told)


def _value(parameters: Any, field: str, default: int) -> int:
    return getattr(parameters, field).value if parameters.HasField(field) else default
