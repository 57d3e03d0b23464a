"""Connections of the REST door that are encrypted, from when they are accepted until they have shaken hands.

asyncio's servers tell of a connection when it has, so that those who never do would be counted nowhere: here
one takes its room before, and has some seconds.
"""

import asyncio
import socket
import ssl

from seqserve.service import errors
from seqserve.service.rest.connection import Connection
from seqserve.service.rest.edge import TRANSPORT
from seqserve.service.rest.shared import Shared

PAUSE_SECONDS = 0.05
"""How long nobody is accepted where there is no descriptor left."""


class Handshakes:
    """Accepts connections on a socket, and makes each a `Connection`."""

    def __init__(self, shared: Shared, tls: ssl.SSLContext, listening: socket.socket) -> None:
        self._shared = shared
        self._tls = tls
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._accepting = self._loop.create_task(self._accept(), name="rest: accepting")

    def close(self) -> None:
        """Accept nobody more."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        with self._listening:
            while True:
                try:
                    accepted, address = await self._loop.sock_accept(self._listening)
                except OSError:
                    await asyncio.sleep(PAUSE_SECONDS)
                else:
                    self._take(accepted, str(address[0]))

    def _take(self, accepted: socket.socket, peer: str) -> None:
        try:
            self._shared.room.enter(peer)
        except errors.TooManyConnections as error:
            self._shared.entrance.refused(error, peer, TRANSPORT)
            accepted.close()  # who is not encrypted cannot be told why
        else:
            self._shared.run(self._shake(accepted, peer))

    async def _shake(self, accepted: socket.socket, peer: str) -> None:
        connection = Connection(self._shared, peer)
        settings = self._shared.settings
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=settings.head_seconds,
                ssl_shutdown_timeout=settings.body_seconds,
            )
        except OSError:
            pass  # a peer's fault: alerts and delay are some of them
        finally:
            if not connection.is_made:
                self._shared.room.leave(peer)
