"""Request bodies: bytes to what is asked, every fault with its reason and place.

What is small is read at once. What is large is looked over first (`outline`) and its items are read one by
one, in turns with other requests.
"""

import re
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from typing import Any, TypeVar, get_args

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Asked, Task
from seqserve.service.errors import Violation
from seqserve.service.rest.codings import coding, decoded
from seqserve.service.rest.outline import MOST_MEMBERS, Bounds, Items, Marks, look, outline

B = TypeVar("B", bound=Body)
SMALL = 64 * 1024
"""Bytes of a body that is read at once: a millisecond or two, whatever is in them."""
MOST_FAULTS = 20
"""How many faults are listed."""
MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, which some write before JSON."""
OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")
CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s;"]*)', re.IGNORECASE)
CHARSETS = ("utf-8", "utf8", "us-ascii")


async def read_asked(request: Request, task: Task, bounds: Bounds, became: Callable[[int], None]) -> Asked:
    """Read what a task is asked.

    Args:
        became: is told how many bytes come of what came compressed; it may refuse them.

    Raises:
        UnsupportedMediaType: Content-Type, charset or Content-Encoding is none that is read.
        BodyTooLarge: more bytes or structural characters than `bounds`; refused unread where the length is
            declared.
        TooManyItems: far more than `bounds`; those that have a few more are counted.
        MalformedJson: no JSON object (NaN, Infinity, numbers beyond a double and lone surrogates are not
            JSON), one with more members than any request has, or of a large one an item of the wrong type.
    """
    data = await read_json(request, bounds.data, became)
    if len(data) > SMALL:
        return await _asked_of_large(data, task, bounds)
    return _asked_of(_table(data), task)


async def read_body(
    request: Request, kind: type[B], limit: int, setting: str, became: Callable[[int], None]
) -> B:
    """Read a small body of a kind.

    Args:
        limit: bytes, decompressed, that `setting` allows.
        became: see `read_asked`.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJson: see `read_asked`.
    """
    return _checked(_table(await read_json(request, limit, became, setting)), kind)


def has_body(request: Request) -> bool:
    """Tell whether a request comes with a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in request.scope["headers"]
    )


