"""The access log of a running service: each call at either door, however it ends, and nothing of its text."""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from seqserve.service.edge.access_log import ACCESS
from seqserve.v1 import sequence_pb2, sequence_pb2_grpc
from tests.doors import Both, Row, event, predict, predict_message, reset as undone
from tests.rest.test_edge import Gate

pytestmark = pytest.mark.asyncio(loop_scope="module")
PREDICT = "/seqserve.v1.SequenceService/Predict"


class Lines(logging.Handler):
    """The lines of the access log, as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._come: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._come.put_nowait(vars(record)["fields"])

    async def next(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many, and return them; there are no more yet."""
        async with asyncio.timeout(20):
            lines = [await self._come.get() for _ in range(count)]
        assert self._come.empty()
        return lines


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines that a test leads to."""
    handler = Lines()
    ACCESS.addHandler(handler)
    ACCESS.setLevel(logging.INFO)
    yield handler
    ACCESS.setLevel(logging.NOTSET)
    ACCESS.removeHandler(handler)


async def ask(both: Both, row: Row, id: str) -> None:
    """Ask at both doors, by one id."""
    await both.rest.post(f"/v1/models/{row.model}:{row.verb}", json=row.body, headers={"X-Request-Id": id})
    stub = sequence_pb2_grpc.SequenceServiceStub(both.channel)
    with suppress(grpc.aio.AioRpcError):
        await stub.Predict(predict_message(row), metadata=(("x-request-id", id),))


async def test_both_doors_tell_the_same_of_a_call(both: Both, lines: Lines) -> None:
    """The caller's id, who and what; items and cells; and no label, nor the name that nobody has."""
    await ask(both, predict("x", sequences=[event("a secret"), event()]), "id-1")
    await ask(both, predict("x", model="another-secret"), "id-2")
    told = await lines.next(4)
    by_rest, by_grpc, *unknown = told
    for line in told:
        assert line.pop("seconds") > 0
        assert (line["principal"], line["code"] != "OK") == ("127.0.0.1", True)
    assert by_rest == {
        "request_id": "id-1",
        "transport": "rest",
        "principal": "127.0.0.1",
        "method": "POST /v1/models/{model}:predict",
        "model": "shop",
        "version": 1,
        "items": 2,
        "cells": 0,
        "bytes_in": by_rest["bytes_in"],
        "bytes_out": 0,
        "code": "INVALID_ARGUMENT",
        "reason": "UNKNOWN_CATEGORY",
    }
    assert by_rest["bytes_in"] > 50
    assert by_grpc["bytes_in"] > 20
    of_doors = {name: by_grpc[name] for name in ("transport", "method", "bytes_in")}
    assert {**by_rest, **of_doors} == by_grpc
    assert (of_doors["transport"], of_doors["method"]) == ("grpc", PREDICT)
    assert [(line["model"], line["request_id"]) for line in unknown] == [("_other", "id-2")] * 2
    assert "secret" not in str(told)


BAD = {"event": ["a secret"], "minutes": [0]}
TENSORS = [
    {"name": name, "shape": [1, 1], "datatype": kind, "data": BAD[name]}
    for name, kind in (("event", "BYTES"), ("minutes", "FP64"))
]
SURFACES: list[tuple[str, str, dict[str, Any], tuple[str, int, str]]] = [
    # path, the same as the log has it, body; then model, items and reason
    (
        "/v1/models/shop:predict",
        "/v1/models/{model}:predict",
        {"instances": [BAD]},
        ("shop", 1, "UNKNOWN_CATEGORY"),
    ),
    (
        "/v1/models/shop/versions/1:predict",
        "/v1/models/{model}/versions/{version}:predict",
        {"inputs": {name: [values] for name, values in BAD.items()}},
        ("shop", 1, "UNKNOWN_CATEGORY"),
    ),
    (
        "/v1/models/a-secret:classify",
        "/v1/models/{model}:classify",
        {},
        ("", 0, "UNSUPPORTED"),
    ),
    (
        "/v2/models/shop/infer",
        "/v2/models/{model}/infer",
        {"inputs": TENSORS},
        ("shop", 1, "UNKNOWN_CATEGORY"),
    ),
    (
        "/v2/models/a-secret/infer",
        "/v2/models/{model}/infer",
        {"inputs": TENSORS},
        ("_other", 1, "MODEL_NOT_FOUND"),
    ),
    (
        "/translate",
        "/translate",
        {"q": ["a secret", ""], "source": "en", "target": "de"},
        ("en-de", 2, "EMPTY_TEXT"),
    ),
    ("/detect", "/detect", {"q": "a secret"}, ("", 0, "UNSUPPORTED")),
]


