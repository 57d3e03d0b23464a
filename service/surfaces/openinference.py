"""What both doors say in the Open Inference Protocol's words (github.com/kserve/open-inference-protocol)."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import Manifest
from seqserve.service.core.gateway import ModelReport
from seqserve.service.core.standing import Standing
from seqserve.service.core.tasks import SEQUENCE, TRANSLATION
from seqserve.service.core.types import ModelRef, Task
from seqserve.service.surfaces.tensors import Described, Kind, Rows, Tensor, check_shape, inputs, outputs

NAME, VERSION = "seqserve", version("seqserve")
PLATFORM = "tensorflow_savedmodel"
BINARY = "binary_tensor_data"
"""The one extension: Triton's raw contents."""
BYTES = "BYTES"
NUMPY: dict[str, str] = {
    "BOOL": "?",
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
"""Element types by the protocol's names, but for text."""
DATATYPES = {Kind.TEXT: BYTES, Kind.NUMBER: "FP64", Kind.TRUTH: "BOOL"}
MOST_TEXTS = 100_000
"""Entries of BYTES that are read at once: some tens of milliseconds."""
LONGEST_NUMBER = 18
LONGEST_SHOWN = 60
OPTIONS: dict[str, tuple[str, ...]] = {
    TRANSLATION.name: ("beam_size", "n_best", "length_penalty", "max_length"),
    SEQUENCE.name: ("top_k", "seed"),
}
"""By task, the parameters that are members of our own body."""
UNSUPPORTED = {
    **dict.fromkeys(("sequence_id", "sequence_start", "sequence_end"), "each request stands alone"),
    "priority": "turns go by caller",
    "timeout": "give the call a deadline instead",
    "classification": "the answer has labels already; top_k asks for more of them",
    **{f"shared_memory_{part}": "tensors come in the request" for part in ("region", "offset", "byte_size")},
}
"""Parameters that are refused, each with a word."""


def model_ref(name: str, number: str) -> ModelRef:
    """Return the model that is named; raises VersionNotFound where the version is no number."""
    if not number:
        return ModelRef(name)
    if not (number.isdecimal() and number.isascii() and len(number) <= LONGEST_NUMBER):
        raise errors.VersionNotFound(f"version {number[:20]!r} is not a number")
    return ModelRef(name, int(number))


def options(task: Task, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's parameters as options of our own body.

    Raises:
        Unsupported, OptionOutOfRange: one is none of them.
    """
    refuse_unsupported(parameters)
    known = OPTIONS[task.name]
    for name in parameters:
        if name not in known:
            message = f"no parameter {name[:LONGEST_SHOWN]!r}; this model takes {', '.join(known)}"
            raise errors.OptionOutOfRange(message, path=("parameters",))
    return dict(parameters)


def refuse_unsupported(parameters: Mapping[str, Any]) -> None:
    """Raise Unsupported where one of a request's, an input's or an output's parameters is not there."""
    for name in parameters:
        if name in UNSUPPORTED:
            raise errors.Unsupported(f"parameter {name} is not supported: {UNSUPPORTED[name]}")


def ready_versions(report: ModelReport) -> list[str]:
    """Return the versions that can be called."""
    return [str(one.version) for one in report.versions if one.standing is Standing.ROUTABLE]


def tensors_of(manifest: Manifest) -> tuple[dict[str, Described], dict[str, Described]]:
    """Return what a version takes and gives."""
    return inputs(manifest), outputs(manifest)


# --- requests -------------------------------------------------------------------------------------


def from_values(name: str, datatype: str, shape: tuple[int, ...], values: Sequence[Any]) -> Rows:
    """Return a tensor of listed entries, text as str or bytes, null as NaN.

    Raises:
        MalformedTensor: they are not of the type, or do not fill the shape.
    """
    shown = name[:LONGEST_SHOWN]
    if _is_text(shown, datatype):
        return Rows(name, Tensor(Kind.TEXT, shape, [_text(shown, value) for value in values]))
    check_shape(name, Kind.NUMBER, shape, len(values))
    try:
        if any(isinstance(value, str) for value in values):  # which numpy would read as numbers
            raise ValueError("a text is no number")
        return Rows(name, Tensor(Kind.NUMBER, shape, np.array(values, NUMPY[datatype])))
    except (TypeError, ValueError, OverflowError) as error:
        message = f"{shown!r}: the values are no {datatype}: {str(error)[:100]}"
        raise errors.MalformedTensor(message, path=(shown,)) from error


def from_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> Rows:
    """Return a tensor of raw contents.

    Raises:
        MalformedTensor: they do not fill the shape.
    """
    shown = name[:LONGEST_SHOWN]
    if _is_text(shown, datatype):
        if not 0 <= math.prod(shape) <= MOST_TEXTS:
            message = f"{shown!r} has shape {list(shape)[:8]}; at most {MOST_TEXTS} texts are read"
            raise errors.MalformedTensor(message, path=(shown,))
        texts = [_text(shown, value) for value in _cut(shown, data)]
        return Rows(name, Tensor(Kind.TEXT, shape, texts))
    dtype = np.dtype(NUMPY[datatype])
    count, rest = divmod(len(data), dtype.itemsize)
    if rest:
        message = f"{shown!r} has {len(data)} bytes, and each {datatype} has {dtype.itemsize}"
        raise errors.MalformedTensor(message, path=(shown,))
    check_shape(name, Kind.NUMBER, shape, count)
    return Rows(name, Tensor(Kind.NUMBER, shape, np.frombuffer(data, dtype)))


def _is_text(name: str, datatype: str) -> bool:
    if datatype != BYTES and datatype not in NUMPY:
        message = f"{name!r}: datatype {datatype[:20]!r} is none of {BYTES}, {', '.join(NUMPY)}"
        raise errors.MalformedTensor(message, path=(name,))
    return datatype == BYTES


def _text(name: str, value: Any) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise errors.MalformedTensor(f"{name!r}: a text is not UTF-8", path=(name,)) from None
    if not isinstance(text, str):
        raise errors.MalformedTensor(f"{name!r}: the values are no {BYTES}, which are texts", path=(name,))
    return text


def _cut(name: str, data: bytes) -> Iterator[bytes]:
    """Yield the texts of raw contents, `MOST_TEXTS` at most and one more."""
    at = 0
    for _ in range(MOST_TEXTS + 1):
        if at == len(data):
            return
        if at + 4 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            break
        yield data[at - length : at]
    message = (
        f"{name!r}: each text has its length before it, 4 bytes, and the last one ends with the contents"
    )
    raise errors.MalformedTensor(message, path=(name,))


# --- answers --------------------------------------------------------------------------------------


def to_raw(tensor: Tensor) -> bytes:
    """Return a tensor's raw contents."""
    if not isinstance(tensor.values, list):
        return tensor.values.astype(NUMPY[DATATYPES[tensor.kind]], copy=False).tobytes()
    encoded = (value.encode() for value in tensor.values)
    return b"".join(part for value in encoded for part in (struct.pack("<I", len(value)), value))
