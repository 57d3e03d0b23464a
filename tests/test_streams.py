"""Answers as they come, by sockets at both doors: read by readers of its own, slowly, and not to the end."""

import asyncio
import json
import math
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.rpc import error_details_pb2

from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.padding import Array
from seqserve.service.core.gateway import Gateway
from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from seqserve.v1 import (
    model_pb2,
    sequence_pb2,
    sequence_pb2_grpc,
    translation_pb2,
    translation_pb2_grpc,
)
from tests.answers import as_rest, prune, who
from tests.core.fakes import FakeBackend, as_files, sequence_manifest, series
from tests.fuzz import world
from tests.reasons import reason_of
from tests.rest.wire import Caller

LINES, EVENTS = "application/x-ndjson", "text/event-stream"
PLACE = "/v1/models/totals:predict"
ROWS, CELLS = 16, 512  # two batches are 32 rows
WIDE = 1000
"""Labels of the model `wide`, whose whole answer is 40 KB of JSON."""
MANY, SOME = 1024, 200
FEW = 120
"""Sequences for it: far more than sockets hold the answers of."""
WAIT = 20.0


@dataclass
class Service:
    """A running service, and what it was asked to compute."""

    started: Running
    backend: FakeBackend
    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    callers: AsyncExitStack
    begun: int = 0
    most: float = math.inf

    def gate_behind(self, rows: int) -> None:
        """Let nothing be computed once so many rows have been."""
        self.most = rows
        self.backend.gates[1] = asyncio.Event()
        self.backend.gates[1].set()

    def answer(self, spec: Spec, inputs: Tensors) -> dict[str, Array]:
        """Count the rows, and remember nothing else."""
        self.backend.batches.clear()
        self.begun += len(next(iter(inputs.values())))
        if self.begun >= self.most:
            self.backend.gates[1].clear()
        return answer(spec, inputs)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what the service does by itself."""
        async with asyncio.timeout(WAIT):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def is_quiet(self) -> bool:
        """Tell whether nothing waits for a batch, or is in one."""
        scheduler = self.started.gateway._runner._scheduler
        return not scheduler._batches and not scheduler._queue.cells

    async def ended(self, reason: str) -> None:
        """Wait for the only request to end so, with nothing left of it."""
        metrics = self.started.gateway._recorder._metrics
        await self.until(lambda: bool(series(metrics, "requests_total")) and self.is_quiet())
        assert self.started.gateway._open._count == 0
        assert [*map(itemgetter(-1), series(metrics, "requests_total"))] == [reason]
        assert set(series(metrics, "in_flight").values()) == {0}

    async def slow(self, body: Any, accept: str = LINES, headers: str = "") -> Caller:
        """Ask, and read nothing."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", self.started.rest_port))
        caller = Caller(*await asyncio.open_connection(sock=small, limit=2**24))
        self.callers.callback(caller.writer.close)
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        ours = self.started.rest._shared.connections
        name = caller.writer.get_extra_info("sockname")
        await self.until(lambda: any(_peer(one) == name for one in ours))
        [connection] = [one for one in ours if _peer(one) == name]
        theirs = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)  # else it takes megabytes
        raw = json.dumps(body).encode()
        model = "wide" if body is LARGE else "totals"
        caller.say(
            f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n",
            f"Accept: {accept}\r\n{headers}Content-Length: {len(raw)}\r\n\r\n",
            raw,
        )
        return caller


