"""Live sessions of two gateways over one Redis, which are killed while a version is swapped under them.

Each event is sent until it is acknowledged, to one gateway or the other, now and then to both at once. Then
every acknowledged answer is compared with `:predict` on that session's history, by the version that gave it.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seqserve.service.core.golden import first_difference
from tests.chaos.world import MODEL, Finding, Gateway, World
from tests.http import Connection
from tests.redis_store.server import serving

LABELS = ("visit", "search", "view", "cart")
"""Labels that both versions know."""
MOST_EVENTS = 30
CALLERS = 16
TWICE = 0.1
"""How often an append is sent to both gateways at once."""
SECONDS = 30.0
PAUSE = 0.05
TOLERANCE = 1e-5
SESSIONS = f"/v1/models/{MODEL}/sessions"
Answer = tuple[int, Any]
"""A status, and what came; 0: nothing did."""
ABSENT = (0, 429, 503, 504)
"""Statuses that say nothing of what was done: the same is asked again."""


@dataclass(slots=True)
class Live:
    """One session: its events so far, and what was acknowledged: of how many events, by which version."""

    id: str
    events: list[tuple[str, float]] = field(default_factory=list)
    acknowledged: list[tuple[int, int, Any]] = field(default_factory=list)

    def part(self, first: int, end: int) -> dict[str, Any]:
        """Return some of the events as a sequence."""
        labels, minutes = zip(*self.events[first:end], strict=True)
        return {"event": labels, "minutes": minutes}


async def live_sessions(world: World, successor: Path, sessions: int, kills: int) -> list[Finding]:
    """Append to many sessions while gateways are killed and a version is swapped in; judge every answer.

    Args:
        successor: the folder of another version of MODEL.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        shutil.copytree(world.root / MODEL / "1", root / MODEL / "1")
        own = replace(world, root=root)
        async with AsyncExitStack() as stack:
            redis = await stack.enter_async_context(serving(Path(folder)))
            server = await stack.enter_async_context(own.model_server())

            async def start() -> Gateway:
                return await stack.enter_async_context(own.gateway(server.address, sessions=redis.url))

            run = _Run(own, [await start(), await start()])
            await run.make(sessions)
            callers = [asyncio.create_task(run.call()) for _ in range(CALLERS)]
            killed = await run.disturb(start, successor, kills)
            run.is_over = True
            await asyncio.gather(*callers)
            world.say("every acknowledged answer is compared")
            await asyncio.gather(*(run.compare(live) for live in run.made))
    return run.judged(killed)


