"""Rows c, d and g: waiting under load, padding, and more load than there is room for."""

import statistics
from collections.abc import Sequence

import numpy as np

from tests.bench.bench import CONNECTIONS, Bench
from tests.bench.clients import OK, Load
from tests.bench.processes import COMMAND, FIRST_COME, Service, service
from tests.bench.report import Target
from tests.bench.speed import MANY, cells, measured

SHARE, EXCESS = 0.8, 5.0
PATIENCE = 2.0
"""Seconds that a caller under overload gives a request."""
QUEUED_SECONDS = 1.0
"""Work that a user who wants short waits lets queue."""
NEAR_FIFO, LITTLE_WASTE = Target("at most", 1.3), Target("at most", 0.12, "value")
WASTEFUL = Target("at least", 0.30, "value")
GOODPUT, AT_ONCE = Target("at least", 0.9), Target("at most", 10.0, "value")
TOO_MANY = 429


def waits(bench: Bench) -> None:
    """Rows c and d: the same load on our queue and on one that takes rows as they come."""
    ours = measured(bench, bench.texts)
    most = max(bench.plan.callers)
    with service(bench.cores.server, bench.texts.root, FIRST_COME) as running:
        rates, waste = _capacities(bench, running)
        loads = [
            ("80 % of our capacity", SHARE * ours.rate(most)),
            ("80 % of its capacity", SHARE * rates[most]),
        ]
        fifo = [_at(bench, running, rate, f"FIFO, {name}") for name, rate in loads]
    with service(bench.cores.server, bench.texts.root, COMMAND) as running:
        mine = [_at(bench, running, rate, name) for name, rate in loads]
    for callers, rate in rates.items():
        bench.add("c", f"FIFO, {callers} callers", rate, "texts/s", ("ours", ours.rate(callers)))
    for (name, _), theirs, own in zip(loads, fifo, mine, strict=True):
        _compare(bench, name, theirs, own)
    bench.add("d", "FIFO's padding at 64 callers", waste, "of cells", target=WASTEFUL)
    share = ours.padding / ours.cells
    bench.add("d", "our padding at 64 callers", share, "of cells", ("FIFO's", waste), target=LITTLE_WASTE)


def _capacities(bench: Bench, running: Service) -> tuple[dict[int, float], float]:
    """Return what FIFO answers a second by callers, and its padding at 64."""
    requests, rates, waste = bench.texts.rest(running.rest_port), {}, 0.0
    for callers in sorted({MANY, max(bench.plan.callers)}):
        bench.say(f"FIFO, {callers} callers")
        before = cells(running, bench.texts)
        rates[callers] = bench.closed(bench.by_rest(running, callers), requests, bench.plan.seconds).rate
        padding, real = (a - b for a, b in zip(cells(running, bench.texts), before, strict=True))
        waste = padding / (padding + real) if callers == MANY else waste
    return rates, waste


def _at(bench: Bench, running: Service, rate: float, name: str) -> Load:
    bench.say(f"open loop at {name}")
    requests = bench.texts.rest(running.rest_port)
    doors = bench.by_rest(running, CONNECTIONS // 4)
    bench.closed(bench.by_rest(running, MANY), requests, bench.plan.seconds / 4)  # warms, and teaches costs
    return bench.opened(doors, requests, rate, bench.plan.tail_seconds)


def _compare(bench: Bench, name: str, fifo: Load, own: Load) -> None:
    theirs, mine = (load.latencies() * 1e3 for load in (fifo, own))
    for q, title, target in ((50, "p50", None), (99, "p99", NEAR_FIFO), (100, "longest wait", None)):
        reference = ("FIFO's", float(np.percentile(theirs, q)))
        parts = _parts(mine, q) if q < 100 else ()
        spread = [part / reference[1] for part in parts]
        value = float(np.percentile(mine, q))
        bench.add("c", f"{title} at {name}", value, "ms", reference, spread=spread, target=target)
    if own.failed:
        bench.add("c", f"failed at {name}", own.failed, "texts")


def _parts(values: np.ndarray, q: float) -> list[float]:
    """Return the percentile of each third."""
    return [float(np.percentile(part, q)) for part in np.array_split(values, 3) if len(part)]


def overload(bench: Bench) -> None:
    """Row g: five times what can be done, of callers who give each text two seconds."""
    ours = measured(bench, bench.texts)
    peak = ours.rate(max(bench.plan.callers))
    steps = statistics.mean(source for source, _ in ours.pairs)
    short = int(peak * QUEUED_SECONDS * steps)
    bounded = f"SEQSERVE_MAX_QUEUE_CELLS={short} (a second's work)"
    for name, settings in (("default settings", {}), (bounded, {"max_queue_cells": short})):
        bench.say(f"overload, {name}")
        with service(bench.cores.server, bench.texts.root, COMMAND, **settings) as running:
            requests = bench.texts.rest(running.rest_port, timeout=f"{PATIENCE:.0f}S")
            bench.closed(bench.by_rest(running, MANY), requests, bench.plan.seconds / 4)
            doors = bench.by_rest(running, CONNECTIONS)
            load = bench.opened(doors, requests, EXCESS * peak, bench.plan.tail_seconds / 2)
        _told(bench, name, load, peak)


def _told(bench: Bench, name: str, load: Load, peak: float) -> None:
    sent, seconds, statuses = map(np.array, (load.sent, load.seconds, load.statuses))
    ended = sent + seconds
    in_time = (statuses == OK) & (seconds <= PATIENCE) & (ended >= load.begun) & (ended <= load.ended)
    good = float(in_time.sum() / (load.ended - load.begun))
    spread = _spans(ended[in_time], load)
    bench.add(
        "g",
        f"answers in time, {name}",
        good,
        "texts/s",
        ("peak", peak),
        spread=[s / peak for s in spread],
        target=GOODPUT,
    )
    refused = load.latencies(TOO_MANY)
    late = float(
        (statuses[(sent >= load.begun)] != TOO_MANY).mean()
        - in_time.sum() / max(1, (sent >= load.begun).sum())
    )
    bench.add("g", f"neither in time nor refused at once, {name}", late, "of texts")
    if len(refused):
        bench.add("g", f"refusal (429), p50, {name}", float(np.median(refused)) * 1e3, "ms", target=AT_ONCE)
    else:
        bench.add("g", f"refusals (429), {name}", 0.0, "texts")


def _spans(ended: np.ndarray, load: Load) -> Sequence[float]:
    """Return the rate in each third of the time."""
    edges = np.linspace(load.begun, load.ended, 4)
    counts, _ = np.histogram(ended, edges)
    return [float(count / (edges[1] - edges[0])) for count in counts]
