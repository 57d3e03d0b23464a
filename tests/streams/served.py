"""A service whose answers come as they are ready, for the tests of streams: asked, and read, by hand."""

import asyncio
import json
import math
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import grpc
import httpx
import numpy as np

from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.padding import Array
from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from seqserve.v1 import (
    sequence_pb2,
    sequence_pb2_grpc,
    translation_pb2,
    translation_pb2_grpc,
)
from tests.core.fakes import FakeBackend, as_files, sequence_manifest, series
from tests.fuzz import world
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
        """Ask, and read nothing; who then breaks off has not merely ended what it sends."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
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


LARGE = {"sequences": [{"x": [1.0]}] * FEW, "top_k": WIDE}
LARGE_MESSAGE = sequence_pb2.PredictStreamRequest(
    predict={
        "model": {"name": "wide"},
        "sequences": [{"features": {"x": {"numbers": {"values": [1.0]}}}}] * FEW,
        "top_k": WIDE,
    }
)
