"""A caller that speaks HTTP/2 as no grpc client does: it need not read, end what it began, or mind UTF-8."""

import asyncio
import os
import select
import struct
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW = 0, 1, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NO_WINDOW = struct.pack(">HI", 4, 0)
"""The setting that lets a peer send no data."""
PATH = b"/seqserve.v1.ModelService/ListModels"
Headers = Iterable[tuple[bytes, bytes]]


class Caller:
    """One connection: a context."""

    def __init__(self, port: int, settings: bytes = b"") -> None:
        self._port, self._settings = port, settings
        self._streams = 0
        self._heard: dict[tuple[int, int], list[bytes]] = defaultdict(list)

    async def __aenter__(self) -> "Caller":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(PREFACE + _frame(SETTINGS, 0, 0, self._settings))
        self._writer.write(_frame(WINDOW, 0, 0, (2**30).to_bytes(4, "big")))  # of the whole connection
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._writer.close()

    def begin(self, path: bytes = PATH, more: Headers = ()) -> int:
        """Send a call's headers, and return its stream."""
        self._streams += 1
        stream = 2 * self._streams - 1
        fixed = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"x"}
        grpc = {b"content-type": b"application/grpc", b"te": b"trailers"}
        block = b"".join(_literal(name, value) for name, value in [*fixed.items(), *grpc.items(), *more])
        self._writer.write(_frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, message: bytes, *, declared: int | None = None) -> None:
        """Send a message, the only one; or its beginning, where more bytes are declared than come."""
        length = len(message) if declared is None else declared
        whole = struct.pack(">BI", 0, length) + message
        for at in range(0, len(whole), 16_384):
            is_last = declared is None and at + 16_384 >= len(whole)
            self._writer.write(_frame(DATA, END_STREAM * is_last, stream, whole[at : at + 16_384]))

    def settle(self) -> None:
        """Keep the event loop until the peer has read all that was sent."""
        self._writer.write(_frame(PING, 0, 0, bytes(8)))
        socket, heard = self._writer.get_extra_info("socket"), b""
        while _frame(PING, ACK, 0, bytes(8)) not in heard:
            select.select([socket], [], [], 10)
            heard += os.read(socket.fileno(), 65_536)
        self._reader.feed_data(heard)

    async def hear_texts(self, kind: int, text: bytes, count: int) -> None:
        """Return when so many frames of a kind have come that hold a text, on any streams; see `hear`."""
        while (
            sum(text in one for (of, _), heard in self._heard.items() if of == kind for one in heard) < count
        ):
            await self._take()

    async def hear(self, kind: int, stream: int) -> bytes:
        """Return the payload of the next frame of a kind on a stream; meanwhile answer what has to be.

        Raises:
            asyncio.IncompleteReadError, ConnectionError: the peer has ended the connection.
        """
        while not self._heard[kind, stream]:
            await self._take()
        return self._heard[kind, stream].pop(0)

    async def _take(self) -> None:
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] in (SETTINGS, PING) and not head[4] & ACK:
            self._writer.write(_frame(head[3], ACK, 0, payload if head[3] == PING else b""))
        self._heard[head[3], int.from_bytes(head[5:], "big")].append(payload)

    async def ended(self) -> None:
        """Return when the peer has ended the connection."""
        try:
            await self.hear(kind=-1, stream=-1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    """Return HPACK's length of a string that is not compressed."""
    left = len(text) - 127
    if left < 0:
        return bytes([len(text)])
    coded = bytearray([127])
    while left >= 128:
        coded.append(left & 127 | 128)
        left >>= 7
    return bytes([*coded, left])
