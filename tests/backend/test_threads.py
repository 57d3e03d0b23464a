"""Threads of the embedded backend: in order, each outcome to whoever waits, and nothing lost at the end."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from seqserve.service.backend.threads import Threads

PATIENCE = 20.0


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    one = Threads(1, "one")
    yield one
    await one.close()


def _raise(error: Exception) -> None:
    raise error


async def test_what_a_function_returns_or_raises_comes_back(threads: Threads) -> None:
    """One that raises ends no thread."""
    assert await threads.run(lambda: threading.current_thread().name) == "one_0"
    with pytest.raises(KeyError, match="gone"):
        await threads.run(_raise, KeyError("gone"))
    assert await threads.run(divmod, 7, 4) == (1, 3)


async def test_what_nobody_waits_for_any_more_is_left_out(threads: Threads) -> None:
    """What has begun is finished, and its outcome goes nowhere."""
    begun, goes_on, told = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        goes_on.wait(PATIENCE)
        told.append("first")

    running, waiting = threads.run(first), threads.run(told.append, "second")
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    running.cancel()
    waiting.cancel()
    goes_on.set()
    await threads.run(told.append, "third")
    assert told == ["first", "third"]


async def test_its_end_waits_for_what_was_asked_for() -> None:
    threads, told, goes_on = Threads(2, "two"), [], threading.Event()
    begun = [threads.run(goes_on.wait, PATIENCE) for _ in range(2)]
    last = threads.run(told.append, "last")
    closing = asyncio.create_task(threads.close())
    await asyncio.sleep(0)
    assert not closing.done()
    goes_on.set()
    await closing
    assert told == ["last"]
    assert await asyncio.gather(*begun, last) == [True, True, None]


def test_a_loop_that_ends_before_a_run_does_ends_no_thread() -> None:
    """Who comes by another loop is served."""
    threads, goes_on = Threads(1, "one"), threading.Event()

    async def asked() -> None:
        threads.run(goes_on.wait, PATIENCE)

    async def asked_again() -> tuple[int, int]:
        goes_on.set()
        outcome: tuple[int, int] = await asyncio.wait_for(threads.run(divmod, 7, 4), PATIENCE)
        await threads.close()
        return outcome

    asyncio.run(asked())
    assert asyncio.run(asked_again()) == (1, 3)
