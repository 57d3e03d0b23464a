"""Request bodies: bytes to what is asked, every fault with its reason and place.

What is small is read at once. What is large is looked over first (`outline`) and its items are read one by
one, in turns with other requests.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar, get_args

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Asked, Call, Task
from seqserve.service.edge.bytes_in_flight import BytesInFlight, Held
from seqserve.service.errors import Violation
from seqserve.service.rest.codings import coding, decoded
from seqserve.service.rest.exchange import WHOLE
from seqserve.service.rest.outline import MOST_MEMBERS, Bounds, Marks, listed, look, outline

SMALL = 64 * 1024
"""Bytes of a body that is read at once: a millisecond or two, whatever is in them."""
MOST_FAULTS = 20
"""How many faults are listed."""
MARK = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8, which some write before JSON."""
OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")
CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s;"]*)', re.IGNORECASE)
CHARSETS = ("utf-8", "utf8", "us-ascii")
JSON = "application/json"
Read = TypeVar("Read")
Kind = TypeVar("Kind", bound=Body)
Form = Callable[[Request, Bounds, Callable[[int], None]], Awaitable[Read]]
"""Reads a body, of so much at most; it is handed what is told how many bytes come of what came compressed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A body that is a JSON object, and of a large one the list of its items apart.

    Args:
        table: the object; where the list stands apart, it has none of that name.
        member: the name of the list.
        items: each is read again whenever it is asked for; None: they stand in `table`.
    """

    table: dict[str, Any]
    member: str
    items: Sequence[Any] | None = None


class Bodies:
    """Reads bodies, for the handlers of every surface.

    Args:
        in_flight: counts what compressed bodies become, beside what came of them.
    """

    def __init__(self, in_flight: BytesInFlight, bounds: Bounds) -> None:
        self._in_flight = in_flight
        self._bounds = bounds

    def read(
        self,
        request: Request,
        call: Call,
        form: Form[Read],
    ) -> AbstractAsyncContextManager[Read]:
        """Read a body within the call's deadline: a context, in which its bytes are held.

        Args:
            form: reads it; see `read_asked`.

        Raises:
            DeadlineExceeded; what `form` raises.
        """
        # what has come whole is no more than a connection takes at once: a timer would cost more
        deadline = None if request.scope.get(WHOLE) else call.deadline
        held = self._in_flight.hold()
        return _Reading(held, deadline, partial(form, request, self._bounds, held.add))


class _Reading(Generic[Read]):
    """A body that is read, and then held.

    Args:
        deadline: None: it is read at once.
    """

    __slots__ = ("_deadline", "_held", "_read")

    def __init__(self, held: Held, deadline: float | None, read: Callable[[], Awaitable[Read]]) -> None:
        self._held = held
        self._deadline = deadline
        self._read = read

    async def __aenter__(self) -> Read:
        try:
            if self._deadline is None:
                return await self._read()
            async with asyncio.timeout_at(self._deadline):
                return await self._read()
        except BaseException as error:
            self._held.release()
            if isinstance(error, TimeoutError):
                raise errors.DeadlineExceeded("the deadline passed before the body had come") from None
            raise

    async def __aexit__(self, *_: object) -> None:
        self._held.release()


async def read_asked(task: Task, request: Request, bounds: Bounds, became: Callable[[int], None]) -> Asked:
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
    return await asked_of(await read_parts(request, (task.body_member,), bounds, became), task, bounds)


async def read_parts(
    request: Request,
    members: Sequence[str],
    bounds: Bounds,
    became: Callable[[int], None],
    kinds: Sequence[str] | None = (JSON,),
) -> Parts:
    """Read a body's JSON.

    Args:
        members: those that may be the list of items; the first that is there is.
        kinds: see `read_body`.

    Raises:
        UnsupportedMediaType, BodyTooLarge, TooManyItems, MalformedJson: see `read_asked`.
    """
    return await parts_of(await read_body(request, bounds.data, became, kinds), members, bounds)


async def parts_of(data: bytes, members: Sequence[str], bounds: Bounds) -> Parts:
    """Return JSON in parts; see `read_parts`.

    Raises:
        BodyTooLarge, TooManyItems, MalformedJson: see `read_asked`.
    """
    if b"\0" in data[:4] or data.startswith(OTHER_MARKS):  # which no JSON in UTF-8 has
        raise errors.MalformedJson("the body looks like UTF-16 or UTF-32; JSON in UTF-8 is wanted")
    data = data.removeprefix(MARK)
    if len(data) <= SMALL:
        table = _table(data)
        return Parts(table, next((member for member in members if member in table), members[0]))
    marks = await _looked_over(data, members[0], bounds)
    member = listed(data, marks, members)
    found = outline(data, marks, member, bounds)
    table = _table(found.rest)
    if found.items is not None and table.pop(member, None) is not None:
        raise errors.MalformedJson(f"{member} comes twice")
    return Parts(table, member, found.items)


