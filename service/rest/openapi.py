"""What `/openapi.json` says of each route: bodies, answers, problems, with examples; made from the tables."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from seqserve.service import errors
from seqserve.service.contract.items import AppendBody, FailedItem, Prediction
from seqserve.service.core.tasks import Tasks
from seqserve.service.core.types import Task
from seqserve.service.rest.accept import EVENTS, LINES
from seqserve.service.rest.problems import MEDIA_TYPE, SCHEMA
from seqserve.service.status import http_status

TITLE = "seqserve"
VERSION = version("seqserve")
DESCRIPTION = (
    "Trained sequence models: text and events in; text, labels and values out. "
    "A list in gives a list of the same length and order out; an item that fails carries its `error` and "
    "harms no other. Every error has a stable `reason`. Headers: `X-Request-Id`, `Grpc-Timeout` (as `500m`)."
)
REF = "#/components/schemas/"
SERVERS = [{"url": ".", "description": "where this page lies, whatever path a proxy shows it at"}]
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "an API key, or a token (JWT)"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "an API key"},
}
IN_PATHS = {
    "model": {"description": "the model's name", "schema": {"type": "string"}},
    "version": {"description": "the number of one of its versions", "schema": {"type": "integer"}},
    "session": {"description": "the session's id", "schema": {"type": "string"}},
    "label": {"description": "a label that stands for one of its versions", "schema": {"type": "string"}},
}
HEADERS = [
    {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("X-Request-Id", "echoed in the response and in the log; made if absent"),
        ("Grpc-Timeout", "how long the answer is worth having, as 500m or 2S"),
    )
]


ORDER = {
    "name": "order",
    "in": "query",
    "schema": {"enum": ["index", "finished"], "default": "index"},
    "description": "which answers are sent first where they are sent as they come: in the order of what was "
    "sent, or as they are ready",
}
ANYWHERE = (400, 408, 431, 503)
"""Statuses that any path may answer with; the others below, those that ask a model or tell of it."""
ABOUT_MODELS = (*ANYWHERE, 401, 403, 404, 429)
ASKING = (*ABOUT_MODELS, 413, 415, 500, 504)
TOLD = (*ASKING, 409)
SECONDS = {"schema": {"type": "integer"}, "description": "seconds after which to try again"}
HEADERS_OF: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "how to say who calls"}},
    415: {"Accept-Encoding": {"schema": {"type": "string"}, "description": "encodings that are read"}},
    429: {"Retry-After": SECONDS},
    503: {"Retry-After": SECONDS},
}


MODEL = {
    "type": "object",
    "description": "who answered",
    "properties": {"name": {"type": "string"}, "version": {"type": "integer"}, "digest": {"type": "string"}},
}
SESSION_REF, PREDICTION_REF = {"$ref": f"{REF}Session"}, {"$ref": f"{REF}Prediction"}
SESSIONS: dict[str, Any] = {
    "Session": {
        "type": "object",
        "required": ["id", "model", "next_event", "expires"],
        "properties": {
            "id": {"type": "string"},
            "model": MODEL,
            "next_event": {"type": "integer", "description": "how many events there have been"},
            "expires": {
                "type": "string",
                "format": "date-time",
                "description": "when it may be forgotten, unless something is appended before",
            },
        },
    },
    "SessionAnswer": {"type": "object", "required": ["session"], "properties": {"session": SESSION_REF}},
    "AppendAnswer": {
        "type": "object",
        "required": ["session", "prediction"],
        "properties": {"session": SESSION_REF, "prediction": PREDICTION_REF},
    },
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of a route.

    Args:
        name: what the operation's id begins with.
        members: of the OpenAPI operation, but for its id and what is in its path.
    """

    name: str
    members: Mapping[str, Any]


def _operation(
    name: str, tag: str, summary: str, description: str, responses: dict[str, Any], **others: Any
) -> Operation:
    members = {"tags": [tag], "summary": summary, "description": description, "responses": responses}
    return Operation(name, members | others)


