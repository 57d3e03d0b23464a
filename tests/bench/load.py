"""Rows c, d and g: waiting under load, padding, and more load than there is room for."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from operator import methodcaller
from time import perf_counter

import numpy as np

from tests.bench import ideal
from tests.bench.bench import MANY, Bench
from tests.bench.clients import OK, Ask, Load, closed_loop
from tests.bench.processes import FIRST_COME, Service
from tests.bench.report import Target
from tests.bench.speed import counted, pace
from tests.bench.turns import Turns

SHARE, EXCESS = 0.8, 5.0
CONNECTIONS = 1_000
"""Requests of an open loop that may be under way: past it they wait at the callers."""
CALLERS, ADDRESSES = 2_000, tuple(f"127.0.0.{last}" for last in range(1, 65))
"""Of an overload: each address is a principal, none of which may have as many requests open."""
COMING = 1.0
"""Seconds over which they come."""
PATIENCE = 2.0
"""Seconds that whoever sends at five times the peak gives a request."""
QUEUED_SECONDS = 1.0
"""Work that a user who wants short waits lets queue."""
NEAR_FIFO, LITTLE_WASTE = Target("at most", 1.3), Target("at most", 0.12, "value")
WASTEFUL = Target("at least", 0.30, "value")
GOODPUT, AT_ONCE = Target("at least", 0.85), Target("at most", 5.0, "value")
RECOVERED, SLOWER, HOPELESS = Target("at most", 2.0, "value"), 3.0, 20.0
"""A call takes again at most so many times what it takes alone; seconds after which it is not waited for."""
TOO_MANY = 429
OURS, FIFO = "seqserve", "FIFO"


def waits(bench: Bench) -> None:
    """Rows c and d: the same load on our queue and on one that takes rows as they come."""
    subject = bench.texts
    sides = {OURS: bench.service(subject), FIFO: bench.service(subject, FIRST_COME)}
    wastes: dict[str, list[tuple[float, float]]] = {OURS: [], FIFO: []}

    def at_many(name: str) -> Callable[[int], float]:
        measured = pace(bench, subject, sides[name], MANY)

        def and_cells(turn: int) -> float:
            before = cells(sides[name], bench)
            rate = measured(turn)
            padding, real = (a - b for a, b in zip(cells(sides[name], bench), before, strict=True))
            wastes[name].append((padding, real))
            return rate

        return and_cells

    most = max(bench.plan.callers)
    paces = {f"{name}, {MANY} callers": at_many(name) for name in sides}
    paces |= (
        {}
        if most == MANY
        else {f"{name}, {counted(most)}": pace(bench, subject, sides[name], most) for name in sides}
    )
    rates = bench.turns(paces)
    for callers in sorted({MANY, most}):
        ours, fifo = (f"{name}, {counted(callers)}" for name in (OURS, FIFO))
        bench.compare("c", fifo, rates, fifo, "texts/s", ours, called="ours")
    for whose, name in (("our", OURS), ("its", FIFO))[: 1 + bench.plan.is_whole]:
        rate = SHARE * rates.median(f"{name}, {counted(most)}")
        _compare(bench, f"80 % of {whose} capacity", sides, rate)
    theirs, own = (_waste(wastes[name]) for name in (FIFO, OURS))
    bench.add("d", f"FIFO's padding at {MANY} callers", theirs, "of cells", target=WASTEFUL)
    bench.add("d", f"our padding at {MANY} callers", own, "of cells", ("FIFO's", theirs), target=LITTLE_WASTE)


def cells(running: Service, bench: Bench) -> tuple[float, float]:
    """Return how many cells held padding, and how many something real, so far."""
    padding, real = (
        running.metric(f"seqserve_{kind}_cells_total", model=bench.texts.name) for kind in ("padding", "real")
    )
    return padding, real


def _waste(counted_cells: list[tuple[float, float]]) -> float:
    padding, real = map(sum, zip(*counted_cells, strict=True))
    return padding / (padding + real)


def _compare(bench: Bench, name: str, sides: dict[str, Service], rate: float) -> None:
    """Compare what calls take: the same ones, sent at the same times to each side."""

    def opened(running: Service) -> Callable[[int], Load]:
        requests = bench.texts.rest(running.rest_port)

        def measured(turn: int) -> Load:
            doors = bench.by_rest(running, CONNECTIONS)
            return bench.opened(doors, requests, rate, bench.plan.tail_seconds, turn)

        return measured

    loads = bench.turns({f"{side}, {name}": opened(running) for side, running in sides.items()})
    ours, fifo = loads.took
    for q, title, target in ((50, "p50", None), (99, "p99", NEAR_FIFO), (100, "longest wait", None)):
        told = loads.of(methodcaller("percentile_ms", q))
        bench.compare("c", f"{title} at {name}", told, ours, "ms", fifo, called="FIFO's", target=target)
    if failed := sum(load.failed for load in loads.took[ours]):
        bench.add("c", f"failed at {name}", failed, "texts")


@dataclass(frozen=True, slots=True)
class Storm:
    """What came of a slice of overload, or of the peak beside it.

    Args:
        good: answers in time, a second.
        refused: the median milliseconds of a refusal; None where there was none.
        late: share of requests neither in time nor refused.
        recovered: seconds from the last request on, until a call took little more than it does alone.
    """

    good: float
    refused: float | None = None
    late: float = 0.0
    recovered: float = 0.0


def overload(bench: Bench) -> None:
    """Row g: five times what can be done.

    Closed: 2,000 callers, each of whom waits as long for its answer as a fifth of them can be answered in,
    and who stay away after a refusal for as long as they are told. Open: requests at five times the peak.
    """
    subject, most = bench.texts, max(bench.plan.callers)
    running = bench.service(subject)
    measured, alone = pace(bench, subject, running, most), pace(bench, subject, running, 1)(0)
    latest = measured(0)

    def peak(turn: int) -> Storm:
        nonlocal latest
        latest = measured(turn)
        return Storm(latest)

    sides: dict[str, Callable[[int], Storm]] = {
        "peak": peak,
        f"{CALLERS:,} callers": lambda turn: _closed(bench, running, latest, SLOWER / alone, turn),
        "5 times the peak": lambda turn: _open(bench, running, latest, turn),
    }
    if bench.plan.is_whole:
        steps = statistics.mean(bench.on_model(ideal.ideal, subject.version, subject.packed).sources)
        short = int(latest * QUEUED_SECONDS * steps)
        bounded = bench.service(subject, max_queue_cells=short)
        name = f"5 times the peak, SEQSERVE_MAX_QUEUE_CELLS={short} (a second's work)"
        sides[name] = lambda turn: _open(bench, bounded, latest, turn)
    storms = bench.turns(sides)
    good = storms.of(lambda storm: storm.good)
    bench.compare("g", f"peak, {counted(most)}", good, "peak", "texts/s")
    for name in list(sides)[1:]:
        _told(bench, name, storms, good)


def _closed(bench: Bench, running: Service, peak: float, quick: float, turn: int) -> Storm:
    patience = CALLERS / (EXCESS * peak)
    requests = bench.texts.rest(running.rest_port, timeout=f"{patience * 1e3:.0f}m")
    calm = bench.texts.rest(running.rest_port)[0]

    async def drive(asks: list[Ask]) -> Storm:
        load = await closed_loop(asks, requests, bench.plan.tail_seconds, turn, COMING)
        took, status = math.inf, 0
        while (status != OK or took > quick) and perf_counter() < load.ended + HOPELESS:
            began = perf_counter()
            status, _ = await asks[0](calm)
            took = perf_counter() - began
        return _came(load, patience, perf_counter() - took - load.ended)

    return bench.driven(bench.by_rest(running, CALLERS, ADDRESSES), drive)


def _open(bench: Bench, running: Service, peak: float, turn: int) -> Storm:
    requests = bench.texts.rest(running.rest_port, timeout=f"{PATIENCE:.0f}S")
    doors = bench.by_rest(running, CALLERS, ADDRESSES)
    return _came(bench.opened(doors, requests, EXCESS * peak, bench.plan.tail_seconds, turn), PATIENCE)


def _came(load: Load, patience: float, recovered: float = 0.0) -> Storm:
    sent, seconds, statuses = map(np.array, (load.sent, load.seconds, load.statuses))
    ended = sent + seconds
    in_time = (statuses == OK) & (seconds <= patience)
    good = float((in_time & (ended >= load.begun) & (ended <= load.ended)).sum() / (load.ended - load.begun))
    counts = sent >= load.begun
    late = float((~in_time & (statuses != TOO_MANY))[counts].mean()) if counts.any() else 0.0
    refused = load.latencies(TOO_MANY)
    return Storm(good, float(np.median(refused)) * 1e3 if len(refused) else None, late, recovered)


def _told(bench: Bench, name: str, storms: Turns[Storm], good: Turns[float]) -> None:
    bench.compare("g", f"answers in time, {name}", good, name, "texts/s", "peak", target=GOODPUT)
    late = storms.of(lambda storm: storm.late)
    bench.compare("g", f"neither in time nor refused at once, {name}", late, name, "of texts")
    refusals = [storm.refused for storm in storms.took[name] if storm.refused is not None]
    if refusals:
        refused = Turns({name: refusals}, storms.drifted)
        bench.compare("g", f"refusal (429), p50, {name}", refused, name, "ms", target=AT_ONCE)
    else:
        bench.add("g", f"refusals (429), {name}", 0.0, "texts")
    recovered = storms.of(lambda storm: storm.recovered)
    if any(recovered.took[name]):
        bench.compare("g", f"recovery, {name}", recovered, name, "s", target=RECOVERED)
