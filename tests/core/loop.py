"""An event loop whose clock jumps to the next timer when nothing else is due; waiting for nothing fails."""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class _Clock(selectors.DefaultSelector):
    """A selector that moves the time where others would let it pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("hangs: no task can go on and no timer runs")
        self.now += max(0.0, timeout)
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 seconds; not for times past 1e6, where the loop's resolution of 1e-9 is lost."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._clock.now


LOOPS: Mapping[str, Any] = {"virtual": VirtualLoop}
