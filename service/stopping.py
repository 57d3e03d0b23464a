"""How `service.main` ends in time: no step of stopping, and not all of them together, can hold it up."""

import asyncio
import logging
import math
import os
import select
import sys
import threading
from collections.abc import Awaitable
from time import monotonic

log = logging.getLogger(__name__)
STEP_SECONDS = 2.0
"""For each of what is closed after the drain."""
CLOSING_SECONDS = 12.0
"""For all that comes after the drain."""
SETTLE_SECONDS = 0.25
"""In which calls that had been sent before a signal are still taken, where there is no lame duck to do it."""
PASSES = 10
FORCED = 1


async def within(step: Awaitable[object], name: str, seconds: float = STEP_SECONDS) -> None:
    """Wait for a step of stopping; what hangs is told, cancelled and left behind."""
    task = asyncio.ensure_future(step)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        log.warning("closing %s took more than %g s: given up", name, seconds)
    else:
        await task


async def settle(seconds: float) -> None:
    """Wait for so long, and until the loop has looked at its sockets several times, however late it is."""
    for _ in range(PASSES):
        await asyncio.sleep(max(seconds, SETTLE_SECONDS) / PASSES)


class Bound:
    """Ends this process by force once a time has passed, whatever hangs: by a thread, which needs no loop."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._end = math.inf

    def within(self, seconds: float) -> None:
        """Begin with so many seconds; where it has begun, only a nearer end replaces the one that is set."""
        end = monotonic() + seconds
        if end >= self._end:  # else who sends one signal after another would put the end off for ever
            return
        self._end = end
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _force, [seconds])
        self._timer.daemon = True
        self._timer.start()


def _force(seconds: float) -> None:
    _say(f"seqserve: still not stopped after {seconds:g} s; ends by force\n")
    os._exit(FORCED)


def _say(line: str) -> None:
    """Write to standard error, unless nobody reads it."""
    try:
        error = sys.__stderr__.fileno() if sys.__stderr__ is not None else -1
        if select.select([], [error], [], 0)[1]:
            os.write(error, line.encode())
    except (OSError, ValueError):
        pass
