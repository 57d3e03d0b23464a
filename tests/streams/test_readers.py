"""Streams by sockets at both doors, whose readers are slow, late, or gone."""

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from seqserve.service.core.gateway import Gateway
from seqserve.v1 import (
    sequence_pb2_grpc,
)
from tests.answers import as_rest
from tests.reasons import reason_of
from tests.rest.wire import Caller
from tests.streams.served import (
    BODY,
    EVENTS,
    FEW,
    LARGE,
    LARGE_MESSAGE,
    LINES,
    MANY,
    PLACE,
    ROWS,
    SOME,
    WIDE,
    by_grpc,
    message,
    read_events,
    read_lines,
    serving,
)

CLOSE = "Connection: close\r\n"


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
