"""What only one door can get wrong, and what each tells of itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.doors import (
    SHOP,
    both_doors,
    event,
    predict,
    reason_of,
    translate,
)

MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"texts": "two"}',
    b'{"texts": [2]}',
    b'{"texts": ["two"], "beam": 4}',
    b'{"texts": [0, 0, 0, 0]}',
    b"{" + b",".join(b'"%d": 0' % n for n in range(100_000)) + b"}",
    b'{"texts": ["two"], "sampling": {' + b",".join(b'"%d": 0' % n for n in range(100_000)) + b"}}",
    b'{"texts": ["two"], "beam_size": 1.5}',
    b'{"texts": ["two"], "beam_size": true}',
    b'{"texts": ["two"], "length_penalty": NaN}',
    b'{"texts": ["two"], "length_penalty": Infinity}',
    b'{"texts": ["two"], "length_penalty": 1e400}',
    b'{"texts": ["\\ud800"]}',
    b'{"texts": ["\xff\xfe"]}',
    b'{"texts": ' + b"[" * 100_000,
]


async def test_what_only_rest_can_get_wrong(root: Path) -> None:
    """Bodies that are not JSON or not of the form, types, sizes, paths and methods: each its reason."""
    url, json_type = "/v1/models/en-de:translate", {"Content-Type": "application/json"}
    async with both_doors(root) as both:

        async def reason(method: str, path: str, **request: Any) -> tuple[int, str]:
            response = await both.rest.request(method, path, **request)
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers["x-request-id"]
            return response.status_code, problem["reason"]

        for content in MALFORMED:
            refused = await reason("POST", url, content=content, headers=json_type)
            assert refused == (400, "MALFORMED_JSON"), content[:60]
        many = {"content": b'{"texts": [' + b"0," * 1_000_000 + b"0]}", "headers": json_type}
        assert await reason("POST", url, **many) == (400, "TOO_MANY_ITEMS")
        large = b'{"texts": ["' + b"x" * (17 * 2**20)
        assert await reason("POST", url, content=large, headers=json_type) == (413, "BODY_TOO_LARGE")
        assert await reason("POST", url, content=chunks(large), headers=json_type) == (413, "BODY_TOO_LARGE")
        wrong_type = {"content": b"two", "headers": {"Content-Type": "text/plain"}}
        assert await reason("POST", url, **wrong_type) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert await reason("POST", "/v1/nothing", json={}) == (404, "ROUTE_NOT_FOUND")
        assert await reason("GET", "/v1/models/") == (404, "ROUTE_NOT_FOUND")
        assert await reason("DELETE", url) == (405, "METHOD_NOT_ALLOWED")
        late = {**json_type, "Grpc-Timeout": "soon"}
        assert (await reason("POST", url, content=b"{}", headers=late))[1] == "OPTION_OUT_OF_RANGE"
        assert (await both.by_rest(translate()))[0] == (await both.by_grpc(translate()))[0]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Send a body whose length is not declared."""
    for at in range(0, len(data), 2**20):
        yield data[at : at + 2**20]


async def test_bytes_that_do_not_parse(root: Path) -> None:
    """At the gRPC door they are INVALID_ARGUMENT with a reason, text that is not UTF-8 among them."""
    async with both_doors(root) as both:
        for method in ("TranslationService/Translate", "SequenceService/Predict", "ModelService/GetModel"):
            call = both.channel.unary_unary(f"/seqserve.v1.{method}")
            for garbage in (b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x05ab"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(garbage, timeout=20)
                if caught.value.code() is not grpc.StatusCode.NOT_FOUND:
                    assert reason_of(caught.value) == "MALFORMED_MESSAGE"


async def test_numbers_that_are_none(root: Path) -> None:
    """A gRPC double may be NaN or infinite: the item's fault, and only that item's."""
    async with both_doors(root) as both:
        for bad in (float("nan"), float("inf")):
            assert await both.by_grpc(predict(sequences=[event("visit", minutes=[bad])])) == (
                "NOT_FINITE",
                "INVALID_ARGUMENT",
            )
            answer, _ = await both.by_grpc(predict(sequences=[SHOP, event("visit", minutes=[bad])]))
            assert answer["predictions"][0] == (await both.by_grpc(predict()))[0]["predictions"][0]
            assert answer["predictions"][1]["error"]["reason"] == "NOT_FINITE"


async def test_an_unexpected_fault_tells_nothing(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, in a batch or in a door, is INTERNAL with a reason and an id, and no more."""
    async with both_doors(root) as both:
        both.backend.fault = RuntimeError("the secret")  # type: ignore[assignment]
        for door in (both.by_rest, both.by_grpc):
            assert await door(translate()) == ("UNEXPECTED", "INTERNAL")
        assert "the secret" in caplog.text
        both.backend.fault = None
        monkeypatch.setattr(both.started.gateway, "_find", None)
        for door in (both.by_rest, both.by_grpc):
            assert await door(translate()) == ("UNEXPECTED", "INTERNAL")
        headers = {"X-Request-Id": "mine"}
        response = await both.rest.post(
            "/v1/models/en-de:translate", json={"texts": ["two"]}, headers=headers
        )
        assert response.json()["request_id"] == response.headers["x-request-id"] == "mine"


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
