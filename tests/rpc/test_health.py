"""Health over real connections: what is told, to whom, and that nobody waits for one who does not read."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rpc.http2 import DATA, NO_WINDOW, Caller
from tests.rpc.test_server import CODE, failed, predict

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
WATCH = b"/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"


def watch(channel: grpc.aio.Channel, service: str = "") -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)


async def test_a_watcher_that_does_not_read_harms_nobody_and_is_dropped(start: Any) -> None:
    world = await start(watcher_patience=0.2)
    async with asyncio.timeout(20), Caller(world.port, NO_WINDOW) as silent, Caller(world.port) as other:
        for caller in (silent, other):
            caller.send(caller.begin(WATCH), b"")
        await other.hear(DATA, 1)
        reading = watch(world.channel)
        assert (await reading.read()).status == SERVING
        world.gateway.leave()
        world.server.publish()
        assert (await reading.read()).status == NOT_SERVING
        await silent.ended()
        await other.hear(DATA, 1)  # the same address, another connection
        assert (await world.channel.unary_unary(CHECK)(b""))[1] == NOT_SERVING
        reading.cancel()


async def test_one_who_does_not_read_does_not_keep_the_server_from_stopping(start: Any) -> None:
    world = await start(watcher_patience=1000.0)
    async with asyncio.timeout(20), Caller(world.port, NO_WINDOW) as silent:
        silent.send(silent.begin(WATCH), b"")
        assert (await watch(world.channel).read()).status == SERVING
        await world.server.stop(10.0)
        await silent.ended()


async def test_a_watcher_hears_the_last_of_what_it_missed(start: Any) -> None:
    world = await start()
    reading = watch(world.channel, "model/echo")
    assert (await reading.read()).status == SERVING
    versions = world.backend.contents["echo"]
    for contents in ({1: None}, versions, {1: None}, versions):
        world.backend.contents["echo"] = contents
        await world.catalog.refresh()
    world.backend.contents["echo"] = {1: None}
    await world.catalog.refresh()
    heard = [(await reading.read()).status]
    while heard[-1] != NOT_SERVING:
        heard.append((await reading.read()).status)
    assert len(heard) <= 5
    reading.cancel()


async def test_as_many_watch_as_may(start: Any) -> None:
    world = await start(grpc_calls=4)
    watching = [watch(world.channel) for _ in range(2)]
    assert [(await one.read()).status for one in watching] == [SERVING] * 2
    refusal = await failed(watch(world.channel).read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    watching[0].cancel()
    while (again := watch(world.channel)) and await status_of(again) is None:
        pass  # until the server has heard of the cancel
    for one in (again, *watching):
        one.cancel()


async def status_of(watching: Any) -> int | None:
    try:
        return int((await watching.read()).status)
    except grpc.aio.AioRpcError:
        return None


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_what_does_not_parse_is_the_callers_fault(
    start: Any, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = await start()
    call: Any = world.channel.unary_stream(f"/grpc.health.v1.Health/{method}")(b"\xff secret")
    refusal = await failed(call.read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert caplog.text == ""


async def test_health_follows_the_models(start: Any, translation_files: dict[str, bytes]) -> None:
    world = await start()
    stub: Any = health_pb2_grpc.HealthStub(world.channel)

    async def check(service: str) -> int:
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)

    for service in ("", "seqserve.v1.TranslationService", "seqserve.v1.SequenceService", "model/echo"):
        assert await check(service) == SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check("model/new")
    assert caught.value.code() is CODE.NOT_FOUND

    watch = stub.Watch(health_pb2.HealthCheckRequest(service="model/new"), timeout=20)
    assert (await watch.read()).status == SERVICE_UNKNOWN
    for contents, status in (({1: None}, NOT_SERVING), ({1: translation_files}, SERVING)):
        world.backend.contents["new"] = contents
        await world.catalog.refresh()
        assert (await watch.read()).status == status
    del world.backend.contents["new"]
    await world.catalog.refresh()
    assert (await watch.read()).status == SERVICE_UNKNOWN
    watch.cancel()


async def test_leaving_is_announced_before_calls_are_refused(start: Any) -> None:
    world = await start()
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
    assert (await watch.read()).status == SERVING
    world.gateway.leave()
    world.server.publish()
    assert (await watch.read()).status == NOT_SERVING
    await world.catalog.refresh()  # does not bring it back
    await world.sequence.Predict(predict({}))
    await world.gateway.drain(1)
    refusal = await failed(world.sequence.Predict(predict({})))
    assert (refusal.reason, refusal.code) == ("DRAINING", CODE.UNAVAILABLE)
    assert refusal.retry.seconds == 1
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    watch.cancel()
