"""What every gRPC call crosses: methods of ours, of health, of reflection, streams among them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from seqserve.service import errors
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.rpc.accepting import Server
from seqserve.service.rpc.calls import Calls
from seqserve.service.rpc.edge import Edge, Watch
from seqserve.service.rpc.reading import Reader
from seqserve.service.settings import Settings
from seqserve.v1 import model_pb2
from tests.edge.fakes import open_entrance
from tests.rpc.test_server import failed

OURS = {"metadata": (("x-request-id", "mine-7"),), "timeout": 20}


async def id_of(call: Any) -> Any:
    return dict(await call.initial_metadata()).get("x-request-id")


async def test_every_kind_of_method_has_an_id(start: Any) -> None:
    world = await start()
    health: Any = health_pb2_grpc.HealthStub(world.channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    listing = reflection_pb2.ServerReflectionRequest(list_services="")
    calls = [
        world.model.ListModels(model_pb2.ListModelsRequest(), **OURS),
        health.Check(health_pb2.HealthCheckRequest(), **OURS),
        health.Watch(health_pb2.HealthCheckRequest(), **OURS),
        reflection.ServerReflectionInfo(iter([listing]), **OURS),
    ]
    assert [await id_of(call) for call in calls] == ["mine-7"] * len(calls)
    for call in calls:
        call.cancel()
    made = await id_of(health.Check(health_pb2.HealthCheckRequest()))
    assert len(made) == 32


async def test_a_name_that_health_does_not_know_is_refused_with_its_reason(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = await start()
    health: Any = health_pb2_grpc.HealthStub(world.channel)
    refusal = await failed(health.Check(health_pb2.HealthCheckRequest(service="none")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert caplog.records == []


async def test_reflection_is_asked_little_at_once(start: Any) -> None:
    world = await start()
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services=size * "x") for size in (60_000, 65_536)]
    answers = reflection.ServerReflectionInfo(iter(asked), timeout=20)
    assert (await answers.read()).list_services_response.service
    refusal = await failed(answers.read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


async def streamed(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Answer once, then fail as the request says."""
    async for request in requests:
        yield b"one"
        raise errors.NotReady("no more", retry_after=3.0) if b"ours" in request else ValueError("the secret")


async def written(request: model_pb2.GetModelRequest, context: Any) -> None:
    """The same, as a method of ours that is watched."""
    await context.write(b"one")
    raise errors.NotReady("no more", retry_after=3.0) if request.name == "ours" else ValueError("the secret")


FOREIGN = grpc.stream_stream_rpc_method_handler(streamed, bytes)
WATCH = Watch(model_pb2.GetModelRequest, lambda request: request, written)


@pytest.mark.parametrize("handler", [FOREIGN, WATCH])
@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [(b"\x0a\x04ours", "UNAVAILABLE", "NOT_READY"), (b"\x0a\x03bug", "INTERNAL", "UNEXPECTED")],
)
async def test_a_stream_that_breaks_has_the_form_of_errors(
    handler: Any, request_: bytes, code: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What came before the fault has been sent; the fault is a status with details."""
    edge = Edge(open_entrance(), Calls(8), Reader(BytesInFlight(10**6), 10**6, 30.0), Settings())
    server = Server(edge.around, ())
    server.add_registered_method_handlers("tests.Streams", {"Stream": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
        call: Any = channel.unary_stream("/tests.Streams/Stream")(request_)
        assert await call.read() == b"one"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    await server.stop(0)
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert (caught.value.code().name, info.reason) == (code, reason)
    assert "the secret" not in str(caught.value)
    assert ("the secret" in caplog.text) is (reason == "UNEXPECTED")
