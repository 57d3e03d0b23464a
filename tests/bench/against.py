"""Rows e, l and half of f: the model behind what people would write or pick, and behind another build."""

import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.bench.bench import Bench
from tests.bench.clients import by_rest, http
from tests.bench.peers import PEERS, Peer
from tests.bench.processes import REPOSITORY, NotStarted, Service, healthy, started
from tests.bench.report import Target
from tests.bench.speed import counted, pace
from tests.bench.subject import Subject
from tests.bench.turns import Turns

ENVIRONMENTS = {"main": Path(sys.executable), "peers": REPOSITORY / "build/bench-venv/bin/python"}
CALLERS = (1, 64, 256)
COMPARED = 16
"""Items whose answers are compared with ours."""
BUSY = 2
"""Callers who keep a peer busy that answers one request at a time: more would only wait."""
TURNS = 3
"""With each peer: there are many."""
BEST = {1: Target("at least", 0.95), 64: Target("at least", 1.4), 256: Target("at least", 1.4)}
PLAIN, NO_WORSE = "fastapi_plain", Target("at least", 0.9)
HOST = "127.0.0.1"


def peers(bench: Bench) -> None:
    """Row e: each peer by 1, 64 and 256 callers, on the model as we ship it and without compaction."""
    plain = bench.texts.plain
    if bench.plan.is_whole and plain is not None:
        _versus(bench, bench.texts, plain, "without compaction")
    elif bench.plan.is_whole:
        bench.add("e", "the model without compaction", "not given: --plain VERSION_DIR")
    _versus(bench, bench.texts, bench.texts.version, "as shipped")


def events_peers(bench: Bench) -> None:
    """Row f: the peers that serve the events model."""
    _versus(bench, bench.events, bench.events.version, "events")


def other_build(bench: Bench) -> None:
    """Row l: another build of this project, on the same model with the same settings."""
    if not bench.other:
        return
    builds = {"this build": bench.service(bench.texts), "the other": bench.service(bench.texts, bench.other)}
    sides = {
        f"{name}, {counted(callers)}": pace(bench, bench.texts, running, callers)
        for callers in CALLERS[1:]
        for name, running in builds.items()
    }
    turns = bench.turns(sides)
    for callers in CALLERS[1:]:
        ours, theirs = (f"{name}, {counted(callers)}" for name in builds)
        bench.compare("l", ours, turns, ours, "texts/s", theirs, called="the other build")


def _versus(bench: Bench, subject: Subject, version: Path, which: str) -> None:
    row = "e" if subject is bench.texts else "f"
    told: dict[str, Turns[float]] = {}
    for name, peer in PEERS.items():
        if peer.path(subject.task) is None or not (bench.plan.is_whole or name == PLAIN):
            continue
        rates = _rates(bench, subject, version, name, f"{name}, {which}")
        if isinstance(rates, str):
            bench.add(row, f"{name}, {which}", rates)
            continue
        if not any(figure.name == f"packages of {name}" for figure in bench.figures):
            bench.add("machine", f"packages of {name}", _versions(peer))
        told[name] = rates
        for callers in _callers(bench):
            title, unit = f"{name}, {which}, {counted(callers)}", f"{subject.noun}/s"
            bench.compare(row, title, rates, f"{name}, {callers}", unit, f"ours, {callers}", called="ours")
    for callers in _callers(bench) if told else ():
        best = min(told, key=lambda name: statistics.median(_beside(told[name], name, callers)))
        title = f"ours beside the best of them, {which}, {counted(callers)}"
        target = (
            None if (subject is bench.events and callers == 1) else BEST[callers]
        )  # plain FastAPI's, below
        _compare(bench, row, title, subject, told[best], best, callers, target)
    if PLAIN in told and subject is bench.events:
        _compare(bench, row, "ours beside plain FastAPI, 1 caller", subject, told[PLAIN], PLAIN, 1, NO_WORSE)


def _callers(bench: Bench) -> list[int]:
    return [callers for callers in CALLERS if callers in bench.plan.callers]


def _beside(rates: Turns[float], name: str, callers: int) -> list[float]:
    return rates.ratios(f"ours, {callers}", f"{name}, {callers}")


def _compare(
    bench: Bench,
    row: str,
    title: str,
    subject: Subject,
    rates: Turns[float],
    name: str,
    callers: int,
    target: Target | None,
) -> None:
    ours, theirs = f"ours, {callers}", f"{name}, {callers}"
    bench.compare(row, title, rates, ours, f"{subject.noun}/s", theirs, called=name, target=target)


def _rates(bench: Bench, subject: Subject, version: Path, name: str, title: str) -> Turns[float] | str:
    """Measure a peer and ours in turns, by callers; or return why there is nothing to say."""
    peer = PEERS[name]
    if not ENVIRONMENTS[peer.environment].exists():
        return "missing: build/bench-venv, which requirements/bench.txt fills, is not there"
    running = bench.service(subject)
    ((_, body, _),) = bench.asked(
        bench.by_rest(running, 1), [subject.request(running.rest_port, subject.items[:COMPARED])]
    )
    bench.say(f"{title}: starting")
    try:
        with _serving(bench, name, version) as port:
            got, wanted = _answers(bench, subject, peer, port), subject.answers(body)
            if got != wanted:
                wrong = sum(a != b for a, b in zip(got, wanted, strict=False))
                bench.add("e", f"{title}: answers that are not ours", float(wrong), f"of {COMPARED}")
            return bench.turns(_sides(bench, subject, running, name, port), TURNS)
    except NotStarted as error:
        return f"did not start: {str(error)[-200:]}"


def _sides(
    bench: Bench, subject: Subject, running: Service, name: str, port: int
) -> dict[str, Callable[[int], float]]:
    peer = PEERS[name]
    requests = [_request(subject, peer, port, [item]) for item in subject.items]

    def asked(callers: int) -> Callable[[int], float]:
        count = callers if peer.batches else min(callers, BUSY)
        return lambda turn: bench.closed(by_rest(port, count), requests, bench.plan.seconds, turn).rate

    sides: dict[str, Callable[[int], float]] = {}
    for callers in _callers(bench):
        sides[f"ours, {callers}"] = pace(bench, subject, running, callers)
        sides[f"{name}, {callers}"] = asked(callers)
    return sides


def _versions(peer: Peer) -> str:
    code = (
        "import importlib.metadata as m, sys; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    )
    command = [str(ENVIRONMENTS[peer.environment]), "-c", code, *peer.packages]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _serving(bench: Bench, name: str, version: Path) -> Iterator[int]:
    peer = PEERS[name]
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    python = str(ENVIRONMENTS[peer.environment])
    command = [python, "-m", f"tests.bench.peers.{name}", str(version), "--port", str(port)]
    with started(bench.cores.server, command) as (process, words):
        healthy(process, words, f"http://{HOST}:{port}{peer.health}")
        yield port


def _request(subject: Subject, peer: Peer, port: int, items: list[object]) -> bytes:
    path = peer.path(subject.task)
    assert path is not None
    return http(port, path, orjson.dumps(peer.to_body(subject.task, items)))


def _answers(bench: Bench, subject: Subject, peer: Peer, port: int) -> list[str]:
    request = _request(subject, peer, port, list(subject.items[:COMPARED]))
    ((status, body, _),) = bench.asked(by_rest(port, 1), [request])
    if status != 200:
        return [f"{status}: {body[:200]!r}"]
    answers: list[str] = peer.from_answer(subject.task, orjson.loads(body))
    return answers
