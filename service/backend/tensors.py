"""NumPy arrays as TensorFlow's wire tensors, and back."""

import math

import numpy as np

from seqserve.service.contract.padding import Array
from seqserve.tfserving.predict_pb2 import (
    DT_BOOL,
    DT_DOUBLE,
    DT_FLOAT,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DataType,
    TensorProto,
    TensorShapeProto,
)

FIELDS: dict[int, tuple[str, type[np.generic]]] = {
    DT_FLOAT: ("float_val", np.float32),
    DT_DOUBLE: ("double_val", np.float64),
    DT_INT32: ("int_val", np.int32),
    DT_INT64: ("int64_val", np.int64),
    DT_BOOL: ("bool_val", np.bool_),
    DT_STRING: ("string_val", np.object_),
}
"""By wire type: the message's field for its entries, and their NumPy type."""
TYPES: dict[np.dtype[np.generic], int] = {np.dtype(kind): wire for wire, (_, kind) in FIELDS.items()}


def to_wire(array: Array) -> TensorProto:
    """Return an array as the message that TensorFlow reads; numbers are sent as one block of bytes.

    Raises:
        KeyError: an element type that no input of a manifest can have.
    """
    dtype = TYPES[array.dtype]
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in array.shape])
    message = TensorProto(dtype=DataType.Name(dtype), tensor_shape=shape)
    if dtype == DT_STRING:
        message.string_val.extend(array.ravel().tolist())
    else:
        message.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return message


def from_wire(message: TensorProto) -> Array:
    """Return a message's array, shaped as it says.

    Raises:
        ValueError: an element type that is not ours, or entries that do not fill the shape.
    """
    if message.dtype not in FIELDS:
        raise ValueError(f"element type {message.dtype}")
    field, kind = FIELDS[message.dtype]
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    if message.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, np.dtype(kind).newbyteorder("<")).reshape(shape)
    return _filled(np.array(getattr(message, field), kind), math.prod(shape)).reshape(shape)


def _filled(entries: Array, count: int) -> Array:
    """Repeat the last entry up to `count`, as TensorFlow does; entries past it are ignored."""
    if len(entries) >= count:
        return entries[:count]
    if len(entries) == 0:
        raise ValueError(f"no entries for {count} cells")
    return np.concatenate([entries, np.repeat(entries[-1:], count - len(entries))])
