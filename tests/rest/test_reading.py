"""Bodies, small and large: what is asked, or what is wrong; and whoever else calls is not kept waiting."""

import asyncio
import codecs
import gc
import gzip
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, strategies as st
from starlette.requests import Request

from seqserve.service import errors
from seqserve.service.core.tasks import SEQUENCE, TRANSLATION
from seqserve.service.core.types import Asked, Task
from seqserve.service.rest import bodies, outline
from seqserve.service.rest.bodies import read_asked
from seqserve.service.rest.outline import Bounds

BOUNDS = Bounds(data=16 * 2**20, marks=2_500_000, items=1024)
JSON = "application/json"


async def read(
    data: bytes,
    task: Task = TRANSLATION,
    bounds: Bounds = BOUNDS,
    became: Callable[[int], None] = lambda count: None,
    content_type: str = JSON,
    **headers: str,
) -> Asked:
    """Read a body that comes at once."""
    given = {
        "content-type": content_type,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    scope = {"type": "http", "headers": [(n.encode(), v.encode()) for n, v in given.items()]}
    left = [{"type": "http.request", "body": data}]

    async def receive() -> dict[str, Any]:
        return left.pop()

    return await read_asked(task, Request(scope, receive), bounds, became)


def at_once(reading: Coroutine[Any, Any, Asked]) -> Asked:
    """Return what a coroutine does that waits for nothing but its next turn: no loop has to be made."""
    try:
        while True:
            reading.send(None)
    except StopIteration as end:
        asked: Asked = end.value
        return asked


# --- a large body is read as a small one is ---------------------------------------------------------

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(0, 1)
    | st.text('a"\\[]{},: \u00e9\n', max_size=6)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)
)
MEMBERS = st.sampled_from(["texts", "sequences", "top_k", "beam_size", 'te"xts', "\\"])
ITEMS = st.lists(st.text('a"\\[,') | st.dictionaries(st.text('x"', max_size=2), VALUES) | VALUES, max_size=4)
OBJECTS = st.dictionaries(MEMBERS, VALUES | st.integers(1, 3) | ITEMS, max_size=3) | st.fixed_dictionaries(
    {}, optional={"texts": st.lists(st.text('a"\\[,'), max_size=4), "beam_size": st.integers(1, 3)}
)
WRITERS = st.sampled_from([json.dumps, lambda some: json.dumps(some, indent=1, ensure_ascii=False)])


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """Draw a body: JSON, or nearly, some of it twice."""
    data: bytes = draw(WRITERS)(draw(OBJECTS | VALUES)).encode()
    if draw(st.booleans()):  # members that come twice
        data = data[:-1] + b"," + draw(WRITERS)(draw(OBJECTS)).encode()[1:]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from([b"", b'"', b"\\", b"[", b"]", b"}", b","])) + data[at + 1 :]
    return data


@dataclass(frozen=True, slots=True)
class Read:
    """What came of a body: its items and the other members, or why it was refused."""

    items: list[Any]
    others: dict[str, Any]
    reason: str = ""


def outcome(data: bytes, task: Task, small: int) -> Read:
    """Read a body, as a large one where it has more than `small` bytes."""
    with patch.object(bodies, "SMALL", small):
        try:
            body = at_once(read(data, task)).convert()
        except errors.SeqserveError as error:
            return Read([], {}, error.reason)
    others = {name: value for name, value in body if name != task.body_member}
    return Read(list(getattr(body, task.body_member)), others)


@given(data=written(), task=st.sampled_from([TRANSLATION, SEQUENCE]), piece=st.integers(2, 40))
def test_a_large_body_is_read_as_a_small_one_is(data: bytes, task: Task, piece: int) -> None:
    """Whatever is in it, and wherever it is cut to be looked at."""
    with patch.object(outline, "PIECE", piece):
        assert outcome(data, task, small=-1) == outcome(data, task, small=len(data))


