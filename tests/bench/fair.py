"""Row k: what one caller's load does to another's calls, on the real service."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from operator import methodcaller

from tests.bench.bench import Bench
from tests.bench.clients import HOST, Ask, Load, beside, by_rest, closed_loop
from tests.bench.report import Target

SINGLES, TEXTS, CONNECTIONS = 16, 1_000, 2_000
ANOTHER = "127.0.0.2"
"""Where nobody needs a key, an address is a principal."""
LITTLE_MORE = Target("at most", 3.0)
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
