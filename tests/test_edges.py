"""What only the gRPC door can get wrong, and what both say of a fault of ours."""

from collections.abc import Iterable
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

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_bytes_that_do_not_parse(both: Both) -> None:
    """At the gRPC door they are INVALID_ARGUMENT with a reason, text that is not UTF-8 among them."""
    for method in ("TranslationService/Translate", "SequenceService/Predict", "ModelService/GetModel"):
        call = both.channel.unary_unary(f"/seqserve.v1.{method}")
        for garbage in (b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x05ab"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(garbage, timeout=20)
            if caught.value.code() is not grpc.StatusCode.NOT_FOUND:
                assert reason_of(caught.value) == "MALFORMED_MESSAGE"


async def test_numbers_that_are_none(both: Both) -> None:
    """A gRPC double may be NaN or infinite: the item's fault, and only that item's."""
    for bad in (float("nan"), float("inf")):
        assert await both.by_grpc(predict(sequences=[event("visit", minutes=[bad])])) == (
            "NOT_FINITE",
            "INVALID_ARGUMENT",
        )
        answer, _ = await both.by_grpc(predict(sequences=[SHOP, event("visit", minutes=[bad])]))
        assert answer["predictions"][0] == (await both.by_grpc(predict()))[0]["predictions"][0]
        assert answer["predictions"][1]["error"]["reason"] == "NOT_FINITE"


async def test_an_unexpected_fault_tells_nothing(
    both: Both, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, in a batch or in a door, is INTERNAL with a reason and an id, and no more."""
    both.backend.fault = RuntimeError("the secret")  # type: ignore[assignment]
    for door in (both.by_rest, both.by_grpc):
        assert await door(translate()) == ("UNEXPECTED", "INTERNAL")
    assert "the secret" in caplog.text
    both.backend.fault = None
    monkeypatch.setattr(both.started.gateway, "_find", None)
    for door in (both.by_rest, both.by_grpc):
        assert await door(translate()) == ("UNEXPECTED", "INTERNAL")
    headers = {"X-Request-Id": "mine"}
    response = await both.rest.post("/v1/models/en-de:translate", json={"texts": ["two"]}, headers=headers)
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


def some(root: Path, names: Iterable[str], folder: Path) -> Path:
    """Return a root with some models of another."""
    for name in names:
        (folder / name).symlink_to(root / name)
    return folder


async def test_both_doors_say_who_is_ready(refused_too: Path, tmp_path: Path) -> None:
    """The whole is not while a model is missing, which REST names; each model is by itself."""
    async with both_doors(some(refused_too, (*GOOD, *BAD), tmp_path)) as both:
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


async def test_both_doors_say_that_the_backend_is_out_of_reach(refused_too: Path, tmp_path: Path) -> None:
    """Ready by one model of several; not once no address has answered for the grace; ready when one does."""
    root = some(refused_too, ("en-de", "bare"), tmp_path)
    async with both_doors(root, ready_models="one", ready_grace_seconds=1e-9) as both:
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