async def test_items_are_read_when_they_are_asked_for() -> None:
    """Not all at once: a large list of numbers takes no more memory than its bytes."""
    sequences = [{"x": [[0.5, 1, 2]] * 200}] * 300
    asked = await read(json.dumps({"top_k": 2, "sequences": sequences}).encode(), SEQUENCE)
    body: Any = asked.convert()
    assert (asked.count, body.top_k) == (300, 2)
    assert isinstance(body.sequences, outline.Items)
    assert list(body.sequences) == sequences


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(b"7", "texts.2: "), (b'"\xff"', r"texts\[2\] is not JSON"), (b"", r"texts\[2\] is not JSON")],
)
async def test_the_item_at_fault_is_named(wrong: bytes, told: str) -> None:
    long = b'"%s"' % (b"x" * 70_000)
    with pytest.raises(errors.MalformedJson, match=told):
        await read(b'{"texts": [%s, "", %s]}' % (long, wrong))


# --- bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "bounds", "told"),
    [
        (
            b'{"texts": [' + b"[]," * 40_000 + b"[]]}",
            Bounds(2**20, 50_000, 1024),
            "than the 50000 that SEQSERVE_MAX_JSON",
        ),
        (
            b'{"texts": ["", [' + b"[]," * 40_000 + b"[]]]}",
            Bounds(2**20, 200_000, 1024),
            r"texts\[1\] has .* 8000: ",
        ),
        (
            b'{"texts": ["", "' + b"x" * 90_000 + b'"]}',
            Bounds(2**18, 50_000, 1024),
            r"texts\[1\] has .* bytes.* 65536: ",
        ),
        (
            b'{"texts": [], "heads": "' + b"x" * 90_000 + b'"}',
            Bounds(2**18, 50_000, 1024),
            "without texts has .* 65536: ",
        ),
        (
            b'{"texts": ["' + b"x" * 90_000 + b'"]}',
            Bounds(2**16, 50_000, 1024),
            "more bytes than the limit of 65536",
        ),
    ],
)
async def test_what_is_too_large_is_named(data: bytes, bounds: Bounds, told: str) -> None:
    """The body, an item, or what is none: with the limit, and the setting that it is of."""
    with pytest.raises(errors.BodyTooLarge, match=told):
        await read(data, bounds=bounds)
    assert (
        await read(b'{"texts": ["' + b"[{,:" * 15_000 + b'"]}', bounds=Bounds(2**20, 50, 1024))
    ).count == 1


async def test_what_a_compressed_body_becomes_is_bounded() -> None:
    packed = gzip.compress(b'{"texts": ["' + b"x" * 2**20)
    with pytest.raises(errors.BodyTooLarge, match="more bytes than the limit of 1000"):
        await read(packed, bounds=Bounds(1000, 1000, 1024), content_encoding="gzip", content_length="900")
    became: list[int] = []
    await read(gzip.compress(TEXT.encode()), became=became.append, content_encoding="gzip")
    assert sum(became) == len(TEXT.encode())


async def test_what_compressed_bodies_become_is_held_until_they_are_answered(start: Any) -> None:
    """And refused past the limit on all of them, of which nothing is left afterwards."""
    door = await start(body_bytes_in_flight=200_000)
    url, headers = "/v1/models/totals:predict", {"Content-Encoding": "gzip", "Content-Type": JSON}
    for blanks, status in ((250_000, 429), (150_000, 200), (150_000, 200), (250_000, 429)):
        packed = gzip.compress(b'{"sequences": [{"x": [1]}]' + b" " * blanks + b"}")
        answer = await door.client.post(url, content=packed, headers=headers)
        assert answer.status_code == status


# --- the bytes round the JSON ---------------------------------------------------------------------------

