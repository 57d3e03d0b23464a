"""Request bodies: bytes to a checked pydantic body, every fault with its reason and place."""

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from typing_extensions import TypeVar

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.errors import Violation

Kind = TypeVar("Kind", bound=Body)
MOST_FAULTS = 20
"""How many faults are listed."""
MOST_MEMBERS = 50
"""Members that an object of a body may have, sequences aside: each unknown one takes time to report."""


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UnsupportedMediaType: the Content-Type is not application/json.
        BodyTooLarge: more than `limit` bytes; refused unread where the length is declared.
        MalformedJson: no JSON object (NaN, Infinity, numbers beyond a double and lone surrogates are not
            JSON), or one with more members than any request has.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise errors.UnsupportedMediaType(f"Content-Type is {given[:60]!r}; application/json is wanted")
    data = await _read(request, limit)
    try:
        table = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise errors.MalformedJson(f"the body is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise errors.MalformedJson("the body is not a JSON object")
    for part in (table, *table.values()):
        if isinstance(part, dict) and len(part) > MOST_MEMBERS:
            raise errors.MalformedJson(f"an object has {len(part)} members, more than {MOST_MEMBERS}")
    return table


def checked(table: dict[str, Any], kind: type[Kind]) -> Kind:
    """Check an object to be a body of `kind`.

    Raises:
        MalformedJson: a member is unknown, missing or of the wrong type; the first faults are listed.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _malformed(error) from error


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise errors.BodyTooLarge(f"the body has {declared} bytes, more than the limit of {limit}")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit:
            raise errors.BodyTooLarge(f"the body has more bytes than the limit of {limit}")
    return bytes(data)


def _malformed(error: ValidationError) -> errors.MalformedJson:
    faults = tuple(
        Violation(tuple(map(_shown, fault["loc"])), fault["msg"], errors.MalformedJson.reason)
        for fault in error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
    )
    first = faults[0]
    where = ".".join(map(str, first.path)) or "the body"
    return errors.MalformedJson(f"{where}: {first.message}", violations=faults)


def _shown(part: str | int) -> str | int:
    return part if isinstance(part, int) or len(part) <= 60 else part[:57] + "..."
