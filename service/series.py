"""Metrics as plain numbers, which become samples when they are asked for; `service.metrics` makes them.

`prometheus_client`'s own lock, check and search at each count: a tenth of a request's processor time. These
count, and are asked, on the event loop alone, where there is nothing to lock.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_written: Callable[[float], str] = floatToGoString


class Series(Protocol):
    """Of one family, what has the same values of the labels."""

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield what a scrape is told: the end of the name, labels beside the family's, and the value."""


S = TypeVar("S", bound=Series)


class Counter:
    """Counts up."""

    __slots__ = ("_created", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._created = time.time()

    def inc(self, amount: float = 1) -> None:
        """Count some more."""
        self.value += amount

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield the total, and since when it is counted, in Unix time."""
        yield "_total", {}, self.value
        yield "_created", {}, self._created


class Gauge:
    """Is what it was set to last."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        """Be so much."""
        self.value = float(value)

    def inc(self) -> None:
        """Be one more."""
        self.value += 1

    def dec(self) -> None:
        """Be one less."""
        self.value -= 1

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield the value."""
        yield "", {}, self.value


class Histogram:
    """Counts values by the bucket that they fall into.

    Args:
        bounds: the most that each bucket takes, ascending, infinity last.
    """

    __slots__ = ("_bounds", "_counts", "_created", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._sum = 0.0
        self._created = time.time()

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Yield how many values there are up to each bound, and in all; their sum; and since when."""
        count = 0
        for bound, own in zip(self._bounds, self._counts, strict=True):
            count += own
            yield "_bucket", {"le": _written(bound)}, float(count)
        yield "_count", {}, float(count)
        yield "_sum", {}, self._sum
        yield "_created", {}, self._created


class Family(Collector, Generic[S]):
    """The series of one name.

    Args:
        kind: `counter`, `gauge` or `histogram`.
        names: of the labels.
        make: makes a series.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        text: str,
        names: tuple[str, ...],
        make: Callable[[], S],
        registry: CollectorRegistry,
    ) -> None:
        self.name = name
        self.kind = kind
        self.names = names
        self.make = make
        self.by_labels: dict[tuple[str, ...], S] = {}
        self._text = text
        registry.register(self)

    def labels(self, *labels: str) -> S:
        """Return the series of these values of the labels, which is shown from now on."""
        if len(labels) != len(self.names):
            raise ValueError(f"{self.name} has the labels {self.names}, not {len(labels)}")
        return self.by_labels.setdefault(labels, self.make())

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Remove every series that has these among its labels."""
        wanted = [(self.names.index(name), value) for name, value in labels.items()]
        for own in [own for own in self.by_labels if all(own[at] == value for at, value in wanted)]:
            del self.by_labels[own]

    def describe(self) -> list[Metric]:
        """Return the family without its samples: what a registry asks to keep names apart."""
        return [Metric(self.name, self._text, self.kind)]

    def collect(self) -> Iterator[Metric]:
        """Yield the family, as `prometheus_client` asks for it."""
        (metric,) = self.describe()
        for labels, series in self.by_labels.items():
            own = dict(zip(self.names, labels, strict=True))
            for end, more, value in series.samples():
                metric.add_sample(self.name + end, own | more, value)
        yield metric
