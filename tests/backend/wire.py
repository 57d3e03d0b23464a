"""A model server that follows a script: the wire of TensorFlow Serving, every answer scripted.

For what the real one is not made to do on demand: hang, answer rubbish, disagree with its replica.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import Int64Value

from seqserve.service.backend.tensors import to_wire
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.padding import Array
from seqserve.tfserving.predict_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
    StatusProto,
)

AVAILABLE = ModelVersionStatus.AVAILABLE


class Refuses(Exception):
    """What a scripted answer raises to end a call with a code."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(details)
        self.code, self.details = code, details


GONE = Refuses(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 1)")


def answer(request: PredictRequest, **outputs: Array) -> PredictResponse:
    """Answer a call as the version that it names."""
    spec = ModelSpec(name=request.model_spec.name, version=request.model_spec.version)
    return PredictResponse(model_spec=spec, outputs={name: to_wire(value) for name, value in outputs.items()})


def doubled(request: PredictRequest) -> PredictResponse:
    """Answer y = 2 x."""
    x = np.frombuffer(request.inputs["x"].tensor_content, np.float32)
    return answer(request, y=2 * x)


@dataclass
class Held:
    """A scripted model that takes calls in and answers them once its gate is open."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: PredictRequest) -> PredictResponse:
        """Wait, then answer y = 0."""
        self.entered.set()
        await self.gate.wait()
        return answer(request, y=np.zeros(2, np.float32))


@dataclass
class Script:
    """What the server has and says. `predict` may return bytes, to send those."""

    manifests: dict[int, bytes | Refuses] = field(default_factory=lambda: {1: b"one"})
    states: dict[int, tuple[int, int]] = field(default_factory=dict)  # version: state and error code
    labels: dict[str, int] = field(default_factory=dict)
    predict: Callable[[PredictRequest], Any] = doubled
    calls: list[tuple[PredictRequest, float | None]] = field(default_factory=list)
    port: int = 0

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        """List the versions, newest first."""
        if request.model_spec.name != "m":
            raise Refuses(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model")
        states = dict.fromkeys(self.manifests, (AVAILABLE, 0)) | self.states
        return GetModelStatusResponse(
            model_version_status=[
                ModelVersionStatus(version=number, state=state, status=StatusProto(error_code=code))
                for number, (state, code) in sorted(states.items(), reverse=True)
            ]
        )

    def manifest(self, request: PredictRequest) -> PredictResponse:
        """Answer the manifest signature, by version or label."""
        spec = request.model_spec
        if spec.version_label and spec.version_label not in self.labels:
            raise Refuses(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: x")
        number = self.labels[spec.version_label] if spec.version_label else spec.version.value
        gone = Refuses(GONE.code, f"Servable not found for request: Specific({spec.name}, {number})")
        content = self.manifests.get(number, gone)
        if isinstance(content, Refuses):
            raise content
        reply = answer(
            request, names=np.array([FILE_NAME.encode()], object), contents=np.array([content], object)
        )
        reply.model_spec.version.CopyFrom(Int64Value(value=number))
        return reply


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, script: Script) -> None:
        self.script = script

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        called = {"Predict": self.on_predict, "GetModelStatus": self.on_status}
        return grpc.unary_unary_rpc_method_handler(called[details.method.rpartition("/")[2]])

    async def on_status(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await self.end(context, self.script.status, GetModelStatusRequest.FromString(data))

    async def on_predict(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        request = PredictRequest.FromString(data)
        if request.model_spec.signature_name == "manifest":
            return await self.end(context, self.script.manifest, request)
        self.script.calls.append((request, context.time_remaining()))
        return await self.end(context, self.script.predict, request)

    async def end(self, context: grpc.aio.ServicerContext, function: Any, request: Any) -> bytes:
        try:
            reply = function(request)
            reply = await reply if asyncio.iscoroutine(reply) else reply
        except Refuses as refused:
            await context.abort(refused.code, refused.details)
        return reply if isinstance(reply, bytes) else reply.SerializeToString()


@asynccontextmanager
async def server(
    script: Script, credentials: grpc.ServerCredentials | None = None, grace: float | None = None
) -> AsyncIterator[str]:
    """Run a script on a free port, or on the one it had before; yields HOST:PORT.

    With `grace`, calls under way may end while the connection is already given up.
    """
    running = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    running.add_generic_rpc_handlers((_Handler(script),))
    address = f"127.0.0.1:{script.port}"  # a name may stand for two addresses, and a port be free on one
    bound = (
        running.add_insecure_port(address)
        if credentials is None
        else running.add_secure_port(address, credentials)
    )
    script.port = bound
    await running.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await running.stop(grace)
