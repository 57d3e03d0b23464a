"""What TensorFlow Serving says to each mistake that a gateway can make."""

from typing import Any

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from seqserve.tfserving import predict_pb2 as pb
from tests.conformance.calls import PREDICT, STATUS, Call, Client, refusal, tensor

VERSION_77 = pb.ModelSpec(name="demo", version={"value": 77})
A, B = tensor([1, 2]), tensor([3, 4])
CODES: dict[str, tuple[Call, StatusCode]] = {
    "no model_spec": (Call(spec=False), StatusCode.INVALID_ARGUMENT),
    "no name": (Call(model=""), StatusCode.INVALID_ARGUMENT),
    "unknown model": (Call(model="nope"), StatusCode.NOT_FOUND),
    "unknown version": (Call(version=77), StatusCode.NOT_FOUND),
    "unknown label": (Call(label="nope"), StatusCode.INVALID_ARGUMENT),
    "unknown label, no inputs": (Call({}, "manifest", label="nope"), StatusCode.INVALID_ARGUMENT),
    "label of an unknown model": (Call(model="nope", label="stable"), StatusCode.INVALID_ARGUMENT),
    "unknown signature": (Call(signature="zzz"), StatusCode.FAILED_PRECONDITION),
    "missing input": (Call({"a": A}), StatusCode.INVALID_ARGUMENT),
    "extra input": (Call({"a": A, "b": B, "c": B}), StatusCode.INVALID_ARGUMENT),
    "misnamed input": (Call({"a": A, "q": B}), StatusCode.INVALID_ARGUMENT),
    "wrong dtype": (Call({"a": tensor([1, 2], "float64"), "b": B}), StatusCode.INVALID_ARGUMENT),
    "shape that cannot be computed": (Call({"a": tensor([1, 2, 3]), "b": B}), StatusCode.INVALID_ARGUMENT),
    "failing assert": (Call({"x": tensor([11])}, "checked"), StatusCode.INVALID_ARGUMENT),
    "unknown output": (Call(outputs=("nope",)), StatusCode.INVALID_ARGUMENT),
    "output asked twice": (Call(outputs=("sum", "sum")), StatusCode.INVALID_ARGUMENT),
}
MESSAGES = {
    "unknown model": "Servable not found for request: Latest(nope)",
    "unknown version": "Servable not found for request: Specific(demo, 77)",
    "unknown label": "Unrecognized servable version label: nope",
    "unknown signature": 'Serving signature key "zzz" not found.',
}


def bad_tensor(**fields: Any) -> pb.TensorProto:
    """Return two floats, changed."""
    proto = pb.TensorProto()
    proto.CopyFrom(A)
    for name, value in fields.items():
        setattr(proto, name, value)
    return proto


def negative() -> pb.TensorProto:
    """Return a tensor with -1 rows."""
    proto = bad_tensor()
    proto.tensor_shape.dim[0].size = -1
    return proto


def assert_bare(error: Any) -> None:
    """No trailing metadata comes with an error."""
    assert not error.trailing_metadata()


@pytest.mark.parametrize("mistake", CODES)
def test_each_mistake_has_its_code(client: Client, mistake: str) -> None:
    """A call that is wrong ends with the code that the gateway's table has for it, and with no metadata."""
    call, code = CODES[mistake]
    error = refusal(lambda: client.predict(call))
    assert error.code() is code, error.details()
    assert_bare(error)


@pytest.mark.parametrize("mistake", MESSAGES)
def test_messages_that_are_read_are_exact(client: Client, mistake: str) -> None:
    """Where a code does not tell two mistakes apart, the message does."""
    assert refusal(lambda: client.predict(CODES[mistake][0])).details() == MESSAGES[mistake]


@pytest.mark.parametrize(
    "proto",
    [bad_tensor(tensor_content=b"123"), negative(), pb.TensorProto(), bad_tensor(dtype=pb.DT_INVALID)],
    ids=["content of a wrong size", "dimension -1", "empty", "no type"],
)
def test_a_tensor_that_cannot_be_parsed_is_named(client: Client, proto: pb.TensorProto) -> None:
    """A tensor that is malformed is refused before anything runs, and the message names the input."""
    error = refusal(lambda: client.predict(Call({"a": proto, "b": B})))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert error.details() == "tensor parsing error: a"


def test_garbage_is_internal(client: Client) -> None:
    """Bytes that are no request are INTERNAL: no mistake of the model's."""
    error = refusal(lambda: client.raw(PREDICT, b"\xff\xff\xff"))
    assert (error.code(), error.details()) == (StatusCode.INTERNAL, "")


@pytest.mark.parametrize("path", ["/tensorflow.serving.PredictionService/Nope", "/nope.Nope/Nope"])
def test_an_unknown_method_is_unimplemented(client: Client, path: str) -> None:
    """A method or service that is not there is UNIMPLEMENTED."""
    error = refusal(lambda: client.raw(path, b""))
    assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, "")


def test_long_messages_are_cut(client: Client) -> None:
    """A message ends after 1,024 bytes and says so."""
    details = refusal(lambda: client.predict(CODES["failing assert"][0])).details()
    assert len(details) == 1024 + len("...TRUNCATED")
    assert details.endswith("...TRUNCATED")


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (pb.ModelSpec(name="nope"), StatusCode.NOT_FOUND, "Could not find any versions of model nope"),
        (VERSION_77, StatusCode.NOT_FOUND, "Could not find version 77 of model demo"),
        (None, StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"),
    ],
    ids=["unknown model", "unknown version", "no model_spec"],
)
def test_a_status_of_nothing_is_refused(
    client: Client, spec: pb.ModelSpec | None, code: StatusCode, message: str
) -> None:
    """GetModelStatus knows no model or version that was never there."""
    data = pb.GetModelStatusRequest(model_spec=spec).SerializeToString()
    error = refusal(lambda: client.raw(STATUS, data))
    assert (error.code(), error.details()) == (code, message)
    assert_bare(error)


@pytest.mark.parametrize("service", ["", "PredictionService"])
def test_health_is_serving(client: Client, service: str) -> None:
    """The standard health service says SERVING, for the server and for the service's short name."""
    data = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    answer = health_pb2.HealthCheckResponse.FromString(client.raw("/grpc.health.v1.Health/Check", data))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_knows_no_other_name(client: Client) -> None:
    """The service's full name is not known to it."""
    data = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService").SerializeToString()
    assert refusal(lambda: client.raw("/grpc.health.v1.Health/Check", data)).code() is StatusCode.NOT_FOUND


def test_an_endless_run_ends_at_its_deadline(client: Client) -> None:
    """The call is DEADLINE_EXCEEDED, by gRPC or by TensorFlow, whichever is first."""
    error = refusal(lambda: client.predict(Call({"x": tensor([1])}, "endless"), seconds=0.1))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED


def test_a_deadline_stops_the_run(client: Client) -> None:
    """After more endless calls than the server has threads, it has threads: each was stopped."""
    call = Call({"x": tensor([1])}, "endless")
    for _ in range(20):
        error = refusal(lambda: client.predict(call, seconds=0.05))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED, error.details()
    assert client.predict(Call(), seconds=2).outputs
