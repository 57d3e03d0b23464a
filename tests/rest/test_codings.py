"""Compressed bodies: whatever came compressed is what was sent, within bounds."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.rest.codings import PIECE, coding, decoded


def raw(data: bytes) -> bytes:
    """Compress without any header, as some clients understand `deflate`."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    """Compress by gzip in two members."""
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


FORMS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("gzip", members),
    ("deflate", zlib.compress),
    ("deflate", raw),
]


async def parts_of(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    """Yield data cut at these places."""
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        yield data[start:end]


def unpacked(name: str, data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the pieces that come of it."""

    async def pieces() -> list[bytes]:
        return [piece async for piece in decoded(parts_of(data, cuts), name)]

    return asyncio.run(pieces())


@given(
    data=st.binary() | st.binary(min_size=1).map(lambda some: some * 5_000),
    cuts=st.lists(st.integers(0, 2**20), max_size=3),
    form=st.sampled_from(FORMS),
    short=st.integers(0, 8),
)
def test_what_was_sent_comes_out(
    data: bytes, cuts: list[int], form: tuple[str, Callable[[bytes], bytes]], short: int
) -> None:
    """However it comes, in pieces that are small; and what is not whole is refused."""
    name, pack = form
    packed = pack(data)
    pieces = unpacked(name, packed, cuts)
    assert b"".join(pieces) == data
    assert max(map(len, pieces), default=0) <= PIECE
    if short:
        with pytest.raises(errors.MalformedJson, match=name):
            unpacked(name, packed[:-short], cuts)


def test_the_end_comes_out_where_a_piece_is_full_before_it() -> None:
    """What a decoder still has of bytes that it took: of the raw form none follow to push it out."""
    for size in range(PIECE, PIECE + 300):
        data = b"x" * size
        assert b"".join(unpacked("deflate", raw(data), [])) == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gzip", b'{"texts": []}'),
        ("gzip", zlib.compress(b"{}")),
        ("deflate", b"\x78\x9cnothing"),
        ("deflate", b""),
    ],
)
def test_what_is_not_of_the_coding(name: str, data: bytes) -> None:
    with pytest.raises(errors.MalformedJson, match=name):
        unpacked(name, data, [])


def test_a_bomb_is_unpacked_no_further_than_is_asked_for() -> None:
    """64 MiB in 64 KiB: who stops reading has had a piece more at most."""

    async def stops_after(count: int) -> int:
        had = 0
        async for piece in decoded(parts_of(bomb, []), "deflate"):
            had += len(piece)
            if had > count:
                break
        return had

    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    assert len(bomb) < 2**17
    assert asyncio.run(stops_after(2**20)) <= 2**20 + PIECE


@pytest.mark.parametrize(
    ("header", "name"),
    [("", None), ("identity", None), ("GZip", "gzip"), ("x-gzip", "gzip"), ("identity, deflate", "deflate")],
)
def test_codings_that_are_read(header: str, name: str | None) -> None:
    assert coding(header) == name


@pytest.mark.parametrize("header", ["zstd", "br", "gzip, gzip", "gzip, deflate", "gzip; q=1"])
def test_codings_that_are_not(header: str) -> None:
    with pytest.raises(errors.UnsupportedMediaType, match=header.replace("q=1", "")) as caught:
        coding(header)
    assert caught.value.encodings == ("gzip", "deflate")
