"""A request's options against what the manifest allows, and the inputs that they feed."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.padding import NUMPY_TYPES, Array
from seqserve.service.core.types import BatchOptions
from seqserve.service.errors import Path


def check_range(name: str, value: float, minimum: float, maximum: float, path: Path = ()) -> None:
    """Raise OptionOutOfRange, naming option, range and value, unless minimum <= value <= maximum."""
    if not minimum <= value <= maximum:
        message = f"{name} is {_shown(value)}; it must be between {minimum:g} and {maximum:g}"
        raise errors.OptionOutOfRange(message, path=path or (name,))


@dataclass(frozen=True, slots=True)
class Given:
    """A request's value of an option (None: absent), its place in the body, and what changes nothing."""

    value: float | None
    path: Path
    neutral: float | None


def option_inputs(
    manifest: Manifest, signature: str, given: Mapping[str, Given]
) -> tuple[dict[str, Array], BatchOptions]:
    """Return the option inputs of a signature: one scalar array a row, and those a batch shares.

    Args:
        given: by option name; a value of None takes the manifest's default.

    Raises:
        OptionOutOfRange: a value is outside the manifest's range, or the signature has no input for it.
    """
    inputs = manifest.signatures[signature].inputs
    fed = {name: option for name, option in manifest.options.items() if name in inputs}
    _check_fed(signature, given, {option.option for option in fed.values()})
    rows: dict[str, Array] = {}
    shared: list[tuple[str, float]] = []
    for name, option in fed.items():
        asked = given.get(option.option, Given(None, (), None))
        value = option.default if asked.value is None else asked.value
        check_range(option.option, value, option.minimum, option.maximum, asked.path)
        if "batch" in inputs[name].axes:
            rows[name] = np.array(value, NUMPY_TYPES[inputs[name].dtype])
        else:
            shared.append((name, value))
    return rows, tuple(sorted(shared))


def _check_fed(signature: str, given: Mapping[str, Given], fed: Container[str]) -> None:
    """Refuse an option that would be ignored silently."""
    for name, asked in given.items():
        if name not in fed and asked.value != asked.neutral:
            message = f"this model takes no {name} where it decodes by {signature!r}; leave it out"
            raise errors.OptionOutOfRange(message, path=asked.path)


def _shown(value: float) -> str:
    """Return a number cut short, however many digits the caller sent."""
    text = str(value)
    return text if len(text) <= 20 else text[:17] + "..."
