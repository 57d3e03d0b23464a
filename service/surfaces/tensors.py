"""Tensors as protocols exchange them, and what a model takes and gives as such, by name.

They hold what people mean, not what the graph is given: labels as text, numbers in their own unit.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import (
    Categories,
    Feature,
    Head,
    Manifest,
    Numbers,
    Numeric,
    Sigmoid,
    Softmax,
    Tokens,
)
from seqserve.service.contract.padding import Array
from seqserve.service.contract.texts import Text, TextHead
from seqserve.service.core.turns import Turn

TEXT = "text"
"""The input and the first output of a translation model."""
ANY = -1
"""The size of an axis that requests differ in."""


class Kind(Enum):
    """What a tensor's entries are."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class Described:
    """An input or output: what its entries are, and its shape, the rows first."""

    kind: Kind
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Values of one kind.

    Args:
        shape: the rows first.
        values: row-major; of text a list of str, else an array.
    """

    kind: Kind
    shape: tuple[int, ...]
    values: list[str] | Array


Tensors = dict[str, Tensor]

# --- what a model takes and gives -----------------------------------------------------------------


def inputs(manifest: Manifest) -> dict[str, Described]:
    """Return what a model takes: a text, or each feature by its name."""
    if manifest.decode is not None:
        return {TEXT: Described(Kind.TEXT, (ANY,))}
    return {name: _input(feature) for name, feature in manifest.features.items()}


def _input(feature: Feature) -> Described:
    if isinstance(feature, Text | Tokens):
        return Described(Kind.TEXT, (ANY,))
    rows = (ANY,) if getattr(feature, "per", "step") == "sequence" else (ANY, ANY)
    if isinstance(feature, Categories):
        return Described(Kind.TEXT, rows)
    width = (feature.width,) if isinstance(feature, Numbers) and feature.width > 1 else ()
    return Described(Kind.NUMBER, (*rows, *width))


def outputs(manifest: Manifest) -> dict[str, Described]:
    """Return what a model gives: text and score, or the outputs of each head (see `values.named`)."""
    if manifest.decode is None:
        return {
            name + ending: described
            for name, head in manifest.heads.items()
            for ending, described in _outputs(head).items()
        }
    signatures = [manifest.signatures[name] for name in manifest.serving_signatures]
    scored = any("scores" in signature.outputs for signature in signatures)
    score = {"score": Described(Kind.NUMBER, (ANY,))} if scored else {}
    return {TEXT: Described(Kind.TEXT, (ANY,)), **score}


def _outputs(head: Head) -> dict[str, Described]:
    rows = (ANY,) if head.per == "sequence" else (ANY, ANY)
    match head:
        case TextHead():
            return {"": Described(Kind.TEXT, rows)}
        case Softmax():
            return {"": Described(Kind.TEXT, rows), ".probability": Described(Kind.NUMBER, rows)}
        case Sigmoid():
            every = (*rows, len(head.labels))
            return {
                "": Described(Kind.TEXT, every),
                ".probability": Described(Kind.NUMBER, every),
                ".reached": Described(Kind.TRUTH, every),
            }
    return _numbers(head, rows)


def _numbers(head: Numeric, rows: tuple[int, ...]) -> dict[str, Described]:
    width = (len(head.columns),) if head.columns else ()
    value = {"": Described(Kind.NUMBER, (*rows, *width))}
    if not head.quantiles:
        return value
    levels = len(head.quantiles) // 2
    by_level = (ANY, levels, ANY, *width) if head.per == "horizon" else (*rows, levels, *width)
    first = rows if head.per == "step" else rows[:1]
    return {
        **value,
        ".level": Described(Kind.NUMBER, (*first, levels)),
        ".low": Described(Kind.NUMBER, by_level),
        ".high": Described(Kind.NUMBER, by_level),
    }


# --- rows to tensors ------------------------------------------------------------------------------


async def filled(rows: Sequence[Any]) -> Tensor:
    """Return rows as one tensor, in turns: what is shorter than others is filled up by "", NaN or false.

    Args:
        rows: of each a value, or lists of values.
    """
    turn = Turn()
    shape: tuple[int, ...] = ()
    for row in rows:
        shape = _wider(shape, _shape(row))
        if turn.is_over():
            await turn.end()
    kind = _kind(next(_leaves(rows), 0.0))
    parts = []
    for row in rows:
        parts.append(_filled(row, shape, kind))
        if turn.is_over():
            await turn.end()
    stacked = np.stack(parts)
    return Tensor(kind, stacked.shape, stacked.reshape(-1).tolist() if kind is Kind.TEXT else stacked)


FILLING: dict[Kind, tuple[Any, Any]] = {
    Kind.TEXT: (object, ""),
    Kind.NUMBER: (np.float64, np.nan),
    Kind.TRUTH: (np.bool_, False),
}
"""By kind, the type of an array, and what stands where there is nothing."""


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        yield value
        return
    for entry in value:
        yield from _leaves(entry)


def _kind(value: Any) -> Kind:
    if isinstance(value, str):
        return Kind.TEXT
    return Kind.TRUTH if isinstance(value, bool) else Kind.NUMBER


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    inner: tuple[int, ...] = ()
    for entry in value:
        inner = _wider(inner, _shape(entry))
    return (len(value), *inner)


def _wider(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if len(one) != len(other):
        return max(one, other, key=len)
    return tuple(map(max, one, other))


def _filled(value: Any, shape: tuple[int, ...], kind: Kind) -> Array:
    dtype, nothing = FILLING[kind]
    array = np.full(shape, nothing, dtype)
    _put(array, value)
    return array


def _put(array: Array, value: Any) -> None:
    if not array.ndim:
        array[()] = value
        return
    if array.ndim == 1:
        array[: len(value)] = value
        return
    for place, entry in enumerate(value):
        _put(array[place], entry)


# --- tensors to rows ------------------------------------------------------------------------------


def check_shape(name: str, kind: Kind, shape: tuple[int, ...], count: int) -> None:
    """Refuse a shape that no feature has, or that so many values do not fill, before an array is made.

    Raises:
        MalformedTensor.
    """
    most = 2 if kind is Kind.TEXT else 3
    if not 1 <= len(shape) <= most or any(size < 0 for size in shape):
        message = f"{name[:60]!r} has shape {list(shape)[:8]}; rows, then steps, then columns are wanted"
        raise errors.MalformedTensor(message, path=(name[:60],))
    if math.prod(shape) != count:
        message = f"{name[:60]!r} has {count} values, and its shape is {list(shape)}"
        raise errors.MalformedTensor(message, path=(name[:60],))


class Rows(Sequence[Any]):
    """A tensor's rows, as `SequenceEncoder.encode` takes values: text, a list of text, a number or an array.

    Raises:
        MalformedTensor: the values do not fit the shape, or it is none that a feature has.
    """

    def __init__(self, name: str, tensor: Tensor) -> None:
        shape = tensor.shape
        check_shape(name, tensor.kind, shape, len(tensor.values))
        self._rows = shape[0]
        self._each = shape[1] if len(shape) > 1 else None
        self._values = tensor.values
        if not isinstance(self._values, list):
            self._values = self._values.reshape(shape)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, place: Any) -> Any:
        if isinstance(self._values, list):
            if self._each is None:
                return self._values[place]
            return self._values[place * self._each : (place + 1) * self._each]
        row = self._values[place]
        return row if isinstance(row, np.ndarray) else row.item()
