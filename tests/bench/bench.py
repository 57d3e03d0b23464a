"""One run of the benchmark: what it may take, what it serves, and what it has measured so far.

Made by `tests.bench.__main__`; every row is a function of it.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from rich.status import Status

from tests.bench import turns
from tests.bench.clients import HOST, OK, Ask, Load, by_grpc, by_rest, closed_loop, open_loop
from tests.bench.processes import COMMAND, Cores, Service, services
from tests.bench.report import Figure, Target
from tests.bench.subject import METHOD, Subject
from tests.bench.turns import Turns, in_turns

T = TypeVar("T")
Doors = AbstractAsyncContextManager[list[Ask]]
Asked = tuple[Subject, Sequence[str], Mapping[str, object]]
"""Of a service: what it serves, by which command, with which settings."""
Key = tuple[Path, tuple[str, ...], tuple[tuple[str, object], ...]]
"""The same, to look one up by."""
MANY = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Args:
        seconds: of a slice of one load; a fifth more goes before it.
        turns: slices of each side.
        items: different ones that callers send.
        tail_seconds: of a slice whose 99th percentile is asked.
        is_whole: every peer, on both versions, and every load; else plain FastAPI on what we ship.
    """

    seconds: float = 1.6
    turns: int = 5
    callers: tuple[int, ...] = (1, 8, 64, 256)
    items: int = 512
    tail_seconds: float = 4.0
    is_whole: bool = True


QUICK = Plan(0.6, 2, (1, 64), 192, 1.6, False)


