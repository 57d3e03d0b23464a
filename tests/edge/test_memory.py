"""Memory is given back once for each burst of large requests, and in glibc's way."""

import asyncio

from seqserve.service.edge.bytes_in_flight import LARGE, BytesInFlight
from seqserve.service.edge.memory import Memory


async def test_a_burst_of_large_requests_gives_back_once() -> None:
    """Small ones never do; the next burst does again."""
    given = asyncio.Queue[str]()
    loop = asyncio.get_running_loop()
    memory = Memory(lambda: loop.call_soon_threadsafe(given.put_nowait, "given"), seconds=0.01)
    in_flight = BytesInFlight(100 * LARGE, memory.left)
    for size in (LARGE, LARGE - 1):
        for held in [in_flight.hold() for _ in range(5)]:
            held.add(size)
            held.release()
    async with asyncio.timeout(5):
        await given.get()
        held = in_flight.hold()
        held.add(LARGE)
        held.release()
        await given.get()
    assert given.empty()


def test_glibc_has_what_is_called() -> None:
    """And it takes what it is given."""
    trim = Memory.of_glibc()._trim
    assert trim is None or trim() in (0, 1)