def _answer(schema: str | None, description: str, statuses: Iterable[int] = ANYWHERE) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF + schema} if schema else {"type": "object"}}}
    return {"200": {"description": description, "content": content}, **_problems(statuses)}


def _problems(statuses: Iterable[int]) -> dict[str, Any]:
    told = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    return {**told, "default": _problem("Problem")}


def _problem(description: str, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}}}
    return {"description": description, "content": content, **({"headers": headers} if headers else {})}


def responses() -> dict[str, Any]:
    """Return each status that is not 200, with its reasons, from the tables of errors and statuses."""
    reasons: dict[int, list[str]] = {}
    for kind in errors.leaves():
        reasons.setdefault(http_status(kind("")), []).append(kind.reason)
    return {
        str(status): _problem(
            f"{HTTPStatus(status).phrase}: {', '.join(reasons[status])}", HEADERS_OF.get(status)
        )
        for status in TOLD
    }


def asking(task: Task) -> Operation:
    """Return the operation that a task is asked by."""
    media = {"schema": {"$ref": REF + task.body.__name__}, "example": dict(task.example)}
    answer = _answer(_answer_name(task), "One entry for each that was sent, in order.", ASKING)
    answer["200"]["content"] |= _streams(task)
    return _operation(
        task.verb,
        "answers",
        task.summary,
        f"{task.summary}. With `Accept: {LINES}` or `{EVENTS}` each answer is sent as it comes.",
        answer,
        requestBody={"required": True, "content": {"application/json": media}},
        parameters=[*HEADERS, ORDER],
    )


def _streams(task: Task) -> dict[str, Any]:
    """Return the further forms of an answer; OpenAPI 3.1 has no schema for a sequence of objects."""
    return {
        kind: {"schema": {"type": "string", "description": f"each {what} is a {_part_name(task)}"}}
        for kind, what in ((LINES, "line"), (EVENTS, "event's data"))
    }


def _about_sessions(
    name: str, summary: str, description: str, answer: str | None, said: str, **others: Any
) -> Operation:
    statuses = TOLD if others else (*ABOUT_MODELS, 504)
    answered = _answer(answer, said, statuses)
    return _operation(name, "sessions", summary, description, answered, parameters=HEADERS, **others)


CREATE_SESSION = _about_sessions(
    "create_session",
    "Make a session",
    "Make a live sequence of a model, before any event. With a version in the path it stays on that one, "
    "with a label it follows the label, without either it moves to each new version.",
    "SessionAnswer",
    "The session.",
)
APPEND = _about_sessions(
    "append",
    "Append events to a session",
    "Append events, all or none, and answer after the last of them as `:predict` does on the whole history. "
    "The same events at the same number have the same answer: an append may be sent again.",
    "AppendAnswer",
    "The session as it is now, and the prediction.",
    requestBody={
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": f"{REF}AppendBody"},
                "example": {"first_event": 0, "sequence": {"event": ["visit"], "minutes": [0]}, "top_k": 3},
            }
        },
    },
)
GET_SESSION = _about_sessions(
    "get_session", "Show a session", "Return a session as it is now.", "SessionAnswer", "The session."
)
DELETE_SESSION = _about_sessions(
    "delete_session", "Forget a session", "Forget a session.", None, "It is forgotten."
)
LIST_MODELS = _operation(
    "list_models",
    "models",
    "List models",
    "Return every model, with its versions and what it takes.",
    _answer(None, "All models.", ABOUT_MODELS),
)
GET_MODEL = _operation(
    "get_model",
    "models",
    "Show a model",
    "Return one model, with its versions and what it takes.",
    _answer(None, "One model.", ABOUT_MODELS),
)
HEALTHZ = _operation(
    "healthz",
    "health",
    "Is the process alive?",
    "Tell that the process is alive.",
    _answer(None, "Alive."),
    security=[],
)
READYZ = _operation(
    "readyz",
    "health",
    "Can it be called?",
    "Tell whether callers may be sent here; if not, why, with the models that are not ready.",
    _answer(None, "Ready.", (*ANYWHERE, 404)),
    security=[],
    parameters=[
        {
            "name": "model",
            "in": "query",
            "schema": {"type": "string"},
            "description": "ask for one model: can it be called now?",
        }
    ],
)
METRICS = _operation(
    "metrics",
    "health",
    "Metrics for Prometheus",
    "Return all metrics in Prometheus' text format.",
    {
        "200": {"description": "Text format.", "content": {"text/plain": {}}},
        **_problems((*ANYWHERE, 401, 403, 429)),
    },
)


