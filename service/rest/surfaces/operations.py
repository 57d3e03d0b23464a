"""What `/openapi.json` says of routes of surfaces: plain objects in and out, errors as they show them."""

from collections.abc import Mapping
from typing import Any

from seqserve.service.rest.bodies import JSON
from seqserve.service.rest.openapi import HEADERS, REF, Operation
from seqserve.service.rest.problems import MEDIA_TYPE
from seqserve.service.rest.surfaces.errors import SCHEMA

Schema = Mapping[str, Any]


def operation(
    tag: str,
    name: str,
    summary: str,
    body: Schema | None = None,
    answer: Schema | None = None,
    *,
    body_type: str = JSON,
    answer_type: str = JSON,
) -> Operation:
    """Return an operation of a surface.

    Args:
        tag: the surface.
        body: the schema of what is sent, if anything is.
        answer: likewise, of what comes back.
        body_type: of the body, where it need not be JSON.
        answer_type: likewise, of the answer.
    """
    # at paths that are ours too, what the edge refuses has our own form
    faults = {JSON: {"schema": SCHEMA}, MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}}}
    answers = {answer_type: {}, JSON: {"schema": answer or {"type": "object"}}}
    responses = {
        "200": {"description": "Answered.", "content": answers},
        "default": {"description": "Error", "content": faults},
    }
    members: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "description": f"{summary}. docs/surfaces.md says which field goes where.",
        "responses": responses,
        "parameters": HEADERS,
    }
    if body is not None:
        content = {kind: {"schema": body} for kind in (JSON, body_type)}
        members["requestBody"] = {"required": True, "content": content}
    return Operation(name, members)
