"""What a caller costs the scheduler: no wait for others when alone, and no memory once gone."""

import asyncio
import gc

from seqserve.service.core.entries import Entry
from tests.core.fakes import Core, running
from tests.core.test_scheduler import Asked, ask


async def test_a_caller_who_is_alone_waits_for_nobody_who_might_come_back() -> None:
    async def waited(core: Core) -> int:
        asking, turns = asyncio.create_task(ask(core, Asked([1.0]))), 0
        before = len(core.backend.batches)
        while len(core.backend.batches) == before:
            await asyncio.sleep(0)
            turns += 1
        await asking
        return turns

    async with running(slots=1) as core:
        assert len({await waited(core) for _ in range(3)}) == 1


async def test_no_row_waits_for_the_collector() -> None:
    """It would keep the outputs of its whole batch: one that was answered, one too late, one who left."""
    async with running(slots=1) as core:
        core.backend.seconds = 4.0
        rows = (Asked([1.0], at=0, seconds=9), Asked([1.0], at=1, seconds=2), Asked([1.0]))
        gc.collect()
        gc.disable()
        before = {id(found) for found in gc.get_objects() if isinstance(found, Entry)}  # of other tests
        try:
            asking = [asyncio.create_task(ask(core, row)) for row in rows]
            await asyncio.sleep(2.5)
            asking.pop().cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await asyncio.sleep(9)
            del asking
            entries = (found for found in gc.get_objects() if isinstance(found, Entry))
            kept = [found for found in entries if id(found) not in before]
        finally:
            gc.enable()
    assert kept == []