def answer(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer for the models of the fuzzer, and for `wide` every row alike."""
    if spec.model != "wide":
        return world.answer(spec, inputs)
    return {"label": np.full((len(inputs["x"]), WIDE), 1 / WIDE, np.float32)}


def wide_manifest() -> dict[str, Any]:
    """Return the manifest of a model with many labels."""
    axes, labels = ["batch", "time"], [f"label {number}" for number in range(WIDE)]
    top = [{"label": "label 0", "probability": 1 / WIDE}]
    heads = {"label": {"label": "label 0", "probability": 1 / WIDE, "top": top}}
    return sequence_manifest(
        name="wide",
        signatures={
            "serving_default": {
                "inputs": {
                    "x": {"dtype": "float32", "axes": axes, "pad_value": 0.0},
                    "mask": {"dtype": "bool", "axes": axes},
                },
                "outputs": {"label": {"dtype": "float32", "axes": ["batch", "label"]}},
            }
        },
        options={},
        heads={"label": {"kind": "softmax", "labels": labels, "scores": "probabilities"}},
        examples=[{"request": {"sequences": [{"x": [1.0]}]}, "items": [{"heads": heads, "warnings": []}]}],
    )


def _peer(connection: Any) -> Any:
    return connection._transport.get_extra_info("peername")


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Service]:
    """Serve the models of the fuzzer."""
    backend = world.backend()
    backend.function = answer
    backend.put("wide", 1, as_files(wide_manifest()))
    given: dict[str, Any] = {"max_batch_rows": ROWS, "max_batch_cells": CELLS, **options}
    settings = Settings(rest_port=0, grpc_port=0, poll_seconds=600, **given)
    async with AsyncExitStack() as callers, asyncio.timeout(6 * WAIT), running(settings, backend) as started:
        # else a client takes in megabytes that nobody reads
        small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}", small)
        base = f"http://127.0.0.1:{started.rest_port}"
        async with httpx.AsyncClient(base_url=base, timeout=WAIT) as rest, channel:
            service = Service(started, backend, rest, channel, callers)
            backend.function = service.answer
            yield service


def read_lines(content: str) -> list[dict[str, Any]]:
    """Return the objects of newline-delimited JSON; the last line has its end too."""
    *lines, rest = content.split("\n")
    assert rest == ""
    return [json.loads(line) for line in lines]


def read_events(content: str) -> list[tuple[str, dict[str, Any]]]:
    """Return events as a browser reads them (html.spec.whatwg.org, 9.2.6): types and data."""
    events, kind, data = [], "", []
    lines = re.split("\r\n|\n|\r", content.removeprefix("\ufeff"))
    assert lines.pop() == ""
    for line in lines:
        if not line:
            if data:
                events.append((kind or "message", json.loads("\n".join(data))))
            kind, data = "", []
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            assert name in ("event", "data")
            if name == "event":
                kind = value
            else:
                data.append(value)
    assert not data  # else the last event would never be dispatched
    return events


SEQUENCES = [{"x": [1, 2, 3]}, {"x": []}, {"x": [4.5] * 16}, {"x": ["b", "a"]}, {"x": [7]}]
BODY = {"sequences": SEQUENCES, "heads": ["total"]}


def message(body: Any, order: int = 0, model: str = "totals") -> sequence_pb2.PredictStreamRequest:
    """Return the message of a body."""
    request = sequence_pb2.PredictStreamRequest(order=order)  # type: ignore[arg-type]
    request.predict.model.name = model
    request.predict.heads.extend(body.get("heads", ()))
    for sequence in body["sequences"]:
        feature = request.predict.sequences.add().features["x"]
        if any(isinstance(value, str) for value in sequence["x"]):
            feature.strings.values.extend(map(str, sequence["x"]))
        else:
            feature.numbers.values.extend(sequence["x"])
    return request


async def by_grpc(service: Service, request: Any, **options: Any) -> list[Any]:
    """Return all responses."""
    stub: Any = sequence_pb2_grpc.SequenceServiceStub(service.channel)
    if isinstance(request, translation_pb2.TranslateStreamRequest):
        translate: Any = translation_pb2_grpc.TranslationServiceStub(service.channel).TranslateStream
        return [response async for response in translate(request, **options)]
    return [response async for response in stub.PredictStream(request, **options)]


async def test_every_form_has_the_items_of_the_list() -> None:
    """The model, each item by its index, and the end; the fault of one that failed in its place."""
    async with serving() as service:
        whole = (await service.rest.post(PLACE, json=BODY)).json()
        wanted = [{"index": index, **item} for index, item in enumerate(whole["predictions"])]
        end = {"done": {"items": 5, "failed": 2}}
        answer = await service.rest.post(PLACE, json=BODY, headers={"Accept": LINES})
        assert answer.headers["content-type"] == LINES
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["x-request-id"]
        assert read_lines(answer.text) == [{"model": whole["model"]}, *wanted, end]
        answer = await service.rest.post(PLACE, json=BODY, headers={"Accept": EVENTS})
        assert answer.headers["content-type"].partition(";")[0] == EVENTS
        events = [("model", {"model": whole["model"]}), *(("item", item) for item in wanted), ("done", end)]
        assert read_events(answer.text) == events
        first, *others = responses = await by_grpc(service, message(BODY))
        assert who(first) == whole["model"]
        assert not any(other.HasField("model") for other in others)
        told = [{"index": one.index, **as_rest(one.result, "prediction")} for one in responses]
        for one in told:  # the place is of the stream's request
            if "error" in one:
                one["error"]["pointer"] = one["error"]["pointer"].replace("#/predict/", "#/", 1)
        assert [{**prune(one), "index": one["index"]} for one in told] == [
            {**prune(one), "index": one["index"]} for one in wanted
        ]


async def test_translations_come_alike() -> None:
    body = {"texts": ["two dogs", "", "a cat"], "alignment": True}
    async with serving() as service:
        place = "/v1/models/echo/versions/1:translate"
        whole = (await service.rest.post(place, json=body)).json()
        answer = await service.rest.post(place, json=body, headers={"Accept": LINES})
        _, *items, _ = read_lines(answer.text)
        assert items == [{"index": n, **item} for n, item in enumerate(whole["translations"])]
        asked = {"model": {"name": "echo"}, "texts": body["texts"], "options": {"alignment": True}}
        request = translation_pb2.TranslateStreamRequest(translate=asked)
        responses = await by_grpc(service, request)
        assert [one.index for one in responses] == [0, 1, 2]
        shown = [as_rest(one.result, "translation") for one in responses]
        assert shown[0]["alignment"] == whole["translations"][0]["alignment"]
        assert [one.get("text") for one in shown] == ["two dogs", None, "a cat"]
        assert shown[1]["error"]["pointer"] == "#/translate/texts/1"


async def test_what_is_ready_first_may_come_first() -> None:
    """By `?order=finished`, and by the message's field."""
    service: Service
    async with serving() as service:
        service.backend.slots, service.backend.seconds = 1, 0.01
        body = {"sequences": [{"x": [1] * (16 if place % 2 else 1)} for place in range(40)]}
        for order, number in (
            ("index", model_pb2.RESULT_ORDER_INDEX),
            ("finished", model_pb2.RESULT_ORDER_FINISHED),
        ):
            answer = await service.rest.post(f"{PLACE}?order={order}", json=body, headers={"Accept": LINES})
            by_rest = [line["index"] for line in read_lines(answer.text) if "index" in line]
            places = [one.index for one in await by_grpc(service, message(body, number))]
            for come in (by_rest, places):
                assert sorted(come) == list(range(40))
                assert (come == list(range(40))) is (order == "index")


ACCEPTED = [
    ("application/json", "application/json"),
    ("*/*", "application/json"),
    ("text/*", "application/json"),
    ("text/html", "application/json"),
    ("", "application/json"),
    (f"application/json, {LINES}", "application/json"),
    (f"{EVENTS}, application/json", "application/json"),
    (f"{EVENTS};q=0, */*", "application/json"),
    (f"{LINES};q=0", "application/json"),
    (f"{LINES};q=much", "application/json"),
    (f"{LINES};q=0.5, application/*", "application/json"),
    (f"{EVENTS};q=0.5, */*", "application/json"),
    (LINES, LINES),
    (EVENTS, EVENTS),
    (LINES.upper(), LINES),
    (f"{EVENTS}; charset=utf-8; q=0.4, {LINES};q=0.3", EVENTS),
    (f"{EVENTS};q=0.001", EVENTS),
    (f"{EVENTS}, {LINES}", LINES),
    (f"{EVENTS}, */*;q=0.9", EVENTS),
    (f"application/json;q=0.2, {LINES}; q=0.3, */*", LINES),
    (f"*/*, application/json;q=0.1, {EVENTS};q=0.2", EVENTS),
]


async def test_who_does_not_ask_for_a_stream_has_a_list() -> None:
    """By RFC 9110; a range never means one, and what is not acceptable is answered as ever."""
    async with serving() as service:
        for accept, kind in ACCEPTED:
            headers = {"Accept": accept} if accept else {}
            answer = await service.rest.post(PLACE, json=BODY, headers=headers)
            assert answer.headers["content-type"].partition(";")[0] == kind, accept
        twice = [("Accept", "text/plain"), ("Accept", EVENTS)]
        answer = await service.rest.post(PLACE, json=BODY, headers=twice)
        assert answer.headers["content-type"].startswith(EVENTS)
        other = {"instances": [{"x": [1]}]}
        answer = await service.rest.post(PLACE, json=other, headers={"Accept": LINES})
        assert answer.headers["content-type"] == "application/json"


ITEM = "predict.sequences"
REFUSED: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("EMPTY_REQUEST", {"sequences": []}, "totals", ["predict.sequences"]),
    ("TOO_MANY_ITEMS", {"sequences": [{"x": [1]}] * (MANY + 1)}, "totals", ["predict.sequences"]),
    ("UNKNOWN_HEAD", {**BODY, "heads": ["nope"]}, "totals", ["predict.heads[0]"]),
    ("MODEL_NOT_FOUND", BODY, "nope", []),
    ("WRONG_TASK", BODY, "echo", []),
    (
        "EMPTY_SEQUENCE",
        {"sequences": [{"x": []}] * 2},
        "totals",
        [f'predict.sequences[{n}].features["x"]' for n in (0, 1)],
    ),
    (
        "BACKEND_FAILED",
        {"sequences": [{"x": [666]}] * 2},
        "totals",
        ["predict.sequences[0]", "predict.sequences[1]"],
    ),
]