class _Run:
    """The gateways, the sessions, and what was wrong."""

    def __init__(self, world: World, gateways: list[Gateway]) -> None:
        self.made: list[Live] = []
        self.is_over = False
        self._world = world
        self._random = world.random
        self._gateways = gateways
        self._idle: list[Live] = []
        self._faults: list[str] = []
        self._twice = self._compared = self._appends = 0
        self._answered = asyncio.Condition()
        self._room = asyncio.Semaphore(CALLERS)

    async def make(self, count: int) -> None:
        """Make so many sessions."""
        self._idle = [await self._make() for _ in range(count)]

    async def call(self) -> None:
        """Append to one session after the other, until it is over."""
        while not self.is_over:
            live = self._idle.pop(self._random.randrange(len(self._idle)))
            if len(live.events) > MOST_EVENTS:  # it begins anew, as another
                live = await self._make()
            await self._append(live)
            self._idle.append(live)
            await asyncio.sleep(self._random.uniform(0, PAUSE))

    async def disturb(
        self, start: Callable[[], Awaitable[Gateway]], successor: Path, kills: int
    ) -> list[int | None]:
        """Kill gateways and start others, and swap a version in; return how they ended."""
        codes = []
        await self._more(len(self.made))
        for number in range(kills):
            if number == kills // 2:
                self._world.say("a version is swapped in")
                shutil.copytree(successor, self._world.root / MODEL / "aside")
                (self._world.root / MODEL / "aside").rename(self._world.root / MODEL / "2")
            at = self._random.randrange(len(self._gateways))
            self._world.say(f"gateway {at + 1} is killed, {number + 1} of {kills}")
            await asyncio.sleep(self._random.uniform(0, 1))
            self._gateways[at].process.send_signal(signal.SIGKILL)
            codes.append(await self._gateways[at].ended(SECONDS))
            self._gateways[at] = await start()
            await self._more(len(self.made))
        return codes

    async def _more(self, count: int) -> None:
        """Wait until so many more appends have been answered."""
        async with self._answered:
            wanted = self._appends + count
            await self._answered.wait_for(lambda: self._appends >= wanted)

    async def compare(self, live: Live) -> None:
        """Hold what was acknowledged to `:predict` on the history, and the session to its events."""
        if not live.events:
            return
        async with self._room:
            for version in {version for _, version, _ in live.acknowledged}:
                mine = [(end, got) for end, by, got in live.acknowledged if by == version]
                body = {"sequences": [live.part(0, end) for end, _ in mine]}
                path = f"/v1/models/{MODEL}/versions/{version}:predict"
                ((status, content),) = await self._answers(path, body)
                wanted = content.get("predictions", [{}] * len(mine)) if status == 200 else [{}] * len(mine)
                for (end, got), item in zip(mine, wanted, strict=True):
                    self._compared += 1
                    self._note(first_difference(item, got, TOLERANCE), live, end)
            whole = {"first_event": 0, "sequence": live.part(0, len(live.events))}
            ((status, content),) = await self._answers(f"{SESSIONS}/{live.id}:append", whole)
            there = content["session"]["next_event"] if status == 200 else content["reason"]
            self._note(None if there == len(live.events) else f"it has {there}", live, len(live.events))

    def judged(self, killed: list[int | None]) -> list[Finding]:
        """Return the lines of the table."""
        versions = sorted({version for live in self.made for _, version, _ in live.acknowledged})
        events = sum(len(live.events) for live in self.made)
        what = f"{len(self.made)} live sessions, {len(killed)} × SIGKILL, versions {versions}"
        seen = (
            f"{self._compared} answers of {events} events, {self._twice} sent twice at once; "
            f"{len(self._faults)} wrong {self._faults[:3]}"
        )
        is_good = not self._faults and min(self._twice, self._compared) > 0 and versions == [1, 2]
        return [Finding(what, "each as :predict; none lost, none doubled", seen[:400], is_good)]

    async def _make(self) -> Live:
        ((_, content),) = await self._answers(SESSIONS, {})
        self.made.append(Live(content["session"]["id"]))
        return self.made[-1]

    async def _append(self, live: Live) -> None:
        first, twice = len(live.events), self._random.random() < TWICE
        for _ in range(self._random.randint(1, 2)):
            live.events.append((self._random.choice(LABELS), round(self._random.expovariate(1), 3)))
        end = len(live.events)
        body = {"first_event": first, "sequence": live.part(first, end)}
        answers = await self._answers(f"{SESSIONS}/{live.id}:append", body, twice=twice)
        self._twice += len(answers) > 1
        self._appends += 1
        for status, content in answers:
            if status != 200 or content["session"]["next_event"] != end:
                self._note(f"{status} {content}", live, end)
            else:
                version = content["session"]["model"]["version"]
                live.acknowledged.append((end, version, content["prediction"]))
        async with self._answered:
            self._answered.notify_all()

    async def _answers(self, path: str, body: Any, *, twice: bool = False) -> list[Answer]:
        """Post to one gateway, or both at once, until there is an answer that is no absence."""
        while True:
            asked = self._gateways if twice else [self._random.choice(self._gateways)]
            got = await asyncio.gather(*(_posted(gateway, path, body) for gateway in asked))
            if answers := [answer for answer in got if answer[0] not in ABSENT]:
                return answers
            await asyncio.sleep(self._random.uniform(0, PAUSE))

    def _note(self, fault: str | None, live: Live, end: int) -> None:
        if fault is not None:
            self._faults.append(f"session {live.id}, {end} events: {fault}"[:200])


async def _posted(gateway: Gateway, path: str, body: Any) -> Answer:
    writer = None
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.rest_port)
            return await Connection(gateway.rest_port, reader, writer).post(path, body)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return 0, {}
    finally:
        if writer is not None:
            writer.close()
