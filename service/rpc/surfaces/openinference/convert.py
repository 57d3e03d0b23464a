"""The Open Inference Protocol's messages to what surfaces share, and back: pure functions."""

from collections.abc import Mapping
from typing import Any

from seqserve.openinference import inference_pb2 as pb
from seqserve.service import errors
from seqserve.service.core.types import Answered
from seqserve.service.surfaces.openinference import (
    DATATYPES,
    from_raw,
    from_values,
    refuse_unsupported,
    to_raw,
)
from seqserve.service.surfaces.tensors import Described, Rows, Tensor

CONTENTS = {
    "BYTES": "bytes_contents",
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""By element type, the list of its entries; FP16 has none, and is raw alone."""


def parameters(given: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    """Return parameters' values; None where one has none."""
    choices = {name: one.WhichOneof("parameter_choice") for name, one in given.items()}
    return {name: getattr(given[name], choice) if choice else None for name, choice in choices.items()}


def columns(request: pb.ModelInferRequest) -> dict[str, Rows]:
    """Return the inputs by name.

    Raises:
        MalformedTensor, Unsupported: an input is at fault.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        message = f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs"
        raise errors.MalformedTensor(message, path=("raw_input_contents",))
    found: dict[str, Rows] = {}
    for place, tensor in enumerate(request.inputs):
        refuse_unsupported(tensor.parameters)
        if tensor.name in found:
            raise errors.MalformedTensor(f"input {tensor.name[:60]!r} comes twice", path=("inputs", place))
        shape = tuple(tensor.shape)
        if raw:
            found[tensor.name] = from_raw(tensor.name, tensor.datatype, shape, raw[place])
            continue
        field = CONTENTS.get(tensor.datatype)
        values = list(getattr(tensor.contents, field)) if field is not None else []
        found[tensor.name] = from_values(tensor.name, tensor.datatype, shape, values)
    return found


def described(tensors: Mapping[str, Described]) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    """Return inputs or outputs as metadata has them."""
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=name, datatype=DATATYPES[one.kind], shape=one.shape)
        for name, one in tensors.items()
    ]


def response(
    request: pb.ModelInferRequest, answered: Answered, tensors: Mapping[str, Tensor]
) -> pb.ModelInferResponse:
    """Return an answer, its contents raw where the request's were."""
    is_raw = bool(request.raw_input_contents)
    return pb.ModelInferResponse(
        model_name=answered.model,
        model_version=str(answered.version),
        id=request.id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=name,
                datatype=DATATYPES[tensor.kind],
                shape=tensor.shape,
                contents=None if is_raw else _contents(tensor),
            )
            for name, tensor in tensors.items()
        ],
        raw_output_contents=map(to_raw, tensors.values()) if is_raw else (),
    )


def _contents(tensor: Tensor) -> pb.InferTensorContents:
    values = tensor.values
    listed = [value.encode() for value in values] if isinstance(values, list) else values.reshape(-1).tolist()
    contents = pb.InferTensorContents()
    getattr(contents, CONTENTS[DATATYPES[tensor.kind]]).extend(listed)
    return contents
