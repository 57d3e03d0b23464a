"""Row n: appends to live sessions, beside the same events as sequences of one by `:predict`."""

import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.bench.bench import MANY, Bench, Doors
from tests.bench.clients import OK, Ask, by_rest, http
from tests.bench.processes import Service
from tests.bench.report import Target
from tests.bench.speed import counted
from tests.bench.subject import Subject
from tests.redis_store.server import serving

LONGEST = 30
"""Events of a session, after which its caller makes another."""
MEMORY, REDIS, ALONE = "appends, sessions in memory", "appends, sessions in Redis", "one-step :predict"
TARGETS = {MEMORY: Target("at least", 0.7), REDIS: Target("at least", 0.4)}


def live(bench: Bench) -> None:
    """Row n: appends a second at 64 callers, each with a session, over memory and over Redis."""
    subject = bench.events
    events = [
        {name: values[at : at + 1] for name, values in item.items()}
        for item in subject.items
        for at in range(len(item["event"]))
    ]
    with _redis(bench) as url:
        kept = {MEMORY: bench.service(subject), REDIS: bench.service(subject, sessions=url)}
        alone = [subject.request(kept[MEMORY].rest_port, [event]) for event in events]

        def predicted(turn: int) -> float:
            return _rate(bench, bench.by_rest(kept[MEMORY], MANY), alone, turn)

        def appended(running: Service) -> Callable[[int], float]:
            return lambda turn: _rate(bench, _sessions(running, subject, events), alone, turn)

        sides = {ALONE: predicted} | {name: appended(running) for name, running in kept.items()}
        turns = bench.turns(sides)
    bench.compare("n", f"{ALONE}, {counted(MANY)}", turns, ALONE, "events/s")
    for name, target in TARGETS.items():
        bench.compare("n", f"{name}, {counted(MANY)}", turns, name, "events/s", ALONE, target=target)


def _rate(bench: Bench, doors: Doors, requests: list[bytes], turn: int) -> float:
    load = bench.closed(doors, requests, bench.plan.seconds, turn)
    if load.failed:
        raise RuntimeError(f"{load.failed} of {len(load.statuses)} failed")
    return load.rate


@asynccontextmanager
async def _sessions(
    running: Service, subject: Subject, events: list[dict[str, Any]]
) -> AsyncIterator[list[Ask]]:
    """Connect callers that append to a session each, whatever request they are given."""
    written = [orjson.dumps(event) for event in events]
    async with by_rest(running.rest_port, MANY) as asks:
        starts = range(0, len(written), max(1, len(written) // MANY))
        callers = [
            _Caller(ask, running.rest_port, subject.name, written[at:] + written[:at])
            for ask, at in zip(asks, starts, strict=False)
        ]
        for caller in callers:
            await caller.begin()
        yield list(callers)


class _Caller:
    """One with a session of its own."""

    def __init__(self, ask: Ask, port: int, model: str, events: list[bytes]) -> None:
        self._ask = ask
        self._port = port
        self._path = f"/v1/models/{model}/sessions"
        self._events = itertools.cycle(events)
        self._id = ""
        self._number = 0

    async def begin(self) -> None:
        """Make a session."""
        status, answer = await self._ask(http(self._port, self._path, b"{}"))
        if status != OK:
            raise RuntimeError(f"no session: {answer[:300]!r}")
        self._id, self._number = orjson.loads(answer)["session"]["id"], 0

    async def __call__(self, _: bytes) -> tuple[int, bytes]:
        if self._number == LONGEST:
            await self.begin()
        body = b'{"first_event":%d,"sequence":%b}' % (self._number, next(self._events))
        self._number += 1
        return await self._ask(http(self._port, f"{self._path}/{self._id}:append", body))


@contextmanager
def _redis(bench: Bench) -> Iterator[str]:
    """Run a Redis of the run's own, and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        server = serving(Path(folder))
        started = bench.loop.run(server.__aenter__())
        try:
            yield started.url
        finally:
            bench.loop.run(server.__aexit__(None, None, None))
