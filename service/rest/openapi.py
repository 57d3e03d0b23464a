"""What `/docs` and `/openapi.json` say of each route: bodies, answers, problems, with examples."""

from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from seqserve.service.contract.items import FailedItem
from seqserve.service.core.tasks import Tasks
from seqserve.service.core.types import Task
from seqserve.service.rest.problems import MEDIA_TYPE, SCHEMA

VERSION = version("seqserve")
DESCRIPTION = (
    "Trained sequence models: text and events in; text, labels and values out. "
    "A list in gives a list of the same length and order out; an item that fails carries its `error` and "
    "harms no other. Every error has a stable `reason`. Headers: `X-Request-Id`, `Grpc-Timeout` (as `500m`)."
)
REF = "#/components/schemas/"
PROBLEM = {"description": "Problem", "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}}}}


def _answer(schema: str | None, description: str) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": REF + schema} if schema else {"type": "object"}}}
    return {200: {"description": description, "content": content}, "default": PROBLEM}


def asking(task: Task) -> dict[str, Any]:
    """Return what is said of the calls of a task."""
    media = {"schema": {"$ref": REF + task.body.__name__}, "example": dict(task.example)}
    request = {"required": True, "content": {"application/json": media}}
    parameters = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in (
            ("X-Request-Id", "echoed in the response and in the log; made if absent"),
            ("Grpc-Timeout", "how long the answer is worth having, as 500m or 2S"),
        )
    ]
    return {
        "name": task.verb,
        "summary": task.summary,
        "description": f"{task.summary}.",
        "tags": ["answers"],
        "responses": _answer(_answer_name(task), "One entry for each that was sent, in order."),
        "openapi_extra": {"requestBody": request, "parameters": parameters},
    }


LIST_MODELS = {"summary": "List models", "tags": ["models"], "responses": _answer(None, "All models.")}
GET_MODEL = {"summary": "Show a model", "tags": ["models"], "responses": _answer(None, "One model.")}
HEALTHZ = {"summary": "Is the process alive?", "tags": ["health"], "responses": _answer(None, "Alive.")}
READYZ = {"summary": "Can it be called?", "tags": ["health"], "responses": _answer(None, "Ready.")}
METRICS = {
    "summary": "Metrics for Prometheus",
    "tags": ["health"],
    "responses": {200: {"description": "Text format.", "content": {"text/plain": {}}}},
}


def schemas(tasks: Tasks) -> dict[str, Any]:
    """Return the components that the operations refer to."""
    template = REF + "{model}"
    bodies = [(task.body, "validation") for task in tasks.values()]
    _, defined = models_json_schema(bodies, ref_template=template)  # type: ignore[arg-type]
    components: dict[str, Any] = dict(defined["$defs"])
    for kind in (*(task.item for task in tasks.values()), FailedItem):
        schema = TypeAdapter(kind).json_schema(ref_template=template, mode="serialization")
        components |= {**schema.pop("$defs", {}), kind.__name__: schema}
    answers = {
        _answer_name(task): _list_of(task.answer_member, task.item.__name__) for task in tasks.values()
    }
    return {**components, **answers, "Problem": SCHEMA}


def _answer_name(task: Task) -> str:
    return f"{task.verb.capitalize()}Answer"


def _list_of(member: str, item: str) -> dict[str, Any]:
    model = {
        "type": "object",
        "description": "who answered",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "integer"},
            "digest": {"type": "string"},
        },
    }
    either = [{"$ref": REF + item}, {"$ref": REF + "FailedItem"}]
    items = {"type": "array", "items": {"anyOf": either}}
    return {"type": "object", "required": ["model", member], "properties": {"model": model, member: items}}
