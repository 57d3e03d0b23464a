"""Threads that run one thing after the other for the event loop: what the embedded backend runs models in.

Between a loop and a `ThreadPoolExecutor` lie two kinds of futures, whose locks and calls take two to three
times as long as the hand-over itself: 30 µs and more of a call, which are felt where a model takes as little.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_Work = tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """So many threads.

    Args:
        name: what theirs begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Have a function run, after those before it; one whose future is cancelled by then is left out."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._work.put((loop, future, function, args))
        return future

    async def close(self) -> None:
        """Wait for what has been asked for; nothing may be asked for after that."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            loop, future, function, args = work
            if not future.cancelled():
                with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, future, *_outcome(function, args))
            del work, future, function, args  # else they would be kept until there is more to do


def _outcome(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """Return what a function returns, or what it raises."""
    try:
        return function(*args), None
    except Exception as error:
        return None, error


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # nobody waits for it any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
