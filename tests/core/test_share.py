"""One principal with 2,000 connections beside another that asks for a tenth of what can be done."""

import asyncio
import math
from collections import Counter

from seqserve.service import errors
from seqserve.service.contract.items import PredictBody
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.queue import Budget
from seqserve.service.core.types import Call, ModelRef, Principal
from tests.core.fakes import Core, as_files, running, sequence_manifest

ROWS, BATCH_SECONDS, SLOTS = 8, 0.1, 2
CAPACITY = SLOTS * ROWS / BATCH_SECONDS  # rows a second
SECONDS, PATIENCE = 5.0, 2.0


async def ask(core: Core, limits: Limits, name: str) -> int | None:
    """Ask for one row as a door does; return after how long to try again, None where it was answered."""
    now = asyncio.get_running_loop().time()
    call = Call("rest", now + PATIENCE, principal=Principal(name))
    try:
        with limits.calling(name):
            await core.ask(ModelRef("totals"), PredictBody(sequences=[{"x": [1, 2]}]), call)
    except errors.SeqserveError as error:
        return math.ceil(error.retry_after or 0.0)  # as Retry-After has it
    return None


async def kept(shares: Shares, connections: int) -> tuple[float, float]:
    """Return the share of its requests that the polite one has answered, and of the capacity that is used."""
    loop, answered = asyncio.get_running_loop(), Counter[str]()
    async with running(budget=Budget(ROWS, 64, 100_000), slots=SLOTS, shares=shares) as core:
        core.backend.put("totals", 1, as_files(sequence_manifest()))
        core.backend.seconds = BATCH_SECONDS
        await core.catalog.refresh()
        limits, end = core.gateway._limits, loop.time() + SECONDS

        async def again() -> None:
            while loop.time() < end:
                wait = await ask(core, limits, "many")
                answered["many"] += wait is None
                if wait is not None:
                    await asyncio.sleep(wait)

        async def once(at: float) -> None:
            await asyncio.sleep(at)
            wait = await ask(core, limits, "polite")
            answered["polite"] += wait is None

        polite = [once((number + 0.5) * 10 / CAPACITY) for number in range(int(SECONDS * CAPACITY / 10))]
        await asyncio.gather(*(again() for _ in range(connections)), *polite)
    return answered["polite"] / len(polite), sum(answered.values()) / (SECONDS * CAPACITY)


async def test_with_limits_the_other_keeps_its_requests_and_nothing_lies_idle() -> None:
    share, used = await kept(Shares(requests=64), 2000)
    assert share >= 0.99
    assert used > 0.95


async def test_cells_a_second_do_it_too() -> None:
    """Here to half of what can be done, in cells: two a row."""
    share, used = await kept(Shares(cells_per_second=CAPACITY), 400)
    assert share >= 0.99
    assert 0.6 < used < 0.9


async def test_turns_alone_do_it_too() -> None:
    share, used = await kept(Shares(), 2000)
    assert share >= 0.99
    assert used > 0.95
