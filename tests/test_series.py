"""What a scrape is told of our plain numbers is what `prometheus_client` would tell of its own."""

import math

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from seqserve.service.series import Counter, Family, Gauge, Histogram

BOUNDS = (0.001, 0.5, 1, 1024)
VALUES = (0.0, 0.001, 0.0011, 0.5, 1, 3, 1024, 1025, 1e9)


def test_a_scrape_is_as_prometheus_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte: names, labels, buckets, sums, and since when; without labels and after some are gone."""
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.25)
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    labels = ("model", "version")
    histogram = lambda: Histogram((*BOUNDS, math.inf))  # noqa: E731
    pairs = [
        (
            prometheus_client.Counter("some", "How many.", labels, registry=theirs),
            Family("counter", "some", "How many.", labels, Counter, ours),
        ),
        (
            prometheus_client.Histogram("times", 'How "long".', labels, registry=theirs, buckets=BOUNDS),
            Family("histogram", "times", 'How "long".', labels, histogram, ours),
        ),
        (
            prometheus_client.Gauge("now", "Of no label.", registry=theirs),
            Family("gauge", "now", "Of no label.", (), Gauge, ours).labels(),
        ),
        (
            prometheus_client.Gauge("none", "Of no series.", ("code",), registry=theirs),
            Family("gauge", "none", "Of no series.", ("code",), Gauge, ours),
        ),
    ]
    for some, times, now in zip(*pairs[:3], strict=True):
        for series in (("a", "1"), ("b", "1"), ("b", "2"), ('"\n', "1")):
            some.labels(*series).inc()
            some.labels(*series).inc(2.5)
            for value in VALUES:
                times.labels(*series).observe(value)
        some.remove_by_labels({"model": "b", "version": "1"})
        times.remove_by_labels({"model": "b"})
        now.set(True)
        now.inc()
        now.dec()
    assert b'times_bucket{le="1024.0",model="a",version="1"} 7.0' in generate_latest(theirs)
    assert generate_latest(ours) == generate_latest(theirs)