@dataclass(slots=True)
class Bench:
    """The run."""

    plan: Plan
    cores: Cores
    texts: Subject
    events: Subject
    model: ProcessPoolExecutor  # one process on the server's core: the model without a gateway
    loop: asyncio.Runner
    status: Status
    stack: ExitStack  # ends what is started
    tfserving: str | None = None
    other: tuple[str, ...] = ()  # the command of another build
    figures: list[Figure] = field(default_factory=list)
    _running: dict[Key, Service] = field(default_factory=dict)

    def say(self, what: str) -> None:
        """Show what is being done."""
        self.status.update(what)

    def add(
        self,
        row: str,
        name: str,
        value: float | str | None,
        unit: str = "",
        reference: tuple[str, float] | None = None,
        *,
        ratio: float | None = None,
        spread: Sequence[float] = (),
        target: Target | None = None,
        drifted: bool = False,
    ) -> None:
        """Record a figure, with its ratio to the reference's value, and show it.

        Args:
            ratio: the median of the turns' ratios, where there were turns.
            spread: the repetitions: ratios, or values where there is no reference.
        """
        if ratio is None and reference and reference[1] and isinstance(value, float | int):
            ratio = value / reference[1]
        span = (min(spread), max(spread)) if spread else None
        figure = Figure(row, name, value, unit, reference and reference[0], ratio, span, target, drifted)
        self.figures.append(figure)
        shown = f"{value:.4g}" if isinstance(value, float | int) else str(value)
        against = f"  {ratio:.2f} of {figure.reference}" if ratio is not None else ""
        self.status.console.print(
            f"({row}) {name}: {shown} {unit}{against}{'  drift' * drifted}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def turns(self, sides: Mapping[str, Callable[[int], T]], count: int | None = None) -> Turns[T]:
        """Measure sides in turns, the machine's speed probed on the server's core."""

        def told(side: str, measured: Callable[[int], T]) -> Callable[[int], T]:
            def slice_of(turn: int) -> T:
                self.say(f"{side}, turn {turn + 1} of {count} or more")
                return measured(turn)

            return slice_of

        count = count or self.plan.turns
        named = {side: told(side, measured) for side, measured in sides.items()}
        return in_turns(named, count, lambda: self.on_model(turns.probe))

    def compare(
        self,
        row: str,
        name: str,
        measured: Turns[float],
        side: str,
        unit: str,
        to: str | None = None,
        *,
        called: str | None = None,
        scale: float = 1.0,
        target: Target | None = None,
    ) -> None:
        """Record a side's median, and the median ratio to another side's, turn by turn.

        Args:
            to: the other side; the figure's spread is the values' where there is none.
            called: what the reference is called, if not as its side.
            scale: the reference is so many times the other side.
        """
        value = measured.median(side)
        if to is None:
            self.add(
                row, name, value, unit, spread=measured.took[side], target=target, drifted=measured.drifted
            )
            return
        ratios = measured.ratios(side, to, scale)
        reference = (called or to, scale * measured.median(to))
        ratio = statistics.median(ratios)
        self.add(
            row,
            name,
            value,
            unit,
            reference,
            ratio=ratio,
            spread=ratios,
            target=target,
            drifted=measured.drifted,
        )

    def start(self, *asked: Asked) -> None:
        """Start services together; each runs until the run ends."""
        keys = [_key(subject, command, settings) for subject, command, settings in asked]
        missing = {key: one for key, one in zip(keys, asked, strict=True) if key not in self._running}
        commands = [(subject.root, command, settings) for subject, command, settings in missing.values()]
        for (key, (subject, *_)), running in zip(
            missing.items(), self.stack.enter_context(services(self.cores, commands)), strict=True
        ):
            warm = self.closed(self.by_rest(running, MANY), subject.rest(running.rest_port), 0.5)
            if warm.failed:
                raise RuntimeError(f"{warm.failed} of {len(warm.statuses)} requests failed")
            self._running[key] = running

    def service(self, subject: Subject, command: Sequence[str] = COMMAND, **settings: object) -> Service:
        """Return a running service, started and warmed where it is not there yet."""
        self.say(f"{subject.label}: starting")
        self.start((subject, command, settings))
        return self._running[_key(subject, command, settings)]

    def closed(self, doors: Doors, requests: Sequence[bytes], seconds: float, seed: int = 0) -> Load:
        """Measure callers that wait for their answers."""
        return self.driven(doors, partial(closed_loop, requests=requests, seconds=seconds, seed=seed))

    def opened(
        self, doors: Doors, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 0
    ) -> Load:
        """Measure callers that do not."""
        return self.driven(
            doors, partial(open_loop, requests=requests, rate=rate, seconds=seconds, seed=seed)
        )

    def asked(self, doors: Doors, requests: Sequence[bytes]) -> list[tuple[int, bytes, float]]:
        """Send requests one after another; returns status, answer and seconds of each."""

        async def ask_all(asks: list[Ask]) -> list[tuple[int, bytes, float]]:
            replies = []
            for request in requests:
                began = perf_counter()
                status, answer = await asks[0](request)
                replies.append((status, answer, perf_counter() - began))
            return replies

        return self.driven(doors, ask_all)

    def driven(self, doors: Doors, drive: Callable[[list[Ask]], Awaitable[T]]) -> T:
        """Connect callers, and run what drives them."""

        async def run() -> T:
            async with doors as asks:
                return await drive(asks)

        return self.loop.run(run())

    def by_rest(self, service: Service, callers: int, addresses: Sequence[str] = (HOST,)) -> Doors:
        """Connect callers to the REST door."""
        return by_rest(service.rest_port, callers, addresses)

    def by_grpc(self, service: Service, subject: Subject, callers: int) -> Doors:
        """Connect callers to the gRPC door."""
        return by_grpc(service.grpc_port, METHOD[subject.task], callers)

    def on_model(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function of `ideal` on the server's core."""
        return self.model.submit(function, *arguments).result()


def _key(subject: Subject, command: Sequence[str], settings: Mapping[str, object]) -> Key:
    return subject.root, tuple(command), tuple(sorted(settings.items()))


def seconds_of(replies: Sequence[tuple[int, bytes, float]]) -> list[float]:
    """Return how long each took.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    bad = next((answer for status, answer, _ in replies if status != OK), None)
    if bad is not None:
        raise RuntimeError(f"a call failed: {bad[:500]!r}")
    return [seconds for *_, seconds in replies]
