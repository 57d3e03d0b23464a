"""Tensors from requests and into responses, as TensorFlow Serving reads and writes them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto

_NARROW = (
    types_pb2.DT_INT32,
    types_pb2.DT_INT16,
    types_pb2.DT_INT8,
    types_pb2.DT_UINT16,
    types_pb2.DT_UINT8,
)
_PACKED = {  # lists whose wire form is the array itself
    types_pb2.DT_FLOAT: TensorProto.FLOAT_VAL_FIELD_NUMBER,
    types_pb2.DT_DOUBLE: TensorProto.DOUBLE_VAL_FIELD_NUMBER,
    types_pb2.DT_BOOL: TensorProto.BOOL_VAL_FIELD_NUMBER,
}
_LISTS: dict[int, tuple[str, Callable[[Any], list[Any]]]] = {
    **dict.fromkeys(_NARROW, ("int_val", np.ndarray.tolist)),
    types_pb2.DT_INT64: ("int64_val", np.ndarray.tolist),
    types_pb2.DT_UINT32: ("uint32_val", np.ndarray.tolist),
    types_pb2.DT_UINT64: ("uint64_val", np.ndarray.tolist),
    types_pb2.DT_HALF: ("half_val", lambda flat: flat.view(np.uint16).tolist()),
    types_pb2.DT_BFLOAT16: ("half_val", lambda flat: flat.view(np.uint16).tolist()),
    types_pb2.DT_COMPLEX64: ("scomplex_val", lambda flat: flat.view(np.float32).tolist()),
    types_pb2.DT_COMPLEX128: ("dcomplex_val", lambda flat: flat.view(np.float64).tolist()),
}


def parse(proto: TensorProto) -> np.ndarray | None:
    """Return the value, None if it is bad: by TensorFlow's own parser, so long lists are cut."""
    if proto.dtype == types_pb2.DT_INVALID:
        return None
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except (TypeError, tf.errors.OpError):
        return None


def encode(value: np.ndarray) -> TensorProto:
    """Return a proto with a typed list of every entry: TensorFlow Serving's default, never tensor_content."""
    dtype = tf.dtypes.as_dtype(value.dtype).as_datatype_enum if value.dtype != object else types_pb2.DT_STRING
    proto = TensorProto(dtype=dtype)
    for size in value.shape:
        proto.tensor_shape.dim.add().size = size
    flat = np.ascontiguousarray(value).ravel()
    if dtype in _PACKED:
        proto.MergeFromString(_length_delimited(_PACKED[dtype], flat.tobytes()))
    elif dtype == types_pb2.DT_STRING:
        proto.string_val.extend(flat.tolist())
    else:
        field, entries = _LISTS[dtype]
        getattr(proto, field).extend(entries(flat))
    return proto


def _length_delimited(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
