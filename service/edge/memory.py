"""Gives memory back to the system: the allocator would keep what large requests held."""

import asyncio
import ctypes

LARGE = 2**20
"""Bytes from which on a request is large."""
PAUSE_SECONDS = 1.0
"""Between the end of a large request and the giving back, and so between two of them."""


class Memory:
    """Waits for large requests to end. Build it anywhere; use it inside the running event loop."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._pending: asyncio.TimerHandle | None = None

    def freed(self, count: int) -> None:
        """Say that a request of so many bytes has ended."""
        if count >= LARGE and self._trim is not None and self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._give_back)

    def _give_back(self) -> None:
        self._pending = None
        asyncio.get_running_loop().run_in_executor(None, self._trim, 0)  # some milliseconds, without the GIL
