"""One timer for every caller's deadline: each is told at its own, and who has left is forgotten."""

import asyncio
import gc
from unittest.mock import patch

from hypothesis import given, strategies as st

from seqserve.service.core.deadlines import STALE, Deadlines
from seqserve.service.core.entries import BatchKey, Caller
from tests.core.fakes import served

KEY = BatchKey(served(), "serving_default", ())
times = st.integers(0, 20).map(float)


@given(st.lists(st.tuples(times, times.map(lambda has: has + 1), st.none() | times), max_size=12))
async def test_callers_are_late_from_their_deadline_on_unless_they_left(
    everyone: list[tuple[float, float, float | None]],
) -> None:
    """Each comes, has so long, and may leave after a while."""
    deadlines, loop = Deadlines(), asyncio.get_running_loop()

    async def call(comes: float, has: float, leaves: float | None) -> None:
        await asyncio.sleep(comes)
        caller = Caller(KEY, loop.time() + has)
        deadlines.enter(caller)
        leaves = 30.0 if leaves is None else leaves + 0.5  # never at the very instant of the deadline
        for until, late in ((has - 0.25, False), (has + 0.25, True)):
            if until < leaves:
                await asyncio.sleep(max(0.0, comes + until - (loop.time() - began)))
                assert caller.late == late
        await asyncio.sleep(max(0.0, comes + leaves - (loop.time() - began)))
        was_late = caller.late
        caller.leave()
        deadlines.leave()
        await asyncio.sleep(30)
        assert caller.late == was_late == (has < leaves)

    began = loop.time()
    await asyncio.gather(*(call(*each) for each in everyone))
    deadlines.close()


async def test_who_has_left_is_forgotten() -> None:
    deadlines, deadline = Deadlines(), asyncio.get_running_loop().time() + 1000
    open_to_the_end = Caller(KEY, deadline)
    deadlines.enter(open_to_the_end)
    for _ in range(1000):
        caller = Caller(KEY, deadline)
        deadlines.enter(caller)
        caller.leave()
        deadlines.leave()
    del caller
    known = [found for found in gc.get_objects() if isinstance(found, Caller)]
    assert sum(found.deadline == deadline for found in known) <= STALE + 4
    await asyncio.sleep(1001)
    assert open_to_the_end.late
    deadlines.close()


async def test_callers_of_later_deadlines_set_no_timer() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    with patch.object(loop, "call_at", wraps=loop.call_at) as call_at:
        for number in range(100):
            deadlines.enter(Caller(KEY, loop.time() + 100 + number))
        assert call_at.call_count == 1
    deadlines.close()
