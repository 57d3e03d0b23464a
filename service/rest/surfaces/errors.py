"""The form of errors that LibreTranslate, TensorFlow Serving and the Open Inference Protocol share."""

from typing import Any

import orjson
from starlette.responses import Response

from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID
from seqserve.service.rest.bodies import JSON
from seqserve.service.rest.problems import headers_of
from seqserve.service.status import http_status

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "reason", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "names the field, the limit and the value"},
        "reason": {"type": "string", "description": "stable, UPPER_SNAKE; see docs/errors.md"},
        "request_id": {"type": "string"},
    },
}


def error_object(error: SeqserveError) -> Response:
    """Return an error as `{"error": message}`, with the reason and the request's id beside it."""
    body = {"error": error.message, "reason": error.reason, "request_id": REQUEST_ID.get()}
    return Response(orjson.dumps(body), http_status(error), headers_of(error), JSON)
