"""The REST door's HTTP server: where it listens, what its connections share, and how it ends.

Its own, because what stands at the edge of a network must bound what a connection may do before there is a
request to refuse: see `service.rest.connection`, and `docs/performance.md` for what it costs.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp

from seqserve.service.edge.addresses import Addresses
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.descriptors import room_for_rest
from seqserve.service.edge.entrance import Entrance
from seqserve.service.metrics import Metrics
from seqserve.service.rest.connection import Connection
from seqserve.service.rest.handshake import Handshakes
from seqserve.service.rest.room import Room
from seqserve.service.rest.shared import Shared
from seqserve.service.settings import Settings

BACKLOG = 2048
ANY = "::"
"""The address that is all of both families."""


def _nameless(certificate: Any) -> str:
    return ""


class RestServer:
    """Serves one application: `start`, `leave`, `stop`.

    Args:
        port: where to listen; None: the settings' REST port.
        connections: that may be open at once; None: what the settings and the descriptors allow.
        tls: the server's certificate; None: no TLS.
        certificate: names the caller by its certificate, as `SSLObject.getpeercert` tells it.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        metrics: Metrics,
        entrance: Entrance,
        in_flight: BytesInFlight,
        *,
        port: int | None = None,
        connections: int | None = None,
        tls: ssl.SSLContext | None = None,
        certificate: Callable[[Any], str] = _nameless,
    ) -> None:
        self._settings = settings
        self._port = settings.rest_port if port is None else port
        self._tls = tls
        addresses = Addresses(settings.trusted_proxy_networks)
        most = room_for_rest(settings.rest_connections) if connections is None else connections
        room = Room(most, settings.rest_connections_per_address, addresses)
        self._shared = Shared(app, settings, metrics, entrance, in_flight, room, certificate)

    async def start(self) -> int:
        """Listen, and return the port: the one asked for, or the one taken where that is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        listening = _listening(self._settings.host, self._port)
        port: int = listening.getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._tell_time()
        if self._tls is not None:
            self._accepting: Handshakes | asyncio.Server = Handshakes(self._shared, self._tls, listening)
        else:
            self._accepting = await self._loop.create_server(
                lambda: Connection(self._shared), sock=listening, backlog=BACKLOG
            )
        return port

    def leave(self) -> None:
        """Tell callers to go elsewhere: every answer closes its connection."""
        self._shared.is_leaving = True
        self._shared.entrance.leave()

    async def stop(self, grace: float = 1.0) -> None:
        """Take no new connection, and close those that are open, each after its answer.

        Args:
            grace: seconds that answers may take, and then as many that callers may take to read them; what
                is not finished then is broken off. It takes three times as long at most.
        """
        self.leave()
        await asyncio.sleep(0)  # what waits to be accepted is
        self._accepting.close()
        for connection in list(self._shared.connections):
            connection.leave()
        await self._finished(grace)
        for task in self._shared.tasks:
            task.cancel()
        await self._finished(grace)
        await self._shared.all_closed(grace)
        for connection in list(self._shared.connections):
            connection.abort()
        self._time.cancel()

    async def _finished(self, seconds: float) -> None:
        if self._shared.tasks:
            await asyncio.wait(self._shared.tasks, timeout=seconds)

    def _tell_time(self) -> None:
        """Write the header `Date` anew, each second."""
        self._shared.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        self._time = self._loop.call_later(1.0, self._tell_time)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == ANY and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
