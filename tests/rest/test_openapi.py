"""The page that describes the REST door to programs and people."""

import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from seqserve.service import errors
from seqserve.service.rest.problems import problem

ASK = "/v1/models/{model}:predict"


@pytest.fixture
async def page(start: Any) -> dict[str, Any]:
    """The page as it is answered."""
    door = await start()
    written: dict[str, Any] = (await door.client.get("/openapi.json")).json()
    return written


async def test_it_is_what_openapi_says_that_a_page_is(page: dict[str, Any]) -> None:
    assert [fault.message for fault in OpenAPIV31SpecValidator(page).iter_errors()] == []
    del page["paths"][ASK]["post"]["parameters"][0]  # `{model}`: nobody could fill it in
    assert [fault.message for fault in OpenAPIV31SpecValidator(page).iter_errors()] != []


async def test_every_reference_leads_somewhere(page: dict[str, Any]) -> None:
    known = {f"#/components/{kind}/{name}" for kind, parts in page["components"].items() for name in parts}
    found = set(references(page))
    assert found <= known
    assert "#/components/schemas/PredictAnswer" in found


def references(node: Any) -> list[str]:
    """Return every $ref below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


async def test_the_forms_of_an_answer_are_told(page: dict[str, Any]) -> None:
    """With what each object of a stream is, and which comes first."""
    asking = page["paths"][ASK]["post"]
    content = asking["responses"]["200"]["content"]
    assert list(content) == ["application/json", "application/x-ndjson", "text/event-stream"]
    assert all("PredictPart" in form["schema"]["description"] for form in list(content.values())[1:])
    parts = page["components"]["schemas"]["PredictPart"]["anyOf"]
    assert [part["required"][0] for part in parts] == ["model", "index", "index", "done", "error"]
    assert [one["schema"]["enum"] for one in asking["parameters"] if one["name"] == "order"] == [
        ["index", "finished"]
    ]


async def test_what_is_in_a_path_is_a_parameter(page: dict[str, Any]) -> None:
    """Each `{name}` can be filled in, and each operation has an id of its own."""
    operations = [(path, one) for path, methods in page["paths"].items() for one in methods.values()]
    for path, operation in operations:
        in_path = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        assert [one["name"] for one in in_path] == re.findall(r"{(\w+)}", path)
        assert all(one["required"] for one in in_path)
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids) == 46


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthenticated(""),
        errors.PermissionDenied(""),
        errors.RequestTimeout(""),
        errors.BodyTooLarge(""),
        errors.UnsupportedMediaType("", encodings=("gzip",)),
        errors.RateLimited(""),
        errors.HeadersTooLarge(""),
        errors.TooManyConnections(""),
    ],
)
async def test_what_the_edge_refuses_is_told(page: dict[str, Any], error: errors.SeqserveError) -> None:
    """Its status stands at the call, with its reason and with the header that helps."""
    sent = problem(error)
    reference = page["paths"][ASK]["post"]["responses"][str(sent.status_code)]["$ref"]
    told = page["components"]["responses"][reference.rpartition("/")[2]]
    assert error.reason in told["description"]
    own = [name for name in sent.headers if not name.startswith("content-")]
    assert [name.lower() for name in told.get("headers", ())] == own


@pytest.mark.parametrize(("settings", "anonymous"), [({}, True), ({"keys": Path("keys.toml")}, False)])
async def test_who_has_to_say_who_they_are(start: Any, settings: dict[str, Any], anonymous: bool) -> None:
    door = await start(**settings)
    written = (await door.client.get("/openapi.json")).json()
    ways = [list(way) for way in written["security"]]
    assert ways == [["token"], ["key"], *([[]] if anonymous else [])]
    assert {name for way in ways for name in way} == set(written["components"]["securitySchemes"])
    assert written["paths"]["/healthz"]["get"]["security"] == []
