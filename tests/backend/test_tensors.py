"""Arrays cross the wire unchanged: TensorFlow reads what we write, and we read what it writes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import tensor_pb2

from seqserve.service.backend.tensors import from_wire, to_wire
from seqserve.tfserving.predict_pb2 import TensorProto

KINDS = [np.bool_, np.int32, np.int64, np.float32, np.float64]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, SHAPES))
STRINGS = arrays.arrays(np.object_, SHAPES, elements=st.binary(max_size=5), fill=st.nothing())


@given(NUMBERS | STRINGS)
def test_tensorflow_reads_what_we_write_and_back(array: np.ndarray) -> None:
    """Values, shape and type survive both ways, whichever side writes."""
    theirs = tensor_pb2.TensorProto.FromString(to_wire(array).SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(theirs), array)
    read = from_wire(TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString()))
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)


@given(arrays.arrays(np.float32, SHAPES, elements=st.sampled_from([0.0, 1.5])))
def test_short_lists_repeat_their_last_entry(array: np.ndarray) -> None:
    """The model server's typed fields, written in full or without their repeated end, mean the same."""
    flat = array.ravel().tolist()
    while len(flat) > 1 and flat[-1] == flat[-2]:
        flat.pop()
    shape = to_wire(array).tensor_shape
    for entries in (flat, [*array.ravel().tolist(), 7.0]):  # surplus is ignored, as TensorFlow does
        message = TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=entries)
        np.testing.assert_array_equal(from_wire(message), array)


def test_a_shape_that_cannot_be_is_refused() -> None:
    """Unknown sizes or ranks, strange types, and entries missing are errors, never a guess."""
    good = to_wire(np.ones((2, 3), np.float32))
    for spoil in (
        lambda m: m.tensor_shape.dim[0].__setattr__("size", -1),
        lambda m: setattr(m.tensor_shape, "unknown_rank", True),
        lambda m: setattr(m, "dtype", 99),
        lambda m: setattr(m, "tensor_content", b""),
        lambda m: setattr(m, "tensor_content", b"abc"),
    ):
        message = TensorProto.FromString(good.SerializeToString())
        spoil(message)
        with pytest.raises(ValueError, match=r"."):
            from_wire(message)
