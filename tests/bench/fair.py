"""Rows k and m: what one caller's load does to another's calls, on the real service."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from operator import methodcaller, mul
from pathlib import Path

import uvloop

from seqserve.service.edge import key_file
from seqserve.service.edge.keys import Line, digest_of, new_key
from tests.bench.bench import Bench, Doors
from tests.bench.clients import HOST, OK, Ask, Load, beside, by_grpc, by_rest, closed_loop, open_loop
from tests.bench.processes import Service, service, worker
from tests.bench.report import Target
from tests.bench.subject import METHOD, Subject

SINGLES, TEXTS, CONNECTIONS = 16, 1_000, 2_000
ANOTHER = "127.0.0.2"
"""Where nobody needs a key, an address is a principal."""
LITTLE_MORE = Target("at most", 3.0)
LIMIT, SHARE, PATIENCE = 64, 0.1, 5.0
"""Open requests that a principal may have; what the polite one asks for, of what can be done; its seconds."""
HEAD, KEPT_SECONDS = 6.0, 10.0
"""In which the crowd comes; and for which the polite one asks beside it."""
KEPT = Target("at least", 0.99, "value")
ALONE, THOUSAND, FLOOD = "alone", f"beside a request of {TEXTS:,}", f"beside another's {CONNECTIONS:,}"


def fair(bench: Bench) -> None:
    """Row k: 16 callers of one text each: alone, beside a request of 1,000, beside a flood of another's."""
    subject = bench.texts
    running = bench.service(subject)
    singles = subject.rest(running.rest_port)
    many = (subject.items * (TEXTS // len(subject.items) + 1))[:TEXTS]
    thousand = [subject.request(running.rest_port, many)]

    def side(callers: int, requests: Sequence[bytes], address: str) -> Callable[[int], Load]:
        def measured(turn: int) -> Load:
            @asynccontextmanager
            async def doors() -> AsyncIterator[list[Ask]]:
                async with AsyncExitStack() as stack:
                    own = await stack.enter_async_context(by_rest(running.rest_port, SINGLES))
                    others = by_rest(running.rest_port, callers, (address,))
                    yield own + await stack.enter_async_context(others)

            def drive(asks: list[Ask]) -> Awaitable[Load]:
                own = closed_loop(asks[:SINGLES], singles, bench.plan.tail_seconds, turn)
                return beside(asks[SINGLES:], requests, own)

            load = bench.driven(doors(), drive)
            if load.failed:
                raise RuntimeError(f"{load.failed} of {len(load.statuses)} singles failed")
            return load

        return measured

    sides = {
        ALONE: side(0, [], HOST),
        THOUSAND: side(1, thousand, HOST),
        FLOOD: side(CONNECTIONS, singles, ANOTHER),
    }
    loads = bench.turns(sides)
    for q in (50, 99):
        told = loads.of(methodcaller("percentile_ms", q))
        bench.compare("k", f"singles, {ALONE}, p{q}", told, ALONE, "ms")
        for name in (THOUSAND, FLOOD):
            target = LITTLE_MORE if q == 99 else None
            bench.compare("k", f"singles, {name}, p{q}", told, name, "ms", ALONE, target=target)


@dataclass(frozen=True, slots=True)
class Shared:
    """What came of a slice: of what the polite one asked, and how often the crowd was told what."""

    load: Load
    told: Counter[int]


@dataclass(frozen=True, slots=True)
class Door:
    """A door of a running service, to which its callers bring keys."""

    running: Service
    subject: Subject
    is_rest: bool

    def callers(self, count: int, key: str, address: str = HOST, seconds: float | None = None) -> Doors:
        """Connect so many callers, each by a connection of its own."""
        if self.is_rest:
            return by_rest(self.running.rest_port, count, (address,))
        method = METHOD[self.subject.task]
        return by_grpc(self.running.grpc_port, method, count, count, key, seconds)

    def requests(self, key: str, seconds: float | None = None) -> list[bytes]:
        """Return what they send."""
        if not self.is_rest:
            return self.subject.grpc()
        timeout = None if seconds is None else f"{seconds:g}S"
        return self.subject.rest(self.running.rest_port, timeout=timeout, key=key)


def crowd(door: Door, key: str, seconds: float, heeds: bool) -> Counter[int]:
    """Send by many connections for so long, from the process that this is run in; return what it was told.

    Args:
        heeds: whether those who are refused stay away for as long as they are told.
    """
    told = Counter[int]()

    async def run() -> None:
        async with door.callers(CONNECTIONS, key, ANOTHER) as asks:
            await beside(asks, door.requests(key), asyncio.sleep(seconds), told, heeds=heeds)

    uvloop.run(run())
    return told


def principals(bench: Bench) -> None:
    """Row m, with keys and limits: 2,000 connections of one, and another that asks for a tenth of the pace.

    Those who are refused ask again when they are told to, or else at once.
    """
    keys = {name: new_key() for name in ("polite", "many")}
    with tempfile.TemporaryDirectory() as folder, worker(bench.cores.callers) as process:
        file = Path(folder) / "keys"
        for name, key in keys.items():
            key_file.add(file, Line(name=name, sha256=digest_of(key), scopes=("*:*",)))
        settings = {"keys": file, "principal_requests": LIMIT}
        with service(bench.cores.server, bench.texts.root, **settings) as running:
            for door in (Door(running, bench.texts, is_rest) for is_rest in (True, False)):
                _principals(bench, process, door, **keys)


def _principals(bench: Bench, process: ProcessPoolExecutor, door: Door, polite: str, many: str) -> None:
    own = door.requests(polite, PATIENCE)

    def beside_crowd(heeds: bool) -> Callable[[int], Shared]:
        def measured(turn: int) -> Shared:
            doors = door.callers(SINGLES, polite)
            pace = bench.closed(doors, door.requests(polite), bench.plan.tail_seconds, turn).rate
            sent = process.submit(crowd, door, many, HEAD + 1.2 * KEPT_SECONDS, heeds)

            async def drive(asks: list[Ask]) -> Load:
                await asyncio.sleep(HEAD)
                return await open_loop(asks, own, SHARE * pace, KEPT_SECONDS, turn)

            load = bench.driven(door.callers(SINGLES, polite, seconds=PATIENCE), drive)
            return Shared(load, sent.result())

        return measured

    name = "REST" if door.is_rest else "gRPC"
    sides = {
        f"{name}, {CONNECTIONS:,} who come back when they are told": beside_crowd(True),
        f"{name}, {CONNECTIONS:,} who ask again at once": beside_crowd(False),
    }
    turns = bench.turns(sides, 1 + 2 * bench.plan.is_whole)
    for side, shared in turns.took.items():
        kept, each = [one.load.kept(PATIENCE) for one in shared], [len(one.load.statuses) for one in shared]
        share = sum(map(mul, kept, each)) / sum(each)
        told = sum((one.told for one in shared), Counter[int]())
        bench.add(
            "m", f"kept by another, of {sum(each):,}, {side}", share, "of texts", spread=kept, target=KEPT
        )
        bench.add("m", f"answers to the crowd, {side}", told[OK], "texts")
        bench.add("m", f"refusals, {side}", told.total() - told[OK], "texts")
