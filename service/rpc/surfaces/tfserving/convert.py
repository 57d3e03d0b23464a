"""TensorFlow Serving's messages to what surfaces share, and back: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.backend.tensors import FIELDS, from_wire, to_wire
from seqserve.service.core.standing import VersionReport
from seqserve.service.core.types import ModelRef
from seqserve.service.status import grpc_status
from seqserve.service.surfaces.tensors import Described, Kind, Rows, Tensor, check_shape
from seqserve.service.surfaces.tfserving import DTYPES, STATES
from seqserve.tfserving import predict_pb2 as pb

LONGEST_SHOWN = 60


def model_ref(spec: pb.ModelSpec) -> ModelRef:
    """Return the model that a spec names."""
    match spec.WhichOneof("version_choice"):
        case "version":
            return ModelRef(spec.name, version=spec.version.value)
        case "version_label":
            return ModelRef(spec.name, label=spec.version_label)
    return ModelRef(spec.name)


def spec(model: str, version: int, signature: str) -> pb.ModelSpec:
    """Return which version answered."""
    return pb.ModelSpec(name=model, version={"value": version}, signature_name=signature)


def rows(name: str, message: pb.TensorProto) -> Sequence[Any]:
    """Return a tensor's rows.

    Raises:
        MalformedTensor: its entries do not fill its shape, or it is none that a feature has.
    """
    shown, shape = name[:LONGEST_SHOWN], tuple(dim.size for dim in message.tensor_shape.dim)
    if message.dtype not in FIELDS or message.tensor_shape.unknown_rank:
        wanted = "DT_STRING, DT_FLOAT, DT_DOUBLE, DT_INT32, DT_INT64 or DT_BOOL, and a shape, are wanted"
        raise errors.MalformedTensor(f"{shown!r}: {wanted}", path=(shown,))
    field, dtype = FIELDS[message.dtype]
    listed = len(getattr(message, field))
    if message.dtype == pb.DT_STRING:
        return Rows(name, Tensor(Kind.TEXT, shape, _texts(shown, message.string_val)))
    held = len(message.tensor_content) // np.dtype(dtype).itemsize if message.tensor_content else listed
    check_shape(name, Kind.NUMBER, shape, held)  # else few entries would be repeated to fill a large one
    try:
        return Rows(name, Tensor(Kind.NUMBER, shape, from_wire(message).reshape(-1)))
    except ValueError as error:
        raise errors.MalformedTensor(f"{shown!r}: {error}", path=(shown,)) from error


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise errors.MalformedTensor(f"{name!r}: a text is not UTF-8", path=(name,)) from None


def tensor(filled: Tensor) -> pb.TensorProto:
    """Return a tensor as the message; text is UTF-8."""
    if isinstance(filled.values, list):
        values = np.array([value.encode() for value in filled.values], object)
        return to_wire(values.reshape(filled.shape))
    return _listed(filled.values)


def _listed(values: Any) -> pb.TensorProto:
    """Return numbers as the typed list that their clients expect, not as bytes."""
    message = to_wire(values)
    field, _ = FIELDS[message.dtype]
    message.ClearField("tensor_content")
    getattr(message, field).extend(values.reshape(-1).tolist())
    return message


def infos(described: Mapping[str, Described]) -> dict[str, pb.TensorInfo]:
    """Return inputs or outputs as a signature has them."""
    return {
        name: pb.TensorInfo(
            name=name,
            dtype=DTYPES[one.kind],
            tensor_shape=pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in one.shape]),
        )
        for name, one in described.items()
    }


def status(report: VersionReport) -> pb.ModelVersionStatus:
    """Return a version's state."""
    told = pb.StatusProto()
    if report.error is not None:
        told = pb.StatusProto(
            error_code=grpc_status(report.error).value[0], error_message=report.error.message
        )
    return pb.ModelVersionStatus(version=report.version, state=STATES[report.standing], status=told)
