"""A request's options against what the manifest allows, and the inputs that they feed."""

from collections.abc import Mapping

import numpy as np

from service import errors
from service.contract.manifest import Manifest
from service.contract.padding import NUMPY_TYPES, Array
from service.core.types import BatchOptions


def check_range(name: str, value: float, minimum: float, maximum: float, *path: str) -> None:
    """Raise OptionOutOfRange, naming option, range and value, unless minimum <= value <= maximum."""
    if not minimum <= value <= maximum:
        message = f"{name} is {_shown(value)}; it must be between {minimum:g} and {maximum:g}"
        raise errors.OptionOutOfRange(message, path=path or (name,))


def option_inputs(
    manifest: Manifest, signature: str, given: Mapping[str, float | None]
) -> tuple[dict[str, Array], BatchOptions]:
    """Return the option inputs of a signature: one scalar array a row, and those a batch shares.

    Args:
        given: the request's value by option name; None or absent takes the manifest's default.

    Raises:
        OptionOutOfRange: a value is outside the manifest's range.
    """
    rows: dict[str, Array] = {}
    shared: list[tuple[str, float]] = []
    for name, tensor in manifest.signatures[signature].inputs.items():
        option = manifest.options.get(name)
        if option is None:
            continue
        chosen = given.get(option.option)
        value = option.default if chosen is None else chosen
        check_range(option.option, value, option.minimum, option.maximum)
        if "batch" in tensor.axes:
            rows[name] = np.array(value, NUMPY_TYPES[tensor.dtype])
        else:
            shared.append((name, value))
    return rows, tuple(sorted(shared))


def _shown(value: float) -> str:
    """Write a number shortly, however many digits the caller sent."""
    text = str(value)
    return text if len(text) <= 20 else text[:17] + "..."
