"""Every error as RFC 9457 `application/problem+json`: the only place where REST builds one."""

import math
from typing import Any

import orjson
from starlette.responses import Response

from seqserve.service.errors import (
    MethodNotAllowed,
    SeqserveError,
    Unauthenticated,
    UnsupportedMediaType,
    json_pointer,
)
from seqserve.service.logs import REQUEST_ID
from seqserve.service.status import http_status

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "urn:seqserve:reason:"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "required": ["type", "title", "status", "detail", "code", "reason", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "a URN that ends in the reason"},
        "title": {"type": "string", "description": "the reason in one sentence"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "names the field, the limit and the value"},
        "code": {"type": "string", "description": "name of the google.rpc.Code"},
        "reason": {"type": "string", "description": "stable, UPPER_SNAKE; see docs/errors.md"},
        "errors": {
            "type": "array",
            "description": "every fault with the place it stands at",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) as a fragment"},
                    "detail": {"type": "string"},
                    "reason": {"type": "string"},
                },
            },
        },
        "request_id": {"type": "string"},
    },
}


def problem(error: SeqserveError) -> Response:
    """Return an error as its response."""
    title = (type(error).__doc__ or error.reason).partition("\n")[0]
    body: dict[str, Any] = {
        "type": TYPE_BASE + error.reason.lower().replace("_", "-"),
        "title": title,
        "status": http_status(error),
        "detail": error.message,
        "code": error.code.value,
        "reason": error.reason,
        "request_id": REQUEST_ID.get(),
    }
    if error.violations:
        body["errors"] = [
            {"pointer": json_pointer(v.path), "detail": v.message, "reason": v.reason}
            for v in error.violations
        ]
    return Response(orjson.dumps(body), body["status"], headers_of(error), MEDIA_TYPE)


def headers_of(error: SeqserveError) -> dict[str, str]:
    """Return the headers that help a caller with an error."""
    if isinstance(error, MethodNotAllowed):
        return {"Allow": ", ".join(error.allowed)}
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="seqserve"'}
    if isinstance(error, UnsupportedMediaType) and error.encodings:
        return {"Accept-Encoding": ", ".join(error.encodings)}
    if http_status(error) not in (429, 503):
        return {}
    return {"Retry-After": str(math.ceil(error.retry_after or 1.0))}