async def read_json(
    request: Request, limit: int, became: Callable[[int], None], setting: str = "max_message_bytes"
) -> bytes:
    """Read a body's JSON, decompressed, without a byte order mark.

    Args:
        setting: that the limit is of.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJson: see `read_asked`.
    """
    headers = {name: value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    _check_type(headers.get(b"content-type", ""))
    name = coding(headers[b"content-encoding"]) if b"content-encoding" in headers else None
    declared = headers.get(b"content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        message = f"the body has {declared} bytes, more than the limit of {limit}"
        raise errors.BodyTooLarge(message, limit=setting)
    try:
        if name is None:
            data = await _as_it_comes(request, limit)
        else:
            data = await _gathered(decoded(request.stream(), name), limit, became)
    except _TooLarge:
        message = f"the body has more bytes than the limit of {limit}"
        raise errors.BodyTooLarge(message, limit=setting) from None
    if b"\0" in data[:4] or data.startswith(OTHER_MARKS):  # which no JSON in UTF-8 has
        raise errors.MalformedJson("the body looks like UTF-16 or UTF-32; JSON in UTF-8 is wanted")
    return data.removeprefix(MARK)


async def _as_it_comes(request: Request, limit: int) -> bytes:
    """Do as `request.stream` does, whose turns cost a small body more than its bytes."""
    parts, size, is_whole = [], 0, False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size, is_whole = size + len(parts[-1]), not message.get("more_body", False)
        _check_size(size, limit)
    return b"".join(parts)


async def _gathered(parts: AsyncIterator[bytes], limit: int, became: Callable[[int], None]) -> bytes:
    data = bytearray()
    async for part in parts:
        data += part
        became(len(part))
        _check_size(len(data), limit)
    return bytes(data)


class _TooLarge(Exception):
    """More bytes came than may."""


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _TooLarge


def _check_type(given: str) -> None:
    if given.partition(";")[0].strip().lower() != "application/json":
        raise errors.UnsupportedMediaType(f"Content-Type is {given[:60]!r}; application/json is wanted")
    charset = CHARSET.search(given)
    if charset is not None and charset[1].lower() not in CHARSETS:
        raise errors.UnsupportedMediaType(f"the charset is {charset[1][:60]!r}; JSON in UTF-8 is wanted")


def _table(data: bytes) -> dict[str, Any]:
    table = _loaded(partial(orjson.loads, data), "the body")
    if not isinstance(table, dict):
        raise errors.MalformedJson("the body is not a JSON object")
    for part in (table, *table.values()):
        if isinstance(part, dict) and len(part) > MOST_MEMBERS:
            raise errors.MalformedJson(f"an object has {len(part)} members, more than {MOST_MEMBERS}")
    return table


def _loaded(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except orjson.JSONDecodeError as error:
        raise errors.MalformedJson(f"{name} is not JSON: {error}") from error


async def _asked_of_large(data: bytes, task: Task, bounds: Bounds) -> Asked:
    member = task.body_member
    found = outline(data, await _looked_over(data, member, bounds), member, bounds)
    table = _table(found.rest)
    if found.items is None:  # as small as the rest of others, and perhaps wrong
        return _asked_of(table, task)
    if table.get(member) is not None:
        raise errors.MalformedJson(f"{member} comes twice")
    if len(found.items) <= bounds.items:
        await _check_items(found.items, task)
    return Asked(len(found.items), partial(_with_items, table, task, found.items))


def _asked_of(table: dict[str, Any], task: Task) -> Asked:
    items = table.get(task.body_member)
    return Asked(len(items) if isinstance(items, list) else 0, partial(_checked, table, task.body))


async def _looked_over(data: bytes, member: str, bounds: Bounds) -> Marks:
    turn = Turn()
    for marks in look(data, member, bounds):
        if marks is not None:
            return marks
        if turn.is_over():
            await turn.end()
    raise AssertionError("the marks come last")


async def _check_items(items: Items, task: Task) -> None:
    """Raise MalformedJson at the first item that is not JSON, or of the wrong type."""
    turn, kind = Turn(), _item_kind(task.body, task.body_member)
    for place in range(len(items)):
        item = _loaded(partial(items.__getitem__, place), f"{task.body_member}[{place}]")
        if turn.is_over():
            await turn.end()
        try:
            kind.validate_python(item)
        except ValidationError as error:
            raise _malformed(error, task.body_member, place) from error


@cache
def _item_kind(body: type[Body], member: str) -> TypeAdapter[Any]:
    (kind,) = get_args(body.model_fields[member].annotation)
    return TypeAdapter(kind, config=ConfigDict(strict=True))


def _with_items(table: dict[str, Any], task: Task, items: Items) -> Body:
    return _checked({**table, task.body_member: []}, task.body).model_copy(update={task.body_member: items})


def _checked(table: dict[str, Any], kind: type[B]) -> B:
    """Check an object to be a body of `kind`.

    Raises:
        MalformedJson: a member is unknown, missing or of the wrong type; the first faults are listed.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _malformed(error) from error


def _malformed(error: ValidationError, *prefix: str | int) -> errors.MalformedJson:
    faults = tuple(
        Violation((*prefix, *map(_shown, fault["loc"])), fault["msg"], errors.MalformedJson.reason)
        for fault in error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
    )
    first = faults[0]
    where = ".".join(map(str, first.path)) or "the body"
    return errors.MalformedJson(f"{where}: {first.message}", violations=faults)


def _shown(part: str | int) -> str | int:
    return part if isinstance(part, int) or len(part) <= 60 else part[:57] + "..."