def document(
    routes: Iterable[tuple[str, str, Operation]], tasks: Tasks, needs_key: bool = False
) -> dict[str, Any]:
    """Return the whole page.

    Args:
        routes: method, path and operation of each.
        needs_key: whether callers have to say who they are; else they may.
    """
    paths: dict[str, dict[str, Any]] = {}
    for method, path, operation in routes:
        paths.setdefault(path, {})[method.lower()] = _written(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "servers": SERVERS,
        "security": [*({name: []} for name in SCHEMES), *([] if needs_key else [{}])],
        "paths": paths,
        "components": {"schemas": schemas(tasks), "responses": responses(), "securitySchemes": SCHEMES},
    }


def _written(method: str, path: str, operation: Operation) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, **IN_PATHS[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    parameters = [*in_path, *operation.members.get("parameters", ())]
    written = {
        **operation.members,
        "operationId": re.sub(r"\W", "_", operation.name + path) + "_" + method.lower(),
    }
    return written | {"parameters": parameters} if parameters else written


def schemas(tasks: Tasks) -> dict[str, Any]:
    """Return the components that the operations refer to."""
    template = REF + "{model}"
    bodies = [(kind, "validation") for kind in (*(task.body for task in tasks.values()), AppendBody)]
    _, defined = models_json_schema(bodies, ref_template=template)  # type: ignore[arg-type]
    components: dict[str, Any] = dict(defined["$defs"])
    for kind in (*(task.item for task in tasks.values()), Prediction, FailedItem):
        schema = TypeAdapter(kind).json_schema(ref_template=template, mode="serialization")
        components |= {**schema.pop("$defs", {}), kind.__name__: schema}
    answers = {
        _answer_name(task): _list_of(task.answer_member, task.item.__name__) for task in tasks.values()
    }
    parts = {_part_name(task): _part_of(task.item.__name__) for task in tasks.values()}
    return {**components, **answers, **parts, **SESSIONS, "Problem": SCHEMA}


def _answer_name(task: Task) -> str:
    return f"{task.verb.capitalize()}Answer"


def _part_name(task: Task) -> str:
    return f"{task.verb.capitalize()}Part"


def _part_of(item: str) -> dict[str, Any]:
    """Return the schema of an object among those that are sent as they come."""
    place = {"properties": {"index": {"type": "integer", "description": "which item's, counted from 0"}}}
    count = {"type": "integer"}
    done = {"type": "object", "properties": {"items": count, "failed": count}}
    fault = {"type": "object", "description": "what ended it: code, reason and message"}
    return {
        "anyOf": [
            _with("model", MODEL, "the first"),
            {"allOf": [{"$ref": REF + item}, place], "required": ["index"]},
            {"allOf": [{"$ref": REF + "FailedItem"}, place], "required": ["index"]},
            _with("done", done, "the last: there is one for each item"),
            _with("error", fault, "the last, in place of `done`"),
        ]
    }


def _with(member: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": [member],
        "properties": {member: schema},
    }


def _list_of(member: str, item: str) -> dict[str, Any]:
    either = [{"$ref": REF + item}, {"$ref": REF + "FailedItem"}]
    items = {"type": "array", "items": {"anyOf": either}}
    return {"type": "object", "required": ["model", member], "properties": {"model": MODEL, member: items}}
