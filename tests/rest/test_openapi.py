"""The page that describes the REST door to programs and people."""

import re
from pathlib import Path
from typing import Any

from tests.doors import both_doors


async def test_openapi_names_every_body_and_answer(root: Path) -> None:
    """`/openapi.json` resolves every reference it makes, and `/docs` is there."""
    async with both_doors(root) as both:
        schema = (await both.rest.get("/openapi.json")).json()
        known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
        assert set(references(schema)) <= known
        assert "/v1/models/{model}:translate" in schema["paths"]
        assert (await both.rest.get("/docs")).status_code == 200


def references(node: Any) -> list[str]:
    """Return every $ref below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


async def test_what_is_in_a_path_is_a_parameter(start: Any) -> None:
    """Each `{name}` can be filled in, and each operation has an id of its own."""
    door = await start()
    paths = (await door.client.get("/openapi.json")).json()["paths"]
    operations = [(path, operation) for path, methods in paths.items() for operation in methods.values()]
    for path, operation in operations:
        in_path = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        assert [one["name"] for one in in_path] == re.findall(r"{(\w+)}", path)
        assert all(one["required"] for one in in_path)
    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids) == 11
