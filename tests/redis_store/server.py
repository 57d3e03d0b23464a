"""A Redis of a test's own: started on a free port of this machine, and ended."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

PROGRAM = "redis-server"
START_SECONDS = 20.0


@dataclass(slots=True)
class Server:
    """A running one.

    Args:
        url: as SEQSERVE_SESSIONS takes it, without a password.
        options: what it was started with.
    """

    url: str
    options: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start, with what was kept before, and return once it answers."""
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM, *self.options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        port = int(self.options[self.options.index("--tls-port" if "rediss" in self.url else "--port") + 1])
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    return

    async def kill(self) -> None:
        """End it without warning."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def serving(
    folder: Path, *options: str, tls: tuple[Path, Path, Path] | None = None
) -> AsyncIterator[Server]:
    """Run one, which keeps what it has in `folder`, on disk by each command.

    Args:
        tls: files of a certificate, its key and its authority: it then listens by TLS alone.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    listening = ("--port", port)
    if tls is not None:
        names = ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")
        files = [part for pair in zip(names, map(str, tls), strict=True) for part in pair]
        listening = ("--port", "0", "--tls-port", port, "--tls-auth-clients", "no", *files)
    own = ("--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes")
    own += ("--appendfsync", "always")  # by the second, what was acknowledged may be lost: it is written late
    scheme = "redis" if tls is None else "rediss"
    server = Server(f"{scheme}://localhost:{port}", (*own, *listening, *options))
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def ends(url: str) -> list[int]:
    """Return the seconds that each key has left."""
    client = Redis.from_url(url)
    try:
        return [await client.ttl(key) for key in await client.keys()]
    except RedisError as error:
        raise AssertionError(str(error)) from error
    finally:
        await client.aclose()
