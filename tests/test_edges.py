"""What only one door can get wrong, and what each tells of itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.doors import (
    SHOP,
    Both,
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


async def test_what_only_rest_can_get_wrong(refused_too: Path) -> None:
    """Bodies that are not JSON or not of the form, types, sizes, paths and methods: each its reason."""
    url, json_type = "/v1/models/en-de:translate", {"Content-Type": "application/json"}
    async with both_doors(refused_too) as both:

        async def reason(method: str, path: str, **request: Any) -> tuple[int, str]:
            response = await both.rest.request(method, path, **request)
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers["x-request-id"]
            return response.status_code, problem["reason"]

        for content in MALFORMED:
            told = await reason("POST", url, content=content, headers=json_type)
            assert told == (400, "MALFORMED_JSON"), content[:60]
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


async def test_bytes_that_do_not_parse(refused_too: Path) -> None:
    """At the gRPC door they are INVALID_ARGUMENT with a reason, text that is not UTF-8 among them."""
    async with both_doors(refused_too) as both:
        for method in ("TranslationService/Translate", "SequenceService/Predict", "ModelService/GetModel"):
            call = both.channel.unary_unary(f"/seqserve.v1.{method}")
            for garbage in (b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x05ab"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(garbage, timeout=20)
                if caught.value.code() is not grpc.StatusCode.NOT_FOUND:
                    assert reason_of(caught.value) == "MALFORMED_MESSAGE"


async def test_numbers_that_are_none(refused_too: Path) -> None:
    """A gRPC double may be NaN or infinite: the item's fault, and only that item's."""
    async with both_doors(refused_too) as both:
        for bad in (float("nan"), float("inf")):
            assert await both.by_grpc(predict(sequences=[event("visit", minutes=[bad])])) == (
                "NOT_FINITE",
                "INVALID_ARGUMENT",
            )
            answer, _ = await both.by_grpc(predict(sequences=[SHOP, event("visit", minutes=[bad])]))
            assert answer["predictions"][0] == (await both.by_grpc(predict()))[0]["predictions"][0]
            assert answer["predictions"][1]["error"]["reason"] == "NOT_FINITE"


async def test_an_unexpected_fault_tells_nothing(
    refused_too: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, in a batch or in a door, is INTERNAL with a reason and an id, and no more."""
    async with both_doors(refused_too) as both:
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


GOOD = ("en-de", "shop", "waves", "steps", "loads", "copied")
BAD = ("golden", "bare", "invalid", "flipped")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def health(both: Both, service: str) -> int:
    """Return what grpc.health.v1 says."""
    stub: Any = health_pb2_grpc.HealthStub(both.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)).status)


async def readyz(both: Both, model: str | None = None) -> tuple[int, str, str]:
    """Return what REST says: status, reason, and detail."""
    params = {"model": model} if model is not None else {}
    answered = await both.rest.get("/readyz", params=params)
    content = answered.json()
    return answered.status_code, content.get("reason", ""), content.get("detail", "")


async def test_both_doors_say_who_is_ready(refused_too: Path) -> None:
    """The whole is not while a model is missing, which REST names; each model is by itself."""
    async with both_doors(refused_too) as both:
        status, reason, detail = await readyz(both)
        assert (status, reason) == (503, "NOT_READY")
        assert [name for name in (*GOOD, *BAD) if f"'{name}'" in detail] == list(BAD)
        for service in ("", "seqserve.v1.TranslationService"):
            assert await health(both, service) == NOT_SERVING
        for name in GOOD:
            assert await readyz(both, name) == (200, "", "")
            assert await health(both, f"model/{name}") == SERVING
        for name in BAD:
            assert (await readyz(both, name))[:2] == (503, "NOT_READY")
            assert await health(both, f"model/{name}") == NOT_SERVING
        for name in ("nope", ""):
            assert (await readyz(both, name))[:2] == (404, "MODEL_NOT_FOUND")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(both, "model/nope")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_both_doors_say_that_the_backend_is_out_of_reach(refused_too: Path) -> None:
    """Ready by one model of several; not once no address has answered for the grace; ready when one does."""
    async with both_doors(refused_too, ready_models="one", ready_grace_seconds=1e-9) as both:
        for reachable, expected in (
            (True, (200, "")),
            (False, (503, "BACKEND_UNAVAILABLE")),
            (True, (200, "")),
        ):
            both.backend.is_reachable = reachable  # type: ignore[attr-defined]
            await both.started.catalog.refresh()
            for model in (None, "en-de"):
                assert (await readyz(both, model))[:2] == expected
            await both.started.catalog.refresh()
            for service in ("", "seqserve.v1.SequenceService", "model/en-de"):
                assert await health(both, service) == (SERVING if reachable else NOT_SERVING)
        both.started.gateway._draining = True
        assert (await readyz(both))[:2] == (await readyz(both, "en-de"))[:2] == (503, "DRAINING")
        both.started.gateway._draining = False


async def test_openapi_names_every_body_and_answer(refused_too: Path) -> None:
    """`/openapi.json` resolves every reference it makes, and `/docs` is there."""
    async with both_doors(refused_too) as both:
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