async def read_small(
    kind: type[Kind],
    limit: int,
    setting: str,
    request: Request,
    _: Bounds,
    became: Callable[[int], None],
) -> Kind:
    """Read a small body of a kind, at once.

    Args:
        limit: bytes, decompressed, that `setting` allows.

    Raises:
        UnsupportedMediaType, BodyTooLarge, MalformedJson: see `read_asked`.
    """
    try:
        data = await read_body(request, limit, became)
    except errors.BodyTooLarge as error:
        raise errors.BodyTooLarge(error.message, limit=setting) from None
    return checked(_table(data.removeprefix(MARK)), kind)


def has_body(request: Request) -> bool:
    """Tell whether a request comes with a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in request.scope["headers"]
    )


async def read_body(
    request: Request, limit: int, became: Callable[[int], None], kinds: Sequence[str] | None = (JSON,)
) -> bytes:
    """Read a body, decompressed.

    Args:
        kinds: the Content-Types that are wanted, the usual one first; None: whatever it is.

    Raises:
        UnsupportedMediaType, BodyTooLarge: see `read_asked`.
    """
    headers = {name: value.decode("latin-1") for name, value in reversed(request.scope["headers"])}
    if kinds is not None:
        check_type(headers.get(b"content-type", ""), kinds)
    name = coding(headers[b"content-encoding"]) if b"content-encoding" in headers else None
    declared = headers.get(b"content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        message = f"the body has {declared} bytes, more than the limit of {limit}"
        raise errors.BodyTooLarge(message, limit="max_message_bytes")
    if name is None:
        return await _as_it_comes(request, limit)
    return await _gathered(decoded(request.stream(), name), limit, became)


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


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        message = f"the body has more bytes than the limit of {limit}"
        raise errors.BodyTooLarge(message, limit="max_message_bytes")


def media_type(given: str) -> str:
    """Return a Content-Type without its parameters."""
    return given.partition(";")[0].strip().lower()


def check_type(given: str, kinds: Sequence[str] = (JSON,)) -> None:
    """Raise UnsupportedMediaType where a Content-Type is none that is wanted, or is not in UTF-8."""
    if media_type(given) not in kinds:
        raise errors.UnsupportedMediaType(f"Content-Type is {given[:60]!r}; {kinds[0]} is wanted")
    charset = CHARSET.search(given)
    if charset is not None and charset[1].lower() not in CHARSETS:
        raise errors.UnsupportedMediaType(f"the charset is {charset[1][:60]!r}; UTF-8 is wanted")


def _table(data: bytes) -> dict[str, Any]:
    table = loaded(partial(orjson.loads, data), "the body")
    if not isinstance(table, dict):
        raise errors.MalformedJson("the body is not a JSON object")
    for part in (table, *table.values()):
        if isinstance(part, dict) and len(part) > MOST_MEMBERS:
            raise errors.MalformedJson(f"an object has {len(part)} members, more than {MOST_MEMBERS}")
    return table


def loaded(load: Callable[[], Any], name: str) -> Any:
    """Return what is loaded from JSON; raises MalformedJson, which names it."""
    try:
        return load()
    except orjson.JSONDecodeError as error:
        raise errors.MalformedJson(f"{name} is not JSON: {error}") from error


async def asked_of(parts: Parts, task: Task, bounds: Bounds, *, is_whole: bool = False) -> Asked:
    """Return what a task is asked by a body of its own form.

    Raises:
        MalformedJson: an item of a large body is of the wrong type.
    """
    if parts.items is None:  # as small as the rest of others, and perhaps wrong
        return _asked_of(parts.table, task, is_whole)
    if len(parts.items) <= bounds.items:
        await _check_items(parts.items, task)
    return Asked(len(parts.items), partial(_with_items, parts.table, task, parts.items), is_whole)


def _asked_of(table: dict[str, Any], task: Task, is_whole: bool) -> Asked:
    items = table.get(task.body_member)
    count = len(items) if isinstance(items, list) else 0
    return Asked(count, partial(checked, table, task.body), is_whole)


async def _looked_over(data: bytes, member: str, bounds: Bounds) -> Marks:
    turn = Turn()
    for marks in look(data, member, bounds):
        if marks is not None:
            return marks
        if turn.is_over():
            await turn.end()
    raise AssertionError("the marks come last")


async def _check_items(items: Sequence[Any], task: Task) -> None:
    """Raise MalformedJson at the first item that is not JSON, or of the wrong type."""
    turn, kind = Turn(), _item_kind(task.body, task.body_member)
    for place in range(len(items)):
        item = loaded(partial(items.__getitem__, place), f"{task.body_member}[{place}]")
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


def _with_items(table: dict[str, Any], task: Task, items: Sequence[Any]) -> Body:
    return checked({**table, task.body_member: []}, task.body).model_copy(update={task.body_member: items})


def checked(table: dict[str, Any], kind: type[Kind]) -> Kind:
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
