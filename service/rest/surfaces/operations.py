"""What `/openapi.json` says of routes of surfaces: plain objects in and out, errors as they show them."""

from collections.abc import Mapping
from typing import Any

from seqserve.service.rest.openapi import HEADERS, Operation
from seqserve.service.rest.surfaces.errors import SCHEMA

Schema = Mapping[str, Any]


def operation(
    tag: str, name: str, summary: str, body: Schema | None = None, answer: Schema | None = None, *types: str
) -> Operation:
    """Return an operation of a surface.

    Args:
        tag: the surface.
        body: the schema of what is sent, if anything is.
        answer: likewise, of what comes back.
        types: of the body, beside JSON.
    """
    fault = {"description": "Error", "content": {"application/json": {"schema": SCHEMA}}}
    responses = {
        "200": {
            "description": "Answered.",
            "content": {"application/json": {"schema": answer or {"type": "object"}}},
        },
        "default": fault,
    }
    members: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "description": f"{summary}. docs/surfaces.md says which field goes where.",
        "responses": responses,
        "parameters": HEADERS,
    }
    if body is not None:
        content = {kind: {"schema": body} for kind in ("application/json", *types)}
        members["requestBody"] = {"required": True, "content": content}
    return Operation(name, members)
