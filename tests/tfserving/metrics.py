"""TensorFlow Serving's metrics, under its names, labels, units and buckets, as its exporter writes them."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

COUNTERS = {
    "/tensorflow/cc/saved_model/load_attempt_count": ("model_path", "status"),
    "/tensorflow/cc/saved_model/load_latency": ("model_path",),
    "/tensorflow/serving/model_warmup_records_read": ("model_path", "status"),
    "/tensorflow/serving/request_count": ("model_name", "status"),
}
HISTOGRAMS = {  # all in microseconds
    "/tensorflow/serving/model_warmup_latency": ("model_path", "status"),
    "/tensorflow/serving/request_latency": ("model_name", "API", "entrypoint"),
    "/tensorflow/serving/runtime_latency": ("model_name", "API", "runtime"),
}
LIMITS = [10 * 1.8**power for power in range(33)]
Labels = tuple[str, ...]


class Metrics:
    """What has been counted and timed; written and read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, int]] = {name: defaultdict(int) for name in COUNTERS}
        self._times: dict[str, dict[Labels, list[float]]] = {
            name: defaultdict(lambda: [0.0] * (len(LIMITS) + 2)) for name in HISTOGRAMS
        }

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name][labels] += by

    def observe(self, name: str, *labels: str, seconds: float) -> None:
        """Add a duration to a histogram."""
        micros = seconds * 1e6
        bucket = next((i for i, limit in enumerate(LIMITS) if micros < limit), len(LIMITS))
        with self._lock:
            cell = self._times[name][labels]
            cell[bucket] += 1
            cell[-1] += micros

    @contextmanager
    def timed(self, name: str, *labels: str) -> Iterator[None]:
        """Observe how long a block takes, unless it raises."""
        start = time.perf_counter()
        yield
        self.observe(name, *labels, seconds=time.perf_counter() - start)

    def text(self) -> str:
        """Return Prometheus' text form."""
        with self._lock:
            lines = [line for name in sorted((*COUNTERS, *HISTOGRAMS)) for line in self._family(name)]
        return "\n".join(lines) + "\n"

    def _family(self, name: str) -> Iterator[str]:
        shown = name.replace("/", ":")
        if name in COUNTERS:
            yield f"# TYPE {shown} counter"
            for values, count in self._counts[name].items():
                yield f"{shown}{{{_labels(COUNTERS[name], values)}}} {count}"
            return
        yield f"# TYPE {shown} histogram"
        for values, cell in self._times[name].items():
            labels, so_far = _labels(HISTOGRAMS[name], values), 0
            for limit, entries in zip([*map("{:g}".format, LIMITS), "+Inf"], cell, strict=False):
                so_far += int(entries)
                yield f'{shown}_bucket{{{labels},le="{limit}"}} {so_far}'
            yield f"{shown}_sum{{{labels}}} {cell[-1]:g}"
            yield f"{shown}_count{{{labels}}} {so_far}"


def _labels(names: Labels, values: Labels) -> str:
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return ",".join(f'{name}="{value}"' for name, value in zip(names, escaped, strict=True))
