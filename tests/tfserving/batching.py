"""What --enable_batching refuses and delays. Nothing is merged: each call is a batch of its own.

It takes every call, one for part of the outputs too (batching_session.cc: the default scheduler).
"""

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
            raise invalid(f"Task size {max(rows)} is larger than maximum input batch size {self._largest}")

    @contextmanager
    def thread(self, millis: int) -> Iterator[int]:
        """Wait for one of the threads that run batches, and give the time left; refuse where too many wait.

        A deadline that passes meanwhile is noticed only when a thread is free.
        """
        start = time.monotonic()
        if not self._threads.acquire(blocking=False):
            self._wait()
        try:
            left = millis - int((time.monotonic() - start) * 1000)
            if millis and left <= 0:
                raise StatusError(
                    StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
                )
            yield left if millis else 0
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

    def _wait(self) -> None:
        with self._lock:
            if self._waiting >= self._queue:
                raise StatusError(
                    StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{self._waiting} batches enqueued and max_enqueued_batches is {self._queue}",
                )
            self._waiting += 1
        self._threads.acquire()
        with self._lock:
            self._waiting -= 1


def _value(parameters: Any, field: str, default: int) -> int:
    return getattr(parameters, field).value if parameters.HasField(field) else default
