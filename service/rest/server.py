"""The REST door's HTTP server: sockets, connections and their limits, round the application."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from seqserve.service.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""How long an idle REST connection is kept: longer than proxies keep theirs (nginx and AWS: 60). Otherwise a
proxy may send a request on a connection that is just being closed, and answer its caller with 502."""


CLOSE = (b"connection", b"close")


class RestServer:
    """Serves one application: `start`, `stop`.

    Args:
        tls: the server's certificate; None: no TLS.
    """

    def __init__(self, app: ASGIApp, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        config.ssl = tls  # uvicorn's own is read once
        self._server = _WebServer(config)

    async def start(self) -> int:
        """Listen, and return the port: the one of the settings, or the one taken where that is 0.

        Raises:
            OSError: the address cannot be bound.
        """
        host = self._settings.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, self._settings.rest_port), family=family, backlog=2048)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="rest")
        port: int = listening.getsockname()[1]
        return port

    def leave(self) -> None:
        """Close each connection after its next answer, so that callers go elsewhere; new ones are taken."""
        always, now = self._server.config.encoded_headers, self._server.server_state
        if CLOSE not in always:
            always.append(CLOSE)  # uvicorn makes its own headers of these once a second
            now.default_headers = [*now.default_headers, CLOSE]

    async def stop(self) -> None:
        """Take no new connection, and close those that are open."""
        self._server.should_exit = True
        await self._task


class _WebServer(uvicorn.Server):
    """uvicorn without its signal handling, which would raise the signal again after the drain."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
