"""A kept connection for load tests. httpx's async client loses file descriptors at hundreds of connections
(0.28 with anyio 4.16: EBADF, resets), so many callers at once have one of these each."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Connection:
    """One HTTP/1.1 connection, one request at a time; opened again where the server closes it."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_last: bool = False  # the server said `Connection: close`

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Return the status and the JSON of the answer."""
        if self.is_last or self.reader.at_eof():
            self.writer.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = json.dumps(body).encode()
        sent = {
            "Host": "localhost",
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **(headers or {}),
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        self.writer.write("\r\n".join(lines).encode() + content)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        self.is_last = "connection: close" in head
        length = next(int(line.split(":")[1]) for line in head if line.startswith("content-length:"))
        return int(head[0].split()[1]), json.loads(await self.reader.readexactly(length))


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """Open so many to a port of this machine."""
    opened = [Connection(port, *await asyncio.open_connection("127.0.0.1", port)) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.writer.close()
        await asyncio.gather(*(connection.writer.wait_closed() for connection in opened))
