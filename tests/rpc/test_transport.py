"""What the gRPC door takes of its transport: callers who are many, slow, large, or no grpc client at all."""

import asyncio
import collections
import gc
import logging
from typing import Any

import grpc
import pytest

from seqserve.service import errors
from seqserve.service.edge.access_log import ACCESS
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.rpc import reading
from seqserve.service.rpc.calls import Calls
from seqserve.v1 import model_pb2
from tests.rpc.http2 import DATA, HEADERS, NO_WINDOW, PATH, Caller
from tests.rpc.test_server import failed, predict

CODE = grpc.StatusCode
GET = b"/seqserve.v1.ModelService/GetModel"
CHECK, WATCH = b"/grpc.health.v1.Health/Check", b"/grpc.health.v1.Health/Watch"
LIST = model_pb2.ListModelsRequest()


async def code(call: Any) -> tuple[CODE, str]:
    """Return how a call ended, and in what words."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return CODE.OK, ""


async def test_a_path_that_is_no_utf_8_is_a_method_that_does_not_exist(start: Any) -> None:
    world = await start()
    async with asyncio.timeout(20), Caller(world.port) as caller:
        caller.send(caller.begin(b"/seqserve.v1.ModelService/\xff\xfe"), b"")
        assert b"grpc-status\x0212" in await caller.hear(HEADERS, 1)
        caller.send(caller.begin(), b"")
        assert b"tickets" in await caller.hear(DATA, 3)
    assert (await code(world.model.ListModels(LIST)))[0] is CODE.OK


async def test_nothing_that_a_caller_sent_as_metadata_is_logged(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = await start()
    async with asyncio.timeout(20), Caller(world.port) as caller:
        for name in (b"x-request-id", b"authorization", b"x-other", b"x-\xff"):
            stream = caller.begin(PATH, [(name, b"\xff secret")])
            caller.send(stream, b"")
            await caller.hear(HEADERS, stream)
    assert caplog.text == ""


async def test_metadata_is_taken_up_to_the_limit_and_refused_beyond(start: Any) -> None:
    world = await start(max_metadata_bytes=16_384)
    fits = world.model.ListModels(LIST, metadata=(("x-a", "v" * 16_384),))
    assert (await code(fits))[0] is CODE.OK
    beyond = world.model.ListModels(LIST, metadata=(("x-a", "v" * 20_000),))
    assert (await code(beyond))[0] is CODE.RESOURCE_EXHAUSTED


async def test_thousands_of_calls_at_once_are_answered(start: Any) -> None:
    """By default grpc cancels some of what waits to be taken in, past a thousand."""
    world = await start()
    async with asyncio.timeout(60), Caller(world.port) as caller:
        streams = [caller.begin(GET) for _ in range(1300)]
        for stream in streams:
            caller.send(stream, b"\x0a\x04echo")
        for stream in streams:
            assert b"echo" in await caller.hear(DATA, stream)


async def test_calls_that_come_together_are_taken_in_together(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one they would keep grpc's thread and the event loop busy, and leave in small batches."""
    world, loop = await start(), asyncio.get_running_loop()
    turn, begun, begin = 0, collections.Counter[int](), Calls.begin

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    def counted(self: Calls, *, ends: bool) -> None:
        begun[turn] += 1
        begin(self, ends=ends)

    monkeypatch.setattr(Calls, "begin", counted)
    async with asyncio.timeout(20), Caller(world.port) as caller:
        streams = [caller.begin(GET) for _ in range(12)]
        for stream in streams:
            caller.send(stream, b"\x0a\x04echo")
        caller.settle()
        count()
        for stream in streams:
            assert b"echo" in await caller.hear(DATA, stream)
    assert max(begun.values()) > 1


async def test_calls_past_the_limit_are_refused_until_others_have_ended(start: Any) -> None:
    world = await start(grpc_calls=2)
    world.backend.gate.clear()
    async with asyncio.timeout(20):
        held = []
        for _ in range(2):
            world.backend.entered.clear()
            held.append(world.sequence.Predict(predict({})))
            await world.backend.entered.wait()
        refusal = await failed(world.model.ListModels(LIST))
        assert (refusal.reason, refusal.code) == ("RATE_LIMITED", CODE.RESOURCE_EXHAUSTED)
        assert "SEQSERVE_GRPC_CALLS" in refusal.message
        assert refusal.retry.seconds == 1
        world.backend.gate.set()
        await asyncio.gather(*held)
        while (await code(world.model.ListModels(LIST)))[0] is not CODE.OK:
            pass  # until the server has seen them end


