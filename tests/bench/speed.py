"""Rows a, b and f: what the gateway adds to a call, and how near to the model's own pace it comes."""

import random
import statistics
from collections.abc import Sequence

from tests.bench import ideal
from tests.bench.bench import Bench, Case, Ours, seconds_of
from tests.bench.ceiling import ceiling_rate, ideal_rate
from tests.bench.clients import Load
from tests.bench.processes import Service, service
from tests.bench.report import Target
from tests.bench.subject import Subject

MANY = 64
"""Items of the one big request, and callers of the padding's row."""
BLOCK = 20
COMPARED = 16
"""Items whose answers are compared with the others'."""
TAX = {"REST": Target("at most", 0.7, "value"), "gRPC": Target("at most", 0.6, "value")}
OF_IDEAL, NO_LESS = Target("at least", 0.85), Target("at least", 1.0)
OF_CEILING = {64: Target("at least", 0.80), 256: Target("at least", 0.80)}


def tax(bench: Bench) -> None:
    """Row a: one caller's median through each door, less that of the backend's call of the same texts."""
    subject = bench.texts
    with service(bench.cores.server, subject.root) as running:
        taken = _alternated(bench, subject, running)
    calls = statistics.median(_all(taken["call"]))
    bench.add(
        "a",
        "backend call, p50",
        calls * 1e3,
        "ms",
        spread=[x * 1e3 for x in map(statistics.median, taken["call"])],
    )
    for door, target in TAX.items():
        blocks = [
            statistics.median(by_door) - statistics.median(by_call)
            for by_door, by_call in zip(taken[door], taken["call"], strict=True)
        ]
        whole = statistics.median(_all(taken[door]))
        bench.add("a", f"{door}, p50 of one caller", whole * 1e3, "ms", ("backend call", calls * 1e3))
        added, spread = (whole - calls) * 1e3, [seconds * 1e3 for seconds in blocks]
        bench.add("a", f"{door}, what the gateway adds", added, "ms", spread=spread, target=target)


