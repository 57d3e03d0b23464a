"""What only the gRPC door can get wrong, and what both say of a fault of ours."""

from pathlib import Path

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
