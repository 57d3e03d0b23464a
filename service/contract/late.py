"""Values that are made only once their number is found right: there may have been sent any number of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Late:
    """As many values, or rows of them, as `length` says.

    Args:
        make: returns them, as `SequenceEncoder.encode` takes them; may raise InvalidArgument.
    """

    length: int
    make: Callable[[], Any]

    def __len__(self) -> int:
        return self.length


def made(values: Any) -> Any:
    """Return a feature's values, or its timestamps, made now if they are late."""
    if isinstance(values, Mapping):
        return {name: made(member) for name, member in values.items()}
    return values.make() if isinstance(values, Late) else values
