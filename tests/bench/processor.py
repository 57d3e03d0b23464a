"""Row j: what a request and a refusal take of the processor, beside a framework's that do nothing.

The backend costs nothing (`free`), and so do keys, limits and the access log of what is answered: they are
off. What counts is the processor time of the whole processes.
"""

import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench import empty
from tests.bench.bench import Bench, Doors
from tests.bench.clients import HOST, by_grpc, by_rest, http
from tests.bench.processes import Service, processor_seconds, said, services, started
from tests.bench.report import Target
from tests.bench.subject import METHOD, Subject

FREE = (sys.executable, "-m", "tests.bench.free")
EMPTY = (sys.executable, "-m", "tests.bench.empty")
CALLERS = 64
WHOLE, FOREVER = 300, "300S"
"""Seconds that the rows give which keep the queue full; and in the words of a request."""
RARE = 1e-6
"""Requests a second of a principal, of which all but the first are refused."""
HALF_PRICE = {"REST": Target("at most", 2.1), "gRPC": Target("at most", 2.0)}
REFUSED = Target("at most", 0.15, "value")
DOORS = ("REST", "gRPC")


@dataclass(slots=True)
class Asked:
    """One kind of request to one process."""

    pid: int
    connect: Callable[[], Doors]
    requests: Sequence[bytes]
    is_refused: bool = False


def processor(bench: Bench) -> None:
    """Row j."""
    with ExitStack() as stack:
        nothing = {door: stack.enter_context(_empty(bench, door)) for door in DOORS}
        kept_full = {"max_queue_cells": 1, "backend_timeout": WHOLE}
        free: list[tuple[Subject, dict[str, object]]] = [
            (bench.texts, {}),
            (bench.events, {}),
            (bench.texts, kept_full),
            (bench.texts, {"principal_requests_per_second": RARE}),
        ]
        texts, events, busy, strict = stack.enter_context(
            services(bench.cores, [(subject.root, FREE, settings) for subject, settings in free])
        )
        stack.enter_context(_kept_full(bench, busy))
        asked = {
            "a text": _of(bench.texts, texts),
            "events": _of(bench.events, events),
            "a refusal: the queue is full": _of(bench.texts, busy, is_refused=True),
            "a refusal: above the rate": _of(bench.texts, strict, is_refused=True),
        }
        kinds = {"nothing": nothing, **asked}
        sides = {
            f"{door}, {what}": _taking(bench, by_door[door])
            for what, by_door in kinds.items()
            for door in DOORS
        }
        for warm in sides.values():
            warm(0)
        took = bench.turns(sides)
    for door in DOORS:
        at_best = f"{door}, nothing"
        bench.compare("j", at_best, took, at_best, "ms")
        for what, by_door in asked.items():
            target = REFUSED if by_door[door].is_refused else HALF_PRICE[door] if what == "a text" else None
            name = f"{door}, {what}"
            bench.compare("j", name, took, name, "ms", at_best, called="nothing", target=target)


def _of(subject: Subject, running: Service, *, is_refused: bool = False) -> dict[str, Asked]:
    return {
        "REST": Asked(
            running.pid,
            lambda: by_rest(running.rest_port, CALLERS),
            subject.rest(running.rest_port),
            is_refused,
        ),
        "gRPC": Asked(
            running.pid,
            lambda: by_grpc(running.grpc_port, METHOD[subject.task], CALLERS),
            subject.grpc(),
            is_refused,
        ),
    }


@contextmanager
def _empty(bench: Bench, door: str) -> Iterator[Asked]:
    """Serve nothing through a door."""
    with started(bench.cores.server, (*EMPTY, door)) as (process, words):
        port = int(said(process, words, re.compile(empty.GREETING.format(r"(\d+)")))[1])
        requests = [http(port, empty.PATH, bench.texts.body([text])) for text in bench.texts.items]
        if door == "REST":
            yield Asked(process.pid, lambda: by_rest(port, CALLERS), requests)
        else:
            method = METHOD["translation"]
            yield Asked(process.pid, lambda: by_grpc(port, method, CALLERS), bench.texts.grpc())


@contextmanager
def _kept_full(bench: Bench, busy: Service) -> Iterator[None]:
    """Have one row take the only slot for ever, and then another one wait."""
    first, second, *_ = bench.texts.rest(busy.rest_port, timeout=FOREVER)
    with ExitStack() as stack:
        for request, sign in ((first, "seqserve_batch_rows_count"), (second, "seqserve_queue_cells")):
            stack.enter_context(socket.create_connection((HOST, busy.rest_port))).sendall(request)
            while not busy.metric(sign):
                time.sleep(0.01)
        yield


def _taking(bench: Bench, asked: Asked) -> Callable[[int], float]:
    """Return what measures the milliseconds of a request."""

    def took(turn: int) -> float:
        before = processor_seconds(asked.pid)
        load = bench.closed(asked.connect(), asked.requests, bench.plan.seconds / 4, turn)
        seconds = (processor_seconds(asked.pid) - before) / len(load.statuses)
        if asked.is_refused != (load.failed > len(load.statuses) / 2):
            raise RuntimeError(f"{load.failed} of {len(load.statuses)} requests failed")
        return seconds * 1e3

    return took
