"""Rows a, b and f: what the gateway adds to a call, and how near to the model's own pace it comes."""

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.bench import ideal
from tests.bench.bench import MANY, Bench, seconds_of
from tests.bench.ceiling import ceiling_rate, ideal_rate
from tests.bench.processes import Service
from tests.bench.report import Target
from tests.bench.subject import Subject
from tests.bench.turns import Turns

BLOCK = 20
"""Calls of one caller in a slice."""
TAX = {"REST": Target("at most", 0.7, "value"), "gRPC": Target("at most", 0.6, "value")}
OF_BATCH, NO_LESS, OF_REST = Target("at least", 0.8), Target("at least", 1.0), Target("at least", 0.85)
OF_CEILING = {64: Target("at least", 0.80), 256: Target("at least", 0.80)}
IDEAL, TABLE, BATCH = "ideal", "the table of batch times", "its 64 in one sorted batch"


def tax(bench: Bench) -> None:
    """Row a: one caller's median through each door, less that of the backend's call of the same texts."""
    subject = bench.texts
    running = bench.service(subject)
    by_rest, by_grpc = subject.rest(running.rest_port), subject.grpc()

    def places(turn: int) -> list[int]:
        return random.Random(turn).sample(range(len(subject.items)), BLOCK)

    def called(turn: int) -> list[float]:
        return bench.on_model(ideal.calls, subject.version, subject.packed, places(turn))

    def rest(turn: int) -> list[float]:
        return seconds_of(bench.asked(bench.by_rest(running, 1), [by_rest[i] for i in places(turn)]))

    def grpc(turn: int) -> list[float]:
        return seconds_of(bench.asked(bench.by_grpc(running, subject, 1), [by_grpc[i] for i in places(turn)]))

    called(0)  # loads
    turns = bench.turns(
        {"backend call": called, "REST": rest, "gRPC": grpc}, bench.plan.turns * (1 + bench.plan.is_whole)
    )
    medians = turns.of(lambda seconds: statistics.median(seconds) * 1e3)
    bench.compare("a", "backend call, p50", medians, "backend call", "ms")
    for door, target in TAX.items():
        bench.compare("a", f"{door}, p50 of one caller", medians, door, "ms", "backend call")
        more = [own - alone for own, alone in medians.pairs(door, "backend call")]
        added = Turns({door: more}, medians.drifted)
        bench.compare("a", f"{door}, what the gateway adds", added, door, "ms", target=target)


def speed(bench: Bench) -> None:
    """Row b: texts a second of closed-loop callers, and of one request of 64."""
    _paces(bench, bench.texts, "b", ("REST", "gRPC"))


def events(bench: Bench) -> None:
    """Row f: the same of the events model."""
    _paces(bench, bench.events, "f", ("REST",))


def _paces(bench: Bench, subject: Subject, row: str, doors: Sequence[str]) -> None:
    running, version, packed = bench.service(subject), subject.version, subject.packed
    bench.say(f"{subject.label}: what batches take")
    once = bench.on_model(ideal.ideal, version, packed)  # warms, and tells how long the answers are
    timed = bench.turns({TABLE: lambda _: bench.on_model(ideal.table, version, packed, once.targets)}, 1)
    (table,) = timed.took[TABLE]
    steps = list(zip(once.sources, once.targets, strict=True))

    def alone(_: int) -> float:
        run = bench.on_model(ideal.ideal, version, packed)
        return len(run.sources) / run.seconds

    sides: dict[str, Callable[[int], float]] = {IDEAL: alone}
    sides |= {
        _titled(door, callers): pace(bench, subject, running, callers, door)
        for door in doors
        for callers in bench.plan.callers
        if door == "REST" or callers >= MANY
    }
    one = f"seqserve by REST, one request of {MANY}"
    sides[one] = pace(bench, subject, running, 1, each=MANY)
    sides[BATCH] = lambda _: bench.on_model(ideal.requests, version, packed, bench.plan.seconds / 2)
    turns, unit = bench.turns(sides), f"{subject.noun}/s"
    said = ideal_rate(table, steps)
    bench.compare(row, "ideal: the model alone, batches of 64 sorted by length", turns, IDEAL, unit)
    best = turns.median(IDEAL)
    drifted = timed.drifted or turns.drifted
    bench.add(row, f"what {TABLE} says of the ideal", said, unit, (IDEAL, best), drifted=drifted)
    shares = {callers: ceiling_rate(table, steps, callers) / said for callers in bench.plan.callers}
    for callers, share in shares.items():
        bench.add(row, f"ceiling, {counted(callers)}", share * best, unit, (IDEAL, best), drifted=drifted)
    beside_table = replace(turns, drifted=drifted)
    for door in doors:
        for callers in (c for c in bench.plan.callers if _titled(door, c) in sides):
            title, target = _titled(door, callers), OF_CEILING.get(callers)
            bench.compare(
                row,
                title,
                beside_table,
                title,
                unit,
                IDEAL,
                called="ceiling",
                scale=shares[callers],
                target=target,
            )
    for callers in (c for c in bench.plan.callers if _titled("gRPC", c) in sides):
        grpc, rest = _titled("gRPC", callers), _titled("REST", callers)
        name = f"gRPC beside REST, {counted(callers)}"
        bench.compare(row, name, turns, grpc, unit, rest, called="REST", target=OF_REST)
    bench.compare(row, one, turns, one, unit, IDEAL)
    bench.compare(row, f"one request of {MANY} beside its batch", turns, one, unit, BATCH, target=OF_BATCH)
    many, few = _titled("REST", max(bench.plan.callers)), _titled("REST", MANY)
    if many != few:
        title, called = f"{counted(max(bench.plan.callers))} beside {MANY}", f"{MANY} callers"
        bench.compare(row, title, turns, many, unit, few, called=called, target=NO_LESS)


def _titled(door: str, callers: int) -> str:
    return f"seqserve by {door}, {counted(callers)}"


def counted(callers: int) -> str:
    """Return a number of callers in words."""
    return f"{callers} caller{'s' * (callers > 1)}"


def pace(
    bench: Bench, subject: Subject, running: Service, callers: int, door: str = "REST", each: int = 1
) -> Callable[[int], float]:
    """Return what measures the items a second of so many callers, whose requests have so many each.

    Raises:
        RuntimeError: a request failed.
    """
    requests = subject.rest(running.rest_port, each) if door == "REST" else subject.grpc(each)

    def measured(turn: int) -> float:
        by_rest = door == "REST"
        doors = bench.by_rest(running, callers) if by_rest else bench.by_grpc(running, subject, callers)
        load = bench.closed(doors, requests, bench.plan.seconds, turn)
        if load.failed:
            raise RuntimeError(f"{counted(callers)} by {door}: {load.failed} of {len(load.statuses)} failed")
        return load.rate * each

    return measured
