"""Calls as the gateway makes them: its own messages, by explicit path, on a plain channel."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np

from seqserve.tfserving import predict_pb2 as pb

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
SECONDS = 20.0
"""Long enough for every step of a server that looks at its folders each second."""
LISTS = {
    "float32": (pb.DT_FLOAT, "float_val"),
    "float64": (pb.DT_DOUBLE, "double_val"),
    "int32": (pb.DT_INT32, "int_val"),
    "int64": (pb.DT_INT64, "int64_val"),
    "bool": (pb.DT_BOOL, "bool_val"),
    "string": (pb.DT_STRING, "string_val"),
}
T = TypeVar("T")
Versions = dict[int, pb.ModelVersionStatus]
State = pb.ModelVersionStatus.State


def tensor(value: Any, dtype: str = "float32") -> pb.TensorProto:
    """Return what the gateway sends: the bytes of numbers, a list of strings."""
    array = np.asarray(value, object if dtype == "string" else dtype)
    proto = pb.TensorProto(dtype=LISTS[dtype][0])
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if dtype == "string":
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


def entries(proto: pb.TensorProto) -> list[Any]:
    """Return the typed list of a tensor, whole: one entry for each cell."""
    assert not proto.tensor_content
    return list(getattr(proto, dict(LISTS.values())[proto.dtype]))


@dataclass(frozen=True)
class Call:
    """A Predict of `demo`, unless said otherwise."""

    inputs: dict[str, pb.TensorProto] = field(
        default_factory=lambda: {"a": tensor([1, 2]), "b": tensor([3, 4])}
    )
    signature: str = ""
    model: str = "demo"
    version: int | None = None
    label: str | None = None
    outputs: tuple[str, ...] = ()
    spec: bool = True

    def message(self) -> pb.PredictRequest:
        """Return the request."""
        request = pb.PredictRequest(inputs=self.inputs, output_filter=self.outputs)
        if self.spec:
            request.model_spec.CopyFrom(pb.ModelSpec(name=self.model, signature_name=self.signature))
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.label is not None:
            request.model_spec.version_label = self.label
        return request


class Client:
    """The server under test."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def predict(self, call: Call, seconds: float = SECONDS) -> pb.PredictResponse:
        """Answer a call."""
        return pb.PredictResponse.FromString(self.raw(PREDICT, call.message().SerializeToString(), seconds))

    def raw(self, path: str, data: bytes, seconds: float | None = SECONDS) -> bytes:
        """Send bytes."""
        return self._channel.unary_unary(path)(data, timeout=seconds)

    def statuses(self, model: str, **spec: Any) -> list[pb.ModelVersionStatus]:
        """List a model's versions as the server orders them."""
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model, **spec))
        data = self.raw(STATUS, request.SerializeToString())
        return list(pb.GetModelStatusResponse.FromString(data).model_version_status)

    def versions(self, model: str) -> Versions:
        """Return a model's versions by number."""
        return {status.version: status for status in self.statuses(model)}

    def number(self, **spec: Any) -> int:
        """Ask a version for its number, as written into it, and check that the answer names it."""
        response = self.predict(Call({}, "manifest", **spec))
        (number,) = entries(response.outputs["number"])
        assert response.model_spec.version.value == number
        return number

    def until(self, model: str, reached: Callable[[Versions], bool]) -> list[Versions]:
        """Look until it is so, for SECONDS at most; return what was seen, in order."""
        return until(lambda: self.versions(model), reached)


def refusal(call: Callable[[], Any]) -> Any:
    """Return the error that a call ends with: a grpc.RpcError that is a grpc.Call too."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("answered")


def until(look: Callable[[], T], reached: Callable[[T], bool]) -> list[T]:
    """Look until it is so, for SECONDS at most; return what was seen, in order."""
    seen: list[T] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        seen.append(look())
        if reached(seen[-1]):
            return seen
        time.sleep(0.005)
    raise AssertionError(f"not so after {SECONDS} s: {seen[-1]}")
