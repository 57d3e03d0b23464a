"""Request bodies: bytes to a checked pydantic body, every fault with its reason and place."""

import orjson
from fastapi import Request
from pydantic import ValidationError
from typing_extensions import TypeVar

from service import errors
from service.contract.items import Body
from service.errors import Violation

Kind = TypeVar("Kind", bound=Body)
MOST_FAULTS = 20
"""Faults that are listed: a body of a million wrong members gets no longer answer."""


async def read_body(request: Request, kind: type[Kind], limit: int) -> Kind:
    """Read a JSON body as `kind`.

    Raises:
        UnsupportedMediaType: the Content-Type is not application/json.
        BodyTooLarge: more than `limit` bytes, told before they are read where the length is declared.
        MalformedJson: not JSON (NaN, Infinity, numbers beyond a double and lone surrogates are not), or
            a member is unknown, missing or of the wrong type.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise errors.UnsupportedMediaType(f"Content-Type is {given[:60]!r}; application/json is wanted")
    data = await _read(request, limit)
    try:
        return kind.model_validate(orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise errors.MalformedJson(f"the body is not JSON: {error}") from error
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
        Violation(tuple(fault["loc"]), fault["msg"], errors.MalformedJson.reason)
        for fault in error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
    )
    first = faults[0]
    where = ".".join(map(str, first.path)) or "the body"
    return errors.MalformedJson(f"{where}: {first.message}", violations=faults)
