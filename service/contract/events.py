"""Events in one plain form, whichever door they came by: to be compared, kept as JSON and encoded again.

By feature there is one value an event. Elapsed time that came as points in time stays so: what it becomes
depends on the event before, which may have come by an earlier request.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.late import made
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.values import plain_values

Events = Mapping[str, Any]
"""By feature: labels, numbers or rows of them; or `{"timestamps": [whole microseconds since 1970]}`."""
TIMESTAMPS = "timestamps"
MICROSECONDS = 1e6


def plain_events(features: Mapping[str, Any], manifest: Manifest) -> Events:
    """Return the events of a sequence that `SequenceEncoder.encode` takes; every feature has steps."""
    return {name: plain_values(feature, made(features[name])) for name, feature in manifest.features.items()}


def count(events: Events) -> int:
    """Return how many events there are."""
    for column in events.values():
        return len(_values(column))
    return 0


def part(events: Events, first: int, end: int | None = None) -> Events:
    """Return the events from `first` on, up to `end`."""
    return {name: _like(column, _values(column)[first:end]) for name, column in events.items()}


def joined(before: Events, after: Events) -> Events:
    """Return events and those that follow them.

    Raises:
        WrongType: a feature came as points in time in the one, as elapsed times in the other.
    """
    if not before:
        return after
    together = {}
    for name, column in after.items():
        if isinstance(column, dict) != isinstance(before[name], dict):
            forms = ("elapsed times", "timestamps")
            came, comes = forms[isinstance(before[name], dict)], forms[isinstance(column, dict)]
            message = f"{name!r}: {comes} come, and the events before them came with {came}"
            raise errors.WrongType(message, path=(name,))
        together[name] = _like(column, [*_values(before[name]), *_values(column)])
    return together


def features_of(events: Events) -> dict[str, Any]:
    """Return events as `SequenceEncoder.encode` takes them."""
    return {
        name: {TIMESTAMPS: np.array(column[TIMESTAMPS], np.float64) / MICROSECONDS}
        if isinstance(column, dict)
        else column
        for name, column in events.items()
    }


def has_timestamps(events: Events) -> bool:
    """Tell whether an event's values depend on the one before it."""
    return any(isinstance(column, dict) for column in events.values())


def _values(column: Any) -> list[Any]:
    values: list[Any] = column[TIMESTAMPS] if isinstance(column, dict) else column
    return values


def _like(column: Any, values: list[Any]) -> Any:
    return {TIMESTAMPS: values} if isinstance(column, dict) else values
