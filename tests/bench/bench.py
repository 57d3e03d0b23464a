"""One run of the benchmark: what it may take, what it serves, and what it has measured so far.

Made by `tests.bench.__main__`; every row is a function of it.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from rich.status import Status

from tests.bench import ideal
from tests.bench.ceiling import Table
from tests.bench.clients import OK, Ask, Load, by_grpc, by_rest, closed_loop, open_loop
from tests.bench.processes import Cores, Service
from tests.bench.report import Figure, Target
from tests.bench.subject import METHOD, Subject

T = TypeVar("T")
Doors = AbstractAsyncContextManager[list[Ask]]
CONNECTIONS = 4096
"""Requests of an open loop that may be under way: past it they wait at the callers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Args:
        seconds: of one load; a fifth more goes before it.
        repeats: of each load, in turns with the ideal.
        items: different ones that callers send.
        taxed: calls of each kind, of one caller.
        tail_seconds: of a load whose 99th percentile is asked.
        all_peers: every peer, on both versions; else the project's own environment's, on what we ship.
    """

    seconds: float = 4.0
    repeats: int = 3
    callers: tuple[int, ...] = (1, 8, 64, 256)
    items: int = 512
    taxed: int = 240
    tail_seconds: float = 12.0
    all_peers: bool = True


QUICK = Plan(1.2, 2, (1, 64, 256), 256, 60, 3.0, False)


Case = tuple[str, int]
"""A door, REST or gRPC, and how many callers; 0 callers: one, who sends requests of 64 items."""


@dataclass(slots=True)
class Ours:
    """What one subject's gateway and model were measured at."""

    table: Table
    pairs: list[tuple[int, int]]  # steps in and out, of each item
    answers: list[str]  # to the first items
    rates: dict[Case, list[float]] = field(default_factory=dict)  # items a second, one a repetition
    ideals: dict[Case, list[float]] = field(default_factory=dict)  # measured just before each
    padding: float = 0.0  # cells at 64 callers through REST
    cells: float = 0.0

    def rate(self, callers: int, door: str = "REST") -> float:
        """Return the median."""
        return statistics.median(self.rates[door, callers])

    def ideal(self) -> float:
        """Return the median."""
        return statistics.median(rate for rates in self.ideals.values() for rate in rates)

    def of_ideal(self, case: Case) -> list[float]:
        """Return the ratio of each repetition."""
        return [rate / best for rate, best in zip(self.rates[case], self.ideals[case], strict=True)]


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
    tfserving: str | None = None
    ours: dict[str, Ours] = field(default_factory=dict)  # by the subject's label
    figures: list[Figure] = field(default_factory=list)

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
        spread: Sequence[float] = (),
        target: Target | None = None,
    ) -> None:
        """Record a figure, with its ratio to the reference's value, and show it.

        Args:
            spread: the repetitions: ratios, or values where there is no reference.
        """
        ratio = (
            value / reference[1] if reference and reference[1] and isinstance(value, float | int) else None
        )
        span = (min(spread), max(spread)) if spread else None
        figure = Figure(row, name, value, unit, reference and reference[0], ratio, span, target)
        self.figures.append(figure)
        shown = f"{value:.4g}" if isinstance(value, float | int) else str(value)
        against = f"  {ratio:.2f} of {figure.reference}" if ratio is not None else ""
        self.status.console.print(
            f"({row}) {name}: {shown} {unit}{against}", highlight=False, markup=False, soft_wrap=True
        )

    def closed(self, doors: Doors, requests: Sequence[bytes], seconds: float, seed: int = 0) -> Load:
        """Measure callers that wait for their answers."""
        return self._driven(doors, partial(closed_loop, requests=requests, seconds=seconds, seed=seed))

    def opened(self, doors: Doors, requests: Sequence[bytes], rate: float, seconds: float) -> Load:
        """Measure callers that do not."""
        return self._driven(doors, partial(open_loop, requests=requests, rate=rate, seconds=seconds))

    def asked(self, doors: Doors, requests: Sequence[bytes]) -> list[tuple[int, bytes, float]]:
        """Send requests one after another; returns status, answer and seconds of each."""

        async def ask_all(asks: list[Ask]) -> list[tuple[int, bytes, float]]:
            replies = []
            for request in requests:
                began = perf_counter()
                status, answer = await asks[0](request)
                replies.append((status, answer, perf_counter() - began))
            return replies

        return self._driven(doors, ask_all)

    def _driven(self, doors: Doors, drive: Callable[[list[Ask]], Awaitable[T]]) -> T:
        async def run() -> T:
            async with doors as asks:
                return await drive(asks)

        return self.loop.run(run())

    def by_rest(self, service: Service, callers: int) -> Doors:
        """Connect callers to the REST door."""
        return by_rest(service.rest_port, callers)

    def by_grpc(self, service: Service, subject: Subject, callers: int) -> Doors:
        """Connect callers to the gRPC door."""
        return by_grpc(service.grpc_port, METHOD[subject.task], callers)

    def on_model(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function of `ideal` on the server's core."""
        return self.model.submit(function, *arguments).result()

    def ideal(self, subject: Subject) -> "ideal.Run":
        """Measure the ideal once."""
        return self.on_model(ideal.ideal, subject.version, subject.packed)


def seconds_of(replies: Sequence[tuple[int, bytes, float]]) -> list[float]:
    """Return how long each took.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    bad = next((answer for status, answer, _ in replies if status != OK), None)
    if bad is not None:
        raise RuntimeError(f"a call failed: {bad[:500]!r}")
    return [seconds for *_, seconds in replies]