TEXT = '{"texts": ["Grüße"]}'


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (TEXT.encode(), JSON),
        (codecs.BOM_UTF8 + TEXT.encode(), JSON),
        (TEXT.encode(), "Application/JSON; charset=utf-8"),
        (TEXT.encode(), 'application/json;charset="UTF-8"; profile=x'),
    ],
)
async def test_utf8_however_it_is_announced(data: bytes, content_type: str) -> None:
    body: Any = (await read(data, content_type=content_type)).convert()
    assert body.texts == ["Grüße"]


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
async def test_another_unicode_is_told_what_is_wanted(name: str) -> None:
    with pytest.raises(errors.MalformedJson, match="UTF-8 is wanted"):
        await read(TEXT.encode(name))


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=iso-8859-1", "application/json;charset=utf-16"]
)
async def test_another_charset_is_named(content_type: str) -> None:
    with pytest.raises(
        errors.UnsupportedMediaType, match=r"charset is '(iso-8859-1|utf-16)'.*UTF-8 is wanted"
    ):
        await read(TEXT.encode(), content_type=content_type)


# --- nobody else waits ------------------------------------------------------------------------------------

M16 = 16 * 2**20 - 100
ROW = b"[0.125,1.5,2.25,3.5,4.75,5,6,7],"
LARGE = {
    "5 million texts": b'{"texts": [' + b'"",' * (M16 // 3) + b'""]}',
    "12,000 texts": b'{"texts": [' + b'"some words",' * 12_000 + b'""]}',
    "5 million lists": b'{"sequences": [' + b"[]," * (M16 // 3) + b"[]]}",
    "lists in an item": b'{"sequences": [{"x": [' + b"[]," * 33_000 + b"[]]}]}",
    "a million features": b'{"sequences": [{' + b",".join(b'"%d":[]' % n for n in range(1_000_000)) + b"}]}",
    "a million members": b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}",
    "numbers that are hard to read": b'{"sequences": [{"x": ['
    + b"2.4703282292062327208e-324," * 99_000
    + b"0]}]}",
    "a text of 4 MB": b'{"texts": ["' + b'\\"' * (2**21 - 10) + b'"]}',
    "1,024 texts": b'{"texts": [' + b",".join([b'"%s"' % (b"some words, " * 1_300)] * 1_000) + b"]}",
    "1.6 million numbers": b'{"sequences": ['
    + b",".join([b'{"x": [%s]}' % (ROW * 200)[:-1]] * 1_024)
    + b"]}",
}


@contextmanager
def longest_steps() -> Iterator[list[float]]:
    """Measure each step of the event loop, by the processor's time: other processes do not count."""
    steps: list[float] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - began)

    with patch.object(asyncio.Handle, "_run", timed):
        yield steps


@pytest.mark.parametrize("name", LARGE)
def test_no_body_keeps_others_waiting(name: str) -> None:
    """Read as a callers' body is, and each item again as it is when it is encoded."""
    data = LARGE[name]
    task = TRANSLATION if b'"texts"' in data[:20] else SEQUENCE

    async def served() -> None:
        try:
            asked = await read(data, task)
        except errors.SeqserveError:
            return
        items = getattr(asked.convert(), task.body_member)
        for place in range(len(items)):
            items[place]
            await asyncio.sleep(0)

    gc.collect()
    gc.freeze()  # as the service does: else a full collection walks all that the tests have made
    with longest_steps() as steps:
        asyncio.run(served())
    gc.unfreeze()
    assert max(steps) < 0.05


@pytest.mark.parametrize("wrong", [b'{"x": [[1]]}', b'{"y": [1]}', b'{"x": ["a"]}', b'{"x": [1]}'])
async def test_nothing_of_a_large_body_outlives_its_answer(start: Any, wrong: bytes) -> None:
    """Not in a cycle of errors and the frames they came through, which would stay until it is looked for."""
    door = await start()
    content = b'{"sequences": [%s]}' % b",".join([wrong] * 500)
    gc.collect()
    gc.disable()
    try:
        await door.client.post(
            "/v1/models/totals:predict",
            content=content[:-1] + b" " * 70_000 + b"}",
            headers={"Content-Type": JSON},
        )
        assert [one for one in gc.get_objects() if isinstance(one, outline.Items)] == []
    finally:
        gc.enable()