def _alternated(bench: Bench, subject: Subject, running: Service) -> dict[str, list[list[float]]]:
    """Return the seconds of each call, block by block, the ways of calling by turns."""
    by_rest, by_grpc = subject.rest(running.rest_port), subject.grpc()
    taken: dict[str, list[list[float]]] = {"call": [], "REST": [], "gRPC": []}
    drawn = random.Random(1)
    for number in range(-1, bench.plan.taxed // BLOCK):
        bench.say(f"(a) one caller, block {number + 1}")
        places = drawn.sample(range(len(subject.items)), BLOCK)
        block = {
            "call": bench.on_model(ideal.calls, subject.version, subject.packed, places),
            "REST": seconds_of(bench.asked(bench.by_rest(running, 1), [by_rest[i] for i in places])),
            "gRPC": seconds_of(bench.asked(bench.by_grpc(running, subject, 1), [by_grpc[i] for i in places])),
        }
        for way, seconds in block.items() if number >= 0 else ():  # the first one warms
            taken[way].append(seconds)
    return taken


def _all(blocks: Sequence[Sequence[float]]) -> list[float]:
    return [seconds for block in blocks for seconds in block]


def speed(bench: Bench) -> None:
    """Row b: texts a second of closed-loop callers, and of one request of 64."""
    _report(bench, bench.texts, "b", measured(bench, bench.texts, ("REST", "gRPC")))


def events(bench: Bench) -> None:
    """Row f: the same of the events model."""
    _report(bench, bench.events, "f", measured(bench, bench.events))


def measured(bench: Bench, subject: Subject, doors: Sequence[str] = ("REST",)) -> Ours:
    """Measure the gateway beside the ideal, by turns; once a run for each subject."""
    if subject.label in bench.ours:
        return bench.ours[subject.label]
    with service(bench.cores.server, subject.root) as running:
        ours = _begun(bench, subject, running)
        for number in range(bench.plan.repeats):
            for case in _cases(bench, doors):
                bench.say(f"{subject.label}: {_titled(case)}, {number + 1} of {bench.plan.repeats}")
                run = bench.ideal(subject)
                before = cells(running, subject)
                load = _loaded(bench, subject, running, case, number)
                if case == ("REST", MANY):
                    padding, real = (a - b for a, b in zip(cells(running, subject), before, strict=True))
                    ours.padding, ours.cells = ours.padding + padding, ours.cells + padding + real
                ours.rates.setdefault(case, []).append(load.rate * (1 if case[1] else MANY))
                ours.ideals.setdefault(case, []).append(len(run.sources) / run.seconds)
    bench.ours[subject.label] = ours
    return ours


def _begun(bench: Bench, subject: Subject, running: Service) -> Ours:
    bench.say(f"{subject.label}: what batches take")
    (asked,) = bench.asked(bench.by_rest(running, 1), subject.rest(running.rest_port, COMPARED)[:1])
    seconds_of([asked])
    once = bench.ideal(subject)  # warms, and tells how long the answers are
    table = bench.on_model(ideal.table, subject.version, subject.packed, once.targets)
    return Ours(table, list(zip(once.sources, once.targets, strict=True)), subject.answers(asked[1]))


def _cases(bench: Bench, doors: Sequence[str]) -> list[Case]:
    """Return what is measured: every number of callers by REST, the large ones by the other door too."""
    many = [(door, callers) for door in doors for callers in bench.plan.callers]
    kept = [case for case in many if case[0] == "REST" or case[1] >= MANY]
    return [*kept, ("REST", 0)]


def _titled(case: Case) -> str:
    door, callers = case
    counted = f"{callers} callers" if callers > 1 else "1 caller" if callers else f"one request of {MANY}"
    return f"seqserve by {door}, {counted}"


def _loaded(bench: Bench, subject: Subject, running: Service, case: Case, seed: int) -> Load:
    door, callers = case
    each = 1 if callers else MANY
    requests = subject.rest(running.rest_port, each) if door == "REST" else subject.grpc(each)
    count = callers or 1
    doors = bench.by_rest(running, count) if door == "REST" else bench.by_grpc(running, subject, count)
    load = bench.closed(doors, requests, bench.plan.seconds, seed)
    if load.failed:
        raise RuntimeError(f"{_titled(case)}: {load.failed} of {len(load.statuses)} requests failed")
    return load


def cells(running: Service, subject: Subject) -> tuple[float, float]:
    """Return how many cells held padding, and how many something real, so far."""
    padding, real = (
        running.metric(f"seqserve_{kind}_cells_total", model=subject.name) for kind in ("padding", "real")
    )
    return padding, real


def _report(bench: Bench, subject: Subject, row: str, ours: Ours) -> None:
    unit = f"{subject.noun}/s"
    best = ours.ideal()
    said = ideal_rate(ours.table, ours.pairs)
    every = [rate for rates in ours.ideals.values() for rate in rates]
    bench.add(row, "ideal: the model alone, batches of 64 sorted by length", best, unit, spread=every)
    bench.add(row, "what the table of batch times says of the ideal", said, unit, ("ideal", best))
    ceilings = {callers: ceiling_rate(ours.table, ours.pairs, callers) for callers in bench.plan.callers}
    for callers, ceiling in ceilings.items():
        bench.add(row, f"ceiling, {callers} caller{'s' * (callers > 1)}", ceiling, unit, ("ideal", best))
    for case, rates in ours.rates.items():
        door, callers = case
        if not callers:
            spread = ours.of_ideal(case)
            bench.add(row, _titled(case), ours.rate(0), unit, ("ideal", best), spread=spread, target=OF_IDEAL)
            continue
        spread = [rate / ceilings[callers] for rate in rates]
        against, target = ("ceiling", ceilings[callers]), OF_CEILING.get(callers)
        bench.add(row, _titled(case), ours.rate(callers, door), unit, against, spread=spread, target=target)
    few, many = (ours.rate(callers) for callers in (MANY, max(bench.plan.callers)))
    bench.add(row, "256 callers beside 64", many, unit, ("64 callers", few), target=NO_LESS)
