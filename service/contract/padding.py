"""Rows padded into one batch, and outputs cut back to a row's real steps. Nothing else pads for serving."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from seqserve.service.contract.manifest import Manifest, Signature, Tensor

Array = npt.NDArray[Any]
Options = Sequence[tuple[str, float]]
"""Values of the option inputs that a whole batch shares, by input name."""
NUMPY_TYPES: dict[str, type[np.generic]] = {
    "bool": np.bool_,
    "int32": np.int32,
    "int64": np.int64,
    "float32": np.float32,
    "string": np.object_,
}


class Row(NamedTuple):
    """One encoded item: inputs without their batch axis, and how many steps are real (at least 1)."""

    inputs: Mapping[str, Array]
    length: int


def bucket_of(length: int, buckets: Sequence[int]) -> int:
    """Return the padded length for a row: the first bucket that holds it.

    Raises:
        ValueError: none does; the codecs refuse such a row earlier.
    """
    for bucket in buckets:
        if bucket >= length:
            return bucket
    raise ValueError(f"a row of {length} steps is longer than the last bucket of {tuple(buckets)}")


def padded_length(longest: int, manifest: Manifest) -> int:
    """Return what rows are padded to: the longest's length, or the bucket where there is only one.

    Rows of text alone are not padded; the longest's length says then what the batch counts for.

    One bucket may be a fixed time axis, which takes no other length. A model with several takes any, and
    nothing is gained by rounding up: docs/performance.md.

    Raises:
        ValueError: the last bucket does not hold the longest row; the codecs refuse such a row earlier.
    """
    if manifest.batching == "single" or not manifest.buckets:
        return longest
    bucket = bucket_of(longest, manifest.buckets)
    return bucket if len(manifest.buckets) == 1 else longest


def pad_batch(
    rows: Sequence[Row], length: int, signature: Signature, manifest: Manifest, options: Options = ()
) -> dict[str, Array]:
    """Stack rows into one batch of `length` steps; the mask input, where there is one, is made here.

    Args:
        rows: at least one; none longer than `length`, each with at least one real step.
        options: values of the inputs without a batch axis, which all rows share.

    Returns:
        By input name (batch, …); inputs with a time axis (batch, length, …).
    """
    mask = manifest.mask_input
    left = manifest.padding == "left"
    stacked = {
        name: _mask(rows, length, tensor, left) if name == mask else _stack(rows, name, length, tensor, left)
        for name, tensor in signature.inputs.items()
        if "batch" in tensor.axes
    }
    shared = {n: np.array(value, NUMPY_TYPES[signature.inputs[n].dtype]) for n, value in options}
    return {**stacked, **shared}


def _mask(rows: Sequence[Row], length: int, tensor: Tensor, left: bool) -> Array:
    lengths = np.array([row.length for row in rows])
    if "time" not in tensor.axes:
        return lengths.astype(NUMPY_TYPES[tensor.dtype])  # (batch)
    steps = np.arange(length)
    real = steps >= length - lengths[:, None] if left else steps < lengths[:, None]
    return real.astype(NUMPY_TYPES[tensor.dtype])  # (batch, time)


def _stack(rows: Sequence[Row], name: str, length: int, tensor: Tensor, left: bool) -> Array:
    values = [row.inputs[name] for row in rows]
    dtype = NUMPY_TYPES[tensor.dtype]
    if "time" not in tensor.axes:
        if dtype is np.object_:  # whose scalars would stay arrays
            return np.stack(values).astype(dtype, copy=False)  # (batch, …)
        return np.array(values, dtype)  # (batch, …); of scalars this takes a tenth of np.stack's time
    if len(values) == 1 and len(values[0]) == length:
        return values[0].astype(dtype)[None]  # (1, time, …): there is nothing to pad
    out = np.full((len(rows), length, *values[0].shape[1:]), tensor.pad_value, dtype)  # (batch, time, …)
    for target, value in zip(out, values, strict=True):
        start = length - len(value) if left else 0
        target[start : start + len(value)] = value
    return out


def real_steps(values: Array, length: int, padding: str) -> Array:
    """Cut a row's (time, …) output to its real steps.

    Raises:
        ValueError: the output has no time axis, or fewer steps than are real.
    """
    if values.ndim == 0 or len(values) < length:
        raise ValueError(f"the output of a row has shape {values.shape}, the row {length} steps")
    return values[len(values) - length :] if padding == "left" else values[:length]