@pytest.mark.parametrize(("path", "method", "body", "told"), SURFACES)
async def test_calls_of_other_protocols_are_written_alike(
    both: Both, lines: Lines, path: str, method: str, body: dict[str, Any], told: tuple[str, int, str]
) -> None:
    """And counted alike: by a model that there is, a verb of ours and a door's name."""
    await both.rest.post(path, json=body, headers={"X-Request-Id": "mine"})
    (line,) = await lines.next(1)
    assert (line["model"], line["items"], line["reason"]) == told
    assert (line["transport"], line["method"], line["request_id"]) == ("rest", f"POST {method}", "mine")
    assert "secret" not in str(line)
    metrics = (await both.rest.get("/metrics")).text
    counted = re.findall(r"seqserve_requests_total{([^}]*)}", metrics)
    labels = {
        name: set(re.findall(rf'{name}="([^"]*)"', " ".join(counted))) for name in ("task", "transport")
    }
    assert labels["task"] <= {"translate", "predict"}
    assert labels["transport"] <= {"rest", "grpc"}
    assert "secret" not in metrics
    if told[0]:
        assert any(f'reason="{told[2]}"' in one and f'model="{told[0]}"' in one for one in counted)


async def test_what_the_transport_ends_is_written_too(both: Both, lines: Lines) -> None:
    """A deadline that grpc keeps, a caller who cancels, a deadline that is none, a route that is none."""
    stub, request = sequence_pb2_grpc.SequenceServiceStub(both.channel), predict_message(predict())
    both.backend.gate = gate = Gate()
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Predict(request, timeout=0.2)
    (late,) = await lines.next(1)
    gate.reached.clear()
    call = stub.Predict(request)
    async with asyncio.timeout(20):
        await gate.reached.wait()
    call.cancel()
    (gone,) = await lines.next(1)
    undone(both)
    await both.rest.get("/healthz", headers={"Grpc-Timeout": "soon"})
    await both.rest.get("/a/secret?and=more")
    told = [(line["method"], line["model"], line["reason"]) for line in (late, gone, *await lines.next(2))]
    assert told == [
        (PREDICT, "shop", "DEADLINE_EXCEEDED"),
        (PREDICT, "shop", "CANCELLED"),
        ("", "", "OPTION_OUT_OF_RANGE"),
        ("", "", "ROUTE_NOT_FOUND"),
    ]


async def test_a_stream_is_one_line_at_its_end(both: Both, lines: Lines) -> None:
    """With all of its items and bytes, at either door."""
    row = predict("x", sequences=[event("visit"), event("a secret")])
    headers = {"X-Request-Id": "mine", "Accept": "text/event-stream"}
    log = both.started.rest._shared.entrance._access_log
    log._share = 1.0
    try:
        answer = await both.rest.post("/v1/models/shop:predict", json=row.body, headers=headers)
        stub: Any = sequence_pb2_grpc.SequenceServiceStub(both.channel)
        request = sequence_pb2.PredictStreamRequest(predict=predict_message(row))
        sent = [part async for part in stub.PredictStream(request, metadata=(("x-request-id", "mine"),))]
        by_rest, by_grpc = await lines.next(2)
    finally:
        log._share = 0.0
    assert by_rest["bytes_out"] == len(answer.content)
    assert by_grpc["bytes_out"] == sum(part.ByteSize() for part in sent)
    for line, method in ((by_rest, "POST /v1/models/{model}:predict"), (by_grpc, f"{PREDICT}Stream")):
        assert (line["method"], line["request_id"], line["code"]) == (method, "mine", "OK")
        assert (line["items"], line["cells"] > 0, line["model"], line["version"]) == (2, True, "shop", 1)
        assert "secret" not in str(line)


async def test_successes_and_probes_are_silent_unless_asked_for(both: Both, lines: Lines) -> None:
    await ask(both, predict(), "fine")
    await both.rest.get("/healthz")
    await both.rest.get("/metrics")
    await both.rest.get("/nothing", headers={"X-Request-Id": "failed"})
    assert [line["request_id"] for line in await lines.next(1)] == ["failed"]
