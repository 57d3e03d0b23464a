"""`infer` of the Open Inference Protocol: JSON, or JSON with the contents of tensors behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from starlette.requests import Request

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.turns import Turn
from seqserve.service.rest.bodies import Parts, checked, loaded, parts_of, read_body
from seqserve.service.rest.outline import Bounds
from seqserve.service.surfaces.openinference import from_raw, from_values, refuse_unsupported
from seqserve.service.surfaces.tensors import Rows

INPUTS = "inputs"
HEADER = "inference-header-content-length"
"""How many bytes the JSON has, where contents stand behind it (Triton's binary tensor data extension)."""
SIZE, BINARY_ALL, BINARY = "binary_data_size", "binary_data_output", "binary_data"
RAW = "application/octet-stream"
MOST_TENSORS = 1000
MOST_AXES = 8
Parameters = dict[str, bool | int | float | str]


class _Part(Body):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    parameters: Parameters = Field(default_factory=dict, max_length=50)


class Input(_Part):
    """One input."""

    name: str
    datatype: str
    shape: list[int] = Field(max_length=MOST_AXES)
    data: list[Any] | None = None


class Output(_Part):
    """One output that is wanted."""

    name: str


class Options(_Part):
    """All but the inputs."""

    id: str | None = None
    outputs: Annotated[list[Output], Field(max_length=MOST_TENSORS)] = Field(default_factory=list)


ASKED: dict[str, Any] = {
    "type": "object",
    "required": [INPUTS],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object", "description": "options, as beam_size or top_k"},
        INPUTS: {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"]}},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request.

    Args:
        columns: the inputs by name.
        is_binary: tells whether an output's contents go behind the JSON.
    """

    options: Options
    columns: dict[str, Rows]
    parameters: Parameters
    is_binary: Callable[[str], bool]


async def read_question(request: Request, bounds: Bounds, became: Callable[[int], None]) -> Question:
    """Read a request.

    Raises:
        UnsupportedMediaType, BodyTooLarge, TooManyItems, MalformedJson: see `read_asked`.
        MalformedTensor, Unsupported: an input is at fault.
    """
    data = await read_body(request, bounds.data, became, kinds=None)  # clients name any, or none
    end = _end(request, len(data))
    parts = await parts_of(data[:end], (INPUTS,), bounds)
    table = dict(parts.table)
    given = table.pop(INPUTS, parts.items)
    options = checked(table, Options)
    if not isinstance(given, Sequence) or isinstance(given, str) or not given or len(given) > MOST_TENSORS:
        raise errors.MalformedJson(f"{INPUTS}: a list of tensors is wanted, {MOST_TENSORS} at most")
    columns = await _columns(parts, given, data, end)
    parameters = dict(options.parameters)
    all_binary = parameters.pop(BINARY_ALL, False) is True
    for output in options.outputs:
        refuse_unsupported(output.parameters)
    own = {output.name: output.parameters.get(BINARY, all_binary) is True for output in options.outputs}
    return Question(options, columns, parameters, lambda name: own.get(name, all_binary))


def _end(request: Request, size: int) -> int:
    """Return where the JSON ends."""
    given = request.headers.get(HEADER)
    if given is None:
        return size
    if not (given.isdecimal() and given.isascii() and len(given) < 10 and int(given) <= size):
        raise errors.MalformedJson(f"{HEADER} is {given[:20]!r}; the body has {size} bytes")
    return int(given)


async def _columns(parts: Parts, given: Sequence[Any], data: bytes, end: int) -> dict[str, Rows]:
    turn, at = Turn(), end
    columns: dict[str, Rows] = {}
    for place in range(len(given)):
        table = loaded(partial(given.__getitem__, place), f"{INPUTS}[{place}]")
        if not isinstance(table, dict):
            raise errors.MalformedJson(f"{INPUTS}[{place}]: an object is wanted")
        tensor = checked(table, Input)
        refuse_unsupported(tensor.parameters)
        if tensor.name in columns:
            raise errors.MalformedTensor(f"input {tensor.name[:60]!r} comes twice", path=(INPUTS, place))
        size = tensor.parameters.get(SIZE)
        columns[tensor.name] = _rows(tensor, data, at, size)
        at += size if isinstance(size, int) else 0
        if turn.is_over():
            await turn.end()
    if at != len(data):
        raise errors.MalformedTensor(f"{len(data) - at} bytes behind the JSON belong to no input")
    return columns


def _rows(tensor: Input, data: bytes, at: int, size: Any) -> Rows:
    shape = tuple(tensor.shape)
    if size is None:
        if tensor.data is None:
            raise errors.MalformedTensor(f"input {tensor.name[:60]!r} has no data", path=(INPUTS,))
        return from_values(tensor.name, tensor.datatype, shape, _flat(tensor.data))
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(data) - at:
        message = f"input {tensor.name[:60]!r}: {SIZE} goes past the {len(data) - at} bytes that are left"
        raise errors.MalformedTensor(message, path=(INPUTS,))
    return from_raw(tensor.name, tensor.datatype, shape, data[at : at + size])


def _flat(values: list[Any]) -> list[Any]:
    """Return the entries, which may be nested as the shape says, and null for NaN."""
    for _ in range(MOST_AXES):
        if not any(isinstance(value, list) for value in values):
            break
        values = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return [float("nan") if value is None else value for value in values]
