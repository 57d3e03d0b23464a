"""What `/docs` and `/openapi.json` say of each route: bodies, answers, problems, with examples."""

from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from seqserve.service.contract.items import FailedItem, PredictBody, Prediction, TranslateBody, Translation
from seqserve.service.rest.problems import MEDIA_TYPE, SCHEMA

VERSION = version("seqserve")
DESCRIPTION = (
    "Trained sequence models: text and events in; text, labels and values out. "
    "A list in gives a list of the same length and order out; an item that fails carries its `error` and "
    "harms no other. Every error has a stable `reason`. Headers: `X-Request-Id`, `Grpc-Timeout` (as `500m`)."
)
REF = "#/components/schemas/"
PROBLEM = {"description": "Problem", "content": {MEDIA_TYPE: {"schema": {"$ref": REF + "Problem"}}}}
EXAMPLES = {
    "TranslateBody": {"texts": ["Tuesday, November 24, 2026"], "alignment": True},
    "PredictBody": {"sequences": [{"event": ["visit", "search"], "minutes": [0, 1.5]}], "top_k": 3},
}


def _answer(schema: str | None, description: str) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": REF + schema} if schema else {"type": "object"}}}
    return {200: {"description": description, "content": content}, "default": PROBLEM}


def _task(body: str, answer: str, summary: str) -> dict[str, Any]:
    media = {"schema": {"$ref": REF + body}, "example": EXAMPLES[body]}
    request = {"required": True, "content": {"application/json": media}}
    parameters = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in (
            ("X-Request-Id", "echoed in the response and in the log; made if absent"),
            ("Grpc-Timeout", "how long the answer is worth having, as 500m or 2S"),
        )
    ]
    return {
        "summary": summary,
        "tags": ["answers"],
        "responses": _answer(answer, "One entry for each that was sent, in order."),
        "openapi_extra": {"requestBody": request, "parameters": parameters},
    }


TRANSLATE = _task("TranslateBody", "TranslateAnswer", "Translate texts")
PREDICT = _task("PredictBody", "PredictAnswer", "Predict from sequences")
LIST_MODELS = {"summary": "List models", "tags": ["models"], "responses": _answer(None, "All models.")}
GET_MODEL = {"summary": "Show a model", "tags": ["models"], "responses": _answer(None, "One model.")}
HEALTHZ = {"summary": "Is the process alive?", "tags": ["health"], "responses": _answer(None, "Alive.")}
READYZ_MODEL = {
    "name": "model",
    "in": "query",
    "schema": {"type": "string"},
    "description": "asks for one model: can it be called now?",
}
READYZ = {
    "summary": "Can it be called?",
    "tags": ["health"],
    "responses": _answer(None, "Ready."),
    "openapi_extra": {"parameters": [READYZ_MODEL]},
}
METRICS = {
    "summary": "Metrics for Prometheus",
    "tags": ["health"],
    "responses": {200: {"description": "Text format.", "content": {"text/plain": {}}}},
}


def schemas() -> dict[str, Any]:
    """Return the components that the routes refer to."""
    template = REF + "{model}"
    _, bodies = models_json_schema(
        [(TranslateBody, "validation"), (PredictBody, "validation")], ref_template=template
    )
    kinds = {"Translation": Translation, "Prediction": Prediction, "FailedItem": FailedItem}
    found: dict[str, Any] = dict(bodies["$defs"])
    for name, kind in kinds.items():
        schema = TypeAdapter(kind).json_schema(ref_template=template, mode="serialization")
        found |= {**schema.pop("$defs", {}), name: schema}
    return {
        **found,
        "TranslateAnswer": _list_of("translations", "Translation"),
        "PredictAnswer": _list_of("predictions", "Prediction"),
        "Problem": SCHEMA,
    }


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
