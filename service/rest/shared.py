"""What the connections of one server of the REST door share."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import ASGIApp

from seqserve.service.core.turns import Turnstile
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.entrance import Entrance
from seqserve.service.metrics import Metrics
from seqserve.service.rest.room import Room
from seqserve.service.settings import Settings

READ_BYTES = 16 * 1024
"""Read of a connection at once: each that has something takes its turn, so that a thousand which send large
bodies delay others by a thousand times this."""


MOST_BEGUN = 16
"""Requests that are begun in one turn of the event loop, more only where they take little: one takes half a
millisecond until it waits or is refused, and a probe is answered between those of a flood."""


class Open(Protocol):
    """A connection, as its server sees it."""

    def leave(self) -> None:
        """Close now if nothing is being answered, else after the answer, which says so."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(slots=True)
class Shared:
    """A server's application, limits and counts.

    Args:
        certificate: names the caller by its certificate, as `SSLObject.getpeercert` tells it; empty: it does
            not.
        is_leaving: whether callers are to go elsewhere.
        date: the line of the header `Date`.
    """

    app: ASGIApp
    settings: Settings
    metrics: Metrics
    entrance: Entrance
    in_flight: BytesInFlight
    room: Room
    certificate: Callable[[Any], str]
    connections: set[Open] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    are_closed: asyncio.Event = field(default_factory=asyncio.Event)  # all connections
    turned_away: int = 0
    is_leaving: bool = False
    date: bytes = b""
    turnstile: Turnstile = field(default_factory=lambda: Turnstile(MOST_BEGUN))
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))

    def opened(self, connection: Open) -> None:
        """Hear of a connection."""
        self.connections.add(connection)
        self.are_closed.clear()

    def closed(self, connection: Open) -> None:
        """Hear that one is no more."""
        self.connections.discard(connection)
        if not self.connections:
            self.are_closed.set()

    async def all_closed(self, seconds: float) -> None:
        """Wait until no connection is open, for so long at most."""
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.are_closed.wait(), seconds)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something on its own, up to the server's stop."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