@pytest.mark.parametrize(("why", "body", "model", "fields"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_what_fails_before_there_is_an_item_fails_as_the_list_does(
    why: str, body: dict[str, Any], model: str, fields: list[str]
) -> None:
    """A problem with its status, and at the gRPC door a status with the places."""
    async with serving() as service:
        place = f"/v1/models/{model}:predict"
        whole = await service.rest.post(place, json=body)
        answer = await service.rest.post(place, json=body, headers={"Accept": EVENTS})
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["reason"]) == (whole.status_code, why)
        assert answer.json().get("errors") == whole.json().get("errors")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc(service, message(body, model=model))
        assert reason_of(caught.value) == why
        assert fields_of(caught.value) == fields


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the places that a failed call names."""
    from google.rpc import status_pb2

    raw = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    bad = error_details_pb2.BadRequest()
    _ = [detail.Unpack(bad) for detail in status_pb2.Status.FromString(raw).details]
    return [violation.field for violation in bad.field_violations]


async def test_an_order_that_is_none_is_refused() -> None:
    async with serving() as service:
        answer = await service.rest.post(f"{PLACE}?order=best", json=BODY, headers={"Accept": LINES})
        assert (answer.status_code, answer.json()["reason"]) == (400, "OPTION_OUT_OF_RANGE")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc(service, message(BODY, 9))
        assert reason_of(caught.value) == "OPTION_OUT_OF_RANGE"
        assert (await service.rest.post(f"{PLACE}?order=best", json=BODY)).status_code == 200


def go_on(caller: Caller) -> None:
    """Read, and fast."""
    caller.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    caller.writer.transport.resume_reading()  # type: ignore[attr-defined]


def unframed(raw: bytes) -> str:
    """Return the body of an answer that came in chunks, up to where it was cut off."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body.decode()


def whole(raw: bytes) -> list[dict[str, Any]]:
    """Return the lines of an answer that has its end."""
    assert raw.endswith(b"\r\n0\r\n\r\n")
    return read_lines(unframed(raw))


LARGE = {"sequences": [{"x": [1.0]}] * FEW, "top_k": WIDE}
LARGE_MESSAGE = sequence_pb2.PredictStreamRequest(
    predict={
        "model": {"name": "wide"},
        "sequences": [{"features": {"x": {"numbers": {"values": [1.0]}}}}] * FEW,
        "top_k": WIDE,
    }
)
CLOSE = "Connection: close\r\n"


async def test_a_slow_reader_costs_little_and_has_everything_in_the_end() -> None:
    """Two batches are computed ahead, and what the sockets hold; of the others nothing is there."""
    async with serving() as service:
        one = {**LARGE, "sequences": [{"x": [1.0]}]}
        await service.rest.post("/v1/models/wide:predict", json=one)  # what is made once
        service.begun = 0
        tracemalloc.start()
        try:
            caller = await service.slow(LARGE, headers=CLOSE)
            connections = service.started.rest._shared.connections
            await service.until(lambda: any(not one.is_writable for one in connections))  # type: ignore[attr-defined]
            await service.until(service.is_quiet)
            held, begun = tracemalloc.get_traced_memory()[0], service.begun
        finally:
            tracemalloc.stop()
        assert held < 4 * 2**20
        assert begun < FEW / 2
        go_on(caller)
        _, *items, end = whole(await caller.rest())
        assert [item["index"] for item in items] == list(range(FEW))
        assert {len(item["heads"]["label"]["top"]) for item in items} == {WIDE}
        assert end == {"done": {"items": FEW, "failed": 0}}
        assert service.begun == FEW


async def test_a_grpc_reader_is_waited_for_too() -> None:
    async with serving() as service:
        stub: Any = sequence_pb2_grpc.SequenceServiceStub(service.channel)
        call = stub.PredictStream(LARGE_MESSAGE)
        await call.read()
        await service.until(service.is_quiet)
        assert service.begun < FEW / 2
        assert [0, *await _read_all(call)] == list(range(FEW))
        assert await call.code() is grpc.StatusCode.OK


async def test_who_stops_reading_is_ended_by_its_deadline() -> None:
    """Cut off, at the REST door without an end; logged as late; and nothing goes on."""
    async with serving() as service:
        caller = await service.slow(LARGE, headers="Grpc-Timeout: 2S\r\n")
        await service.ended("DEADLINE_EXCEEDED")
        go_on(caller)
        raw = await caller.rest()
        assert not raw.endswith(b"\r\n0\r\n\r\n")
        assert b"done" not in raw
        assert service.begun < FEW / 2
    async with serving(default_timeout=2.0) as service:
        stub: Any = sequence_pb2_grpc.SequenceServiceStub(service.channel)
        call = stub.PredictStream(LARGE_MESSAGE)
        await call.read()
        await service.ended("DEADLINE_EXCEEDED")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read_all(call)
        assert reason_of(caught.value) == "DEADLINE_EXCEEDED"


async def test_a_deadline_that_comes_meanwhile_is_told_for_each_item() -> None:
    """As the list tells it: what was answered stays."""
    async with serving() as service:
        service.gate_behind(ROWS)
        headers = {"Accept": LINES, "Grpc-Timeout": "2S"}
        body = {"sequences": [{"x": [1] * 16}] * MANY}
        answer = await service.rest.post(PLACE, json=body, headers=headers)
        service.backend.gates[1].set()
        _, *items, end = read_lines(answer.text)
        told = [item.get("error", {}).get("reason", "") for item in items]
        assert 0 < told.count("") < MANY
        assert set(told) == {"", "DEADLINE_EXCEEDED"}
        assert end == {"done": {"items": MANY, "failed": MANY - told.count("")}}


@pytest.mark.parametrize("gate", [False, True], ids=["reading", "waiting"])
async def test_who_goes_is_not_computed_for(gate: bool) -> None:
    """Neither after the first answer nor before it, at either door."""
    for door in ("rest", "grpc"):
        async with serving() as service:
            service.backend.seconds = 0.01
            if gate:
                service.backend.gates[1] = asyncio.Event()
            if door == "rest":
                caller = await service.slow({"sequences": [{"x": [1] * 16}] * MANY})
                go_on(caller)
                if not gate:
                    await caller.reader.readuntil(b'"index":')
                await service.until(lambda: service.started.gateway._open._count == 1)
                caller.writer.transport.abort()
            else:
                stub: Any = sequence_pb2_grpc.SequenceServiceStub(service.channel)
                call = stub.PredictStream(message({"sequences": [{"x": [1] * 16}] * MANY}))
                reading = asyncio.create_task(call.read())
                await service.until(lambda: service.started.gateway._open._count == 1)
                if not gate:
                    await reading
                call.cancel()
                with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await reading
            await service.until(lambda: service.started.gateway._open._count == 0)
            if gate:
                service.backend.gates[1].set()
            await service.ended("CANCELLED")
            assert service.begun < MANY


async def test_who_goes_without_having_read_is_not_computed_for() -> None:
    """Nor who goes while the next answer is still to come."""
    async with serving() as service:
        caller = await service.slow(LARGE)
        connections = service.started.rest._shared.connections
        await service.until(lambda: any(not one.is_writable for one in connections))  # type: ignore[attr-defined]
        caller.writer.transport.abort()
        await service.ended("CANCELLED")
        assert service.begun < FEW / 2
    async with serving() as service:
        service.gate_behind(2 * ROWS)
        caller = await service.slow({"sequences": [{"x": [1] * 16}] * MANY})
        go_on(caller)
        await caller.reader.readuntil(b'"index":')
        await service.until(lambda: service.begun >= 2 * ROWS)
        caller.writer.transport.abort()
        await service.until(lambda: service.started.gateway._open._count == 0)
        service.backend.gates[1].set()
        await service.ended("CANCELLED")


async def test_who_has_ended_what_it_sends_reads_to_the_end() -> None:
    """RFC 9112 9.6; and a caller of HTTP/1.0 has it without chunks."""
    async with serving() as service:
        service.backend.seconds = 0.02
        caller = await service.slow({"sequences": [{"x": [1]}] * 100}, headers=CLOSE)
        caller.writer.write_eof()
        go_on(caller)
        assert whole((await caller.rest()).lstrip())[-1] == {"done": {"items": 100, "failed": 0}}
        old = Caller(*await asyncio.open_connection("127.0.0.1", service.started.rest_port))
        service.callers.callback(old.writer.close)
        body = json.dumps(BODY)
        head = f"POST {PLACE} HTTP/1.0\r\nAccept: {LINES}\r\nContent-Type: application/json\r\n"
        old.say(f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
        _, _, content = (await old.rest()).partition(b"\r\n\r\n")
        assert read_lines(content.decode())[-1] == {"done": {"items": 5, "failed": 2}}


async def test_a_connection_is_kept_behind_a_stream() -> None:
    """The next request of a pipeline is answered after the end of the one before."""
    async with serving() as service:
        caller = await service.slow(BODY)
        body = json.dumps(BODY)
        caller.say(f"POST {PLACE} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{CLOSE}")
        caller.say(f"Content-Length: {len(body)}\r\n\r\n{body}")
        go_on(caller)
        first, _, second = (await caller.rest()).partition(b"\r\n0\r\n\r\n")
        assert unframed(first + b"\r\n").count("index") == 5
        assert second.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("door", ["rest", "grpc"])
async def test_what_is_left_when_the_service_ends_is_told_so(door: str) -> None:
    """A stream that its grace is too short for ends whole, with the reason for each item."""
    async with serving(drain_seconds=0.1) as service:
        service.backend.slots, service.backend.seconds = 1, 0.05
        body = {"sequences": [{"x": [1] * 16}] * SOME}
        if door == "rest":
            caller = await service.slow(body)
            go_on(caller)
            reading: asyncio.Task[Any] = asyncio.create_task(caller.rest())
        else:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{service.started.grpc_port}")
            stub: Any = sequence_pb2_grpc.SequenceServiceStub(channel)
            call = stub.PredictStream(message(body))
            reading = asyncio.create_task(_read(call))
        await service.until(lambda: service.begun > ROWS)
    if door == "rest":
        _, *items, end = whole(await reading)
        told = [item.get("error", {}).get("reason", "") for item in items]
        assert end == {"done": {"items": SOME, "failed": told.count("DRAINING")}}
    else:
        told = [as_rest(one.result, "prediction").get("error", {}).get("reason", "") for one in await reading]
        await channel.close()
    assert len(told) == SOME
    assert 0 < told.count("") < SOME
    assert set(told) == {"", "DRAINING"}


async def _read_all(call: Any) -> list[int]:
    """Return the places of what is left of a call of which something has been read."""
    places = []
    while (response := await call.read()) is not grpc.aio.EOF:
        places.append(response.index)
    return places


async def _read(call: Any) -> list[Any]:
    return [response async for response in call]


async def test_a_fault_of_ours_is_told_in_what_has_begun(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In place of the end, or as the call's status; nothing of the fault itself; the log has it, once."""
    stream = Gateway.stream

    async def broken(self: Gateway, *args: Any) -> AsyncIterator[Any]:
        async for come in stream(self, *args):
            yield come
            raise ZeroDivisionError("the secret")

    monkeypatch.setattr(Gateway, "stream", broken)
    async with serving() as service:
        for accept in (LINES, EVENTS):
            answer = await service.rest.post(PLACE, json=BODY, headers={"Accept": accept})
            told = (
                read_lines(answer.text) if accept == LINES else [data for _, data in read_events(answer.text)]
            )
            assert told[-1]["error"].keys() == {"code", "reason", "message"}
            assert told[-1]["error"]["reason"] == "UNEXPECTED"
            assert not any("done" in line for line in told)
            assert "secret" not in answer.text
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc(service, message(BODY))
        assert reason_of(caught.value) == "UNEXPECTED"
        assert (await service.rest.get("/healthz")).status_code == 200
    assert len([record for record in caplog.records if record.exc_info]) == 3