async def test_slow_requests_give_way_to_others_where_they_could_become_too_large(start: Any) -> None:
    world = await start(body_bytes_in_flight=2000, grpc_message_bytes=1000)  # room for two
    async with asyncio.timeout(20), Caller(world.port) as caller:
        for _ in range(5):
            caller.send(caller.begin(), b"", declared=900)
        await caller.hear_texts(HEADERS, b"body_bytes_in_flight", 3)
        caller.send(caller.begin(GET), b"\x0a\x04echo")
        assert b"echo" in await caller.hear(DATA, 11)
        await caller.hear_texts(HEADERS, b"body_bytes_in_flight", 4)
    assert world.in_flight.used <= 2000


@pytest.mark.parametrize("path", [GET, CHECK, WATCH])
async def test_a_request_has_its_time_to_come(start: Any, path: bytes) -> None:
    world = await start(body_seconds=0.05)
    async with asyncio.timeout(10), Caller(world.port) as caller:
        caller.send(caller.begin(path), b"", declared=900)
        await caller.hear(HEADERS, 1)
        assert b"has not come in 0.05 s" in await caller.hear(HEADERS, 1)


async def test_who_gives_way_just_as_the_time_is_over_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLOW", 0.0)
    in_flight = BytesInFlight(1000)

    class Context:
        async def read(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # the time is over, and the reader does not know it yet
                in_flight.hold().add(1)
                raise

    context: Any = Context()
    with pytest.raises(errors.RequestTimeout):
        async with reading.Reader(in_flight, 1000, 0.01).request(context):
            pass
    assert in_flight.used == 1


async def test_a_call_without_a_request_is_malformed(start: Any) -> None:
    world = await start()
    call: Any = world.channel.stream_unary("/seqserve.v1.ModelService/ListModels")(iter(()))
    refusal = await failed(call)
    assert (refusal.reason, refusal.code) == ("MALFORMED_MESSAGE", CODE.INVALID_ARGUMENT)


async def test_calls_that_are_cancelled_leave_no_trace_in_the_log(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = await start()
    caplog.clear()
    async with asyncio.timeout(20):
        for turn in range(60):
            calls = [world.sequence.Predict(predict({})) for _ in range(5)]
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
        await world.server.stop(5.0)
    assert [record.name for record in caplog.records if record.name != ACCESS.name] == []


async def test_an_answer_that_is_not_taken_is_let_go_with_its_caller(start: Any) -> None:
    world = await start()
    async with asyncio.timeout(20):
        async with Caller(world.port, NO_WINDOW) as silent:
            silent.send(silent.begin(GET), b"\x0a\x04echo")
            await silent.hear(HEADERS, 1)
        await world.server.stop(1000.0)


async def test_no_call_is_cancelled_by_a_stop(start: Any) -> None:
    """What was sent before is answered; what comes later is UNAVAILABLE, as is safe to try again."""
    world = await start()
    warm = asyncio.Event()
    seen: collections.Counter[CODE] = collections.Counter()
    early = [asyncio.create_task(code(world.sequence.Predict(predict({})))) for _ in range(20)]

    async def calls() -> None:
        while seen[CODE.UNAVAILABLE] < 50:
            seen[(await code(world.model.ListModels(LIST)))[0]] += 1
            if seen[CODE.OK] == 50:
                warm.set()

    async with asyncio.timeout(20):
        callers = [asyncio.create_task(calls()) for _ in range(20)]
        await warm.wait()
        await world.gateway.drain(5.0)
        await world.server.stop(1000.0)  # who calls again and again does not keep it
        await asyncio.gather(*callers)
    assert set(seen) == {CODE.OK, CODE.UNAVAILABLE}
    assert {await one for one in early} == {(CODE.OK, "")}


async def test_nothing_of_a_refused_request_waits_for_the_collector(start: Any) -> None:
    """Else a few large ones fill the memory."""
    world = await start()
    world.gateway.ended = Unheard()
    request = predict({"minutes": None}, {"secret": {}})
    assert (await failed(world.sequence.Predict(request))).reason == "MISSING_FEATURE"
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            assert (await failed(world.sequence.Predict(request))).reason == "MISSING_FEATURE"
        kept = [found for found in gc.get_objects() if isinstance(found, errors.MissingFeature)]
    finally:
        gc.enable()
    assert kept == []


class Unheard:
    """Stands for the queue of a gateway whose requests nobody waits for, which would keep their errors."""

    def put_nowait(self, ended: object) -> None:
        """Forget how a request ended."""
