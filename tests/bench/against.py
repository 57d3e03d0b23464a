"""Row e, and f's second half: the same SavedModel behind what people would write or pick."""

import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.bench.bench import Bench, Ours
from tests.bench.clients import by_rest, http
from tests.bench.peers import PEERS, Peer
from tests.bench.processes import REPOSITORY, NotStarted, healthy, started
from tests.bench.report import Target
from tests.bench.speed import COMPARED, measured
from tests.bench.subject import Subject

ENVIRONMENTS = {"main": Path(sys.executable), "peers": REPOSITORY / "build/bench-venv/bin/python"}
CALLERS = (1, 64, 256)
PLAIN = {64: Target("at least", 1.4), 256: Target("at least", 1.6)}
SHIPPED = {1: Target("at least", 1.0), 64: Target("at least", 1.0), 256: Target("at least", 1.15)}
HOST = "127.0.0.1"


def peers(bench: Bench) -> None:
    """Row e: each peer by 1, 64 and 256 callers, on the model as we ship it and without compaction."""
    plain = bench.texts.plain
    if bench.plan.all_peers and plain is not None:
        _versus(bench, bench.texts, plain, "without compaction", PLAIN)
    elif bench.plan.all_peers:
        bench.add("e", "the model without compaction", "not given: --plain VERSION_DIR")
    _versus(bench, bench.texts, bench.texts.version, "as shipped", SHIPPED)


def events_peers(bench: Bench) -> None:
    """Row f: the peers that serve the events model."""
    _versus(bench, bench.events, bench.events.version, "events", SHIPPED)


def _versus(bench: Bench, subject: Subject, version: Path, which: str, targets: dict[int, Target]) -> None:
    row, ours = "e" if subject is bench.texts else "f", measured(bench, subject)
    best: dict[int, float] = {}
    for name, peer in PEERS.items():
        if peer.path(subject.task) is None or not (bench.plan.all_peers or peer.environment == "main"):
            continue
        rates = _rates(bench, subject, version, name, ours, f"{name}, {which}")
        if isinstance(rates, str):
            bench.add(row, f"{name}, {which}", rates)
            continue
        if not any(figure.name == f"packages of {name}" for figure in bench.figures):
            bench.add("machine", f"packages of {name}", _versions(peer))
        for callers, rate in rates.items():
            title = f"{name}, {which}, {callers} caller{'s' * (callers > 1)}"
            bench.add(row, title, rate, f"{subject.noun}/s", ("ours", ours.rate(callers)))
            best[callers] = max(best.get(callers, 0.0), rate)
    for callers, rate in best.items():
        title = f"ours beside the best of them, {which}, {callers} caller{'s' * (callers > 1)}"
        spread = [own / rate for own in ours.rates["REST", callers]]
        unit, reference = f"{subject.noun}/s", ("best of the others", rate)
        bench.add(row, title, ours.rate(callers), unit, reference, spread=spread, target=targets.get(callers))


def _rates(
    bench: Bench, subject: Subject, version: Path, name: str, ours: Ours, title: str
) -> dict[int, float] | str:
    """Return what a peer answers a second by callers, or why there is nothing to say."""
    peer = PEERS[name]
    if not ENVIRONMENTS[peer.environment].exists():
        return "missing: build/bench-venv, which requirements/bench.txt fills, is not there"
    bench.say(f"{title}: starting")
    try:
        with _serving(bench, name, version) as port:
            got = _answers(bench, subject, peer, port)
            if got != ours.answers:
                wrong = sum(a != b for a, b in zip(got, ours.answers, strict=False))
                bench.add("e", f"{title}: answers that are not ours", float(wrong), f"of {COMPARED}")
            return _measured(bench, subject, peer, port, title)
    except NotStarted as error:
        return f"did not start: {str(error)[-200:]}"


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


def _measured(bench: Bench, subject: Subject, peer: Peer, port: int, title: str) -> dict[int, float]:
    """Measure by callers; where a round takes longer than the span, one caller's pace is all."""
    requests = [_request(subject, peer, port, [item]) for item in subject.items]
    rates: dict[int, float] = {}
    for callers in (c for c in CALLERS if c in bench.plan.callers):
        bench.say(f"{title}: {callers} callers")
        if not peer.batches and rates and callers / rates[1] > bench.plan.seconds:
            rates[callers] = rates[1]
            continue
        spans = [
            bench.closed(by_rest(port, callers), requests, bench.plan.seconds / 2, seed).rate
            for seed in range(2)
        ]
        rates[callers] = statistics.median(spans)
    return rates
