"""Content codings of request bodies (RFC 9110 §8.4.1), decoded in pieces: bounded in bytes and in turns."""

import zlib
from collections.abc import AsyncIterator, Iterator

from seqserve.service import errors
from seqserve.service.core.turns import Turn

CODINGS = ("gzip", "deflate")
"""What is read, besides none at all (`identity`)."""
PIECE = 16 * 1024
"""Bytes that are decoded, and that may come of them, before the next look at the clock."""
GZIP, ZLIB, RAW = 31, 15, -15
"""zlib's names for the forms; `deflate` is meant to be the second, and some clients send the third."""


def coding(header: str) -> str | None:
    """Return the coding of a Content-Encoding header; None: the bytes are the body's own.

    Raises:
        UnsupportedMediaType: it is none that is read here, or several.
    """
    names = [name.strip().lower().removeprefix("x-") for name in header.split(",")]
    applied = [name for name in names if name not in ("", "identity")]
    if not applied:
        return None
    if len(applied) > 1 or applied[0] not in CODINGS:
        wanted = f"{' or '.join(CODINGS)}, one of them, or none is wanted"
        raise errors.UnsupportedMediaType(f"Content-Encoding is {header[:60]!r}; {wanted}", encodings=CODINGS)
    return applied[0]


async def decoded(parts: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """Yield what the parts of a coded body are, each at most PIECE bytes, in turns.

    Args:
        name: one of CODINGS.

    Raises:
        MalformedJson: the bytes are not of that coding, or end before their end.
    """
    turn, stream = Turn(), _Stream(name)
    async for part in parts:
        for at in range(0, len(part), PIECE):
            for piece in stream.fed(part[at : at + PIECE]):
                yield piece
                if turn.is_over():
                    await turn.end()
    stream.check_end()


class _Stream:
    """Decodes one body."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._head = b""
        self._decoder = zlib.decompressobj(GZIP) if name == "gzip" else None

    def fed(self, data: bytes) -> Iterator[bytes]:
        """Yield what further bytes add, in pieces; some of them are empty."""
        if self._decoder is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            self._decoder = zlib.decompressobj(ZLIB if _is_zlib(data) else RAW)
        is_full = False
        while data or is_full:
            if self._decoder.eof:  # gzip may have several members, one after the other
                self._decoder = self._another()
            try:
                piece = self._decoder.decompress(data, PIECE)
            except zlib.error as error:
                raise errors.MalformedJson(f"the body is not {self._name}: {error}") from error
            yield piece
            is_full = len(piece) == PIECE and not self._decoder.eof  # more may be inside, of no further bytes
            data = self._decoder.unconsumed_tail or self._decoder.unused_data

    def _another(self) -> "zlib._Decompress":
        if self._name != "gzip":
            raise errors.MalformedJson(f"bytes follow the end of the {self._name} body")
        return zlib.decompressobj(GZIP)

    def check_end(self) -> None:
        """Raise MalformedJson if more was to come."""
        if self._decoder is None or not self._decoder.eof:
            raise errors.MalformedJson(f"the body ends before its {self._name} does")


def _is_zlib(head: bytes) -> bool:
    """Tell whether a zlib header (RFC 1950 §2.2) stands at the beginning."""
    return head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
