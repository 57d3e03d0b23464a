"""One feature's values to encoded ones: labels to ids, numbers standardized, elapsed time transformed.

Errors and warnings name the step, or none where a feature has one value a sequence.
"""

import datetime
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.manifest import Categories, Elapsed, Feature, Numbers, Tensor
from seqserve.service.contract.padding import NUMPY_TYPES, Array

UNIT_SECONDS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
LARGEST = {"int32": 2**31 - 1, "int64": 2**53, "float32": float(np.finfo(np.float32).max)}
"""The largest number that is accepted, by dtype; for int64, the last up to which doubles are exact."""

MOST_DETAILS = 10
"""How many steps of a sequence are named for each warning."""
TEXT, PLAIN = frozenset({str}), frozenset({int, float})
"""Types of values that nothing is wrong with, but what their feature says."""
Step = int | None
"""Where a value stands; None where it is the feature's only one, for the whole sequence."""
Places = Sequence[tuple[Step, str]]
"""Steps, each with the value that is worth a warning."""

LONGEST_SHOWN = 60
"""Characters of a name or a label that are shown."""
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-5][0-9])"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_YEARS_1_TO_9999 = (-62_135_596_800.0, 253_402_300_800.0)  # in seconds, as google.protobuf.Timestamp has them

Encoder = Callable[[Any], tuple[Array, Places]]
"""Values to (time, …), one value a sequence to (1, …); and the first steps whose unknown label was mapped."""


def value_encoder(feature: Feature) -> Encoder:
    """Return what encodes a feature's values.

    Raises:
        ManifestInvalid: the feature is not of a sequence model.
    """
    match feature:
        case Categories():
            return _categories(feature)
        case Numbers():
            return lambda values: (standardized(values, feature), ())
        case Elapsed():
            return lambda values: (_elapsed(values, feature), ())
    raise errors.ManifestInvalid(f"features: kind {feature.kind!r} is not one of a sequence model")


def cast(values: Array, tensor: Tensor) -> Array:
    """Return (time, …) values in the input's dtype and axes, with an axis of size 1 added or dropped.

    An input without a time axis gets the only entry of (1, …).
    """
    largest, has_steps = LARGEST[tensor.dtype], "time" in tensor.axes
    if has_steps and len(tensor.axes) == 2 and values.ndim == 1 and _all_fit(values, largest):  # as most are
        return values.astype(NUMPY_TYPES[tensor.dtype])
    flat = values.reshape(len(values), -1)
    fits = np.abs(flat) <= largest
    if not fits.all():
        place = int(fits.all(axis=1).argmin())
        step, value = place if has_steps else None, flat[place][~fits[place]][0]
        message = f"{_named(step)} becomes {value:g}, too large for the model's {tensor.dtype}"
        raise errors.NotFinite(message, path=_path(step))
    shape = (*flat.shape[:has_steps], *flat.shape[1:][: len(tensor.axes) - 1 - has_steps])
    return flat.astype(NUMPY_TYPES[tensor.dtype]).reshape(shape)


def _all_fit(values: Array, largest: float) -> bool:
    return bool(np.count_nonzero(np.abs(values) <= largest) == values.size)


def _named(step: Step) -> str:
    return "the value" if step is None else f"step {step}"


def _path(step: Step) -> errors.Path:
    return () if step is None else (step,)


def _only(given: Any, width: int = 1) -> Any:
    """Return the value of a feature that has one a sequence: given alone, or in a list of one, as in gRPC."""
    value = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(value, list):
        return value
    rows = value if all(isinstance(row, list) for row in value) else [value]
    wrong = next((row for row in rows if isinstance(row, list) and len(row) != width), None)
    if width > 1 and (wrong is not None or not rows):
        raise wrong_width(None, len(wrong or ()), width)
    listed = rows if width > 1 else value
    if len(listed) != 1:
        raise errors.UnequalLengths(f"{len(listed)} values are given; the feature has one a sequence")
    return listed[0]


# --- categories -----------------------------------------------------------------------------------


def _categories(feature: Categories) -> Encoder:
    ids = {label: feature.first_id + place for place, label in enumerate(feature.labels)}

    def encode(values: Any) -> tuple[Array, Places]:
        if feature.per == "step" and TEXT.issuperset(map(type, values)):
            known = [ids.get(label) for label in values]
            if None not in known:
                return np.array(known, np.int64), ()
        column = enumerate(_column(values)) if feature.per == "step" else [(None, _only(values))]
        labels = [(step, _label(value, step)) for step, value in column]
        encoded = [ids.get(label, feature.unknown_id) for _, label in labels]
        if None in encoded:
            step, label = labels[encoded.index(None)]
            raise errors.UnknownCategory(f"{_named(step)}: unknown label {shown(label)}", path=_path(step))
        unseen = ((step, _cut(label)) for step, label in labels if label not in ids)
        return np.array(encoded, np.int64), tuple(itertools.islice(unseen, MOST_DETAILS))

    return encode


def _column(values: Any) -> Sequence[Any]:
    """Return one value a step: an array (time, 1) is (time)."""
    if isinstance(values, np.ndarray):
        column: list[Any] = values.reshape(-1).tolist() if values.size == len(values) else list(values)
        return column
    listed: list[Any] = values
    return listed


def _label(value: Any, step: Step) -> str:
    """Read a label: a string, or a whole number as its decimal string (event types are often integers)."""
    if isinstance(value, str):
        return value
    if _is_number(value) and _finite(value, step).is_integer():
        return str(int(value))
    message = f"{_named(step)} is {_given(value)}, not a label: a string or an integer is wanted"
    raise errors.WrongType(message, path=_path(step))


# --- numbers --------------------------------------------------------------------------------------


def standardized(values: Any, feature: Numbers) -> Array:
    """Return numbers scaled by column, (time, width), or (1, width) of one value a sequence.

    Raises:
        InvalidArgument: they are not finite numbers, `width` of them a step.
    """
    if feature.per == "sequence":
        table = np.array([_row(_only(values, feature.width), None, feature.width)], np.float64)
    else:
        table = _table(values, feature.width)
    with np.errstate(over="ignore"):
        scaled: Array = (table - np.array(feature.mean)) / np.array(feature.scale)  # (time, width)
    return scaled


def _table(values: Any, width: int) -> Array:
    """Return finite numbers as (time, width) doubles; a width of 1 may be a flat list."""
    if isinstance(values, np.ndarray):
        return _array_table(values, width)
    if width == 1 and (column := _plain_column(values)) is not None:
        return column[:, None]
    return np.array([_row(value, step, width) for step, value in enumerate(values)], np.float64)


def _plain_column(values: Sequence[Any]) -> Array | None:
    """Return finite numbers as (time) doubles, all at once; None where some may be at fault, or is a row."""
    if not PLAIN.issuperset(map(type, values)):
        return None
    try:
        return np.array(values, np.float64) if all(map(math.isfinite, values)) else None
    except OverflowError:
        return None


def _array_table(values: Array, width: int) -> Array:
    if values.dtype.kind not in "fiu":
        raise errors.WrongType("an array of numbers is wanted")
    table = values.reshape(len(values), -1).astype(np.float64)
    if table.shape[1] != width:
        raise wrong_width(0, table.shape[1], width)
    wrong = ~np.isfinite(table).all(axis=1)
    if wrong.any():
        step = int(wrong.argmax())
        raise _not_finite(step, table[step][~np.isfinite(table[step])][0].item())
    return table


def _row(value: Any, step: Step, width: int) -> list[float]:
    row = value if isinstance(value, list) else [value]
    if len(row) != width:
        raise wrong_width(step, len(row), width)
    wrong = [number for number in row if not _is_number(number)]
    if wrong:
        raise errors.WrongType(f"{_named(step)} is {_given(wrong[0])}, not a number", path=_path(step))
    return [_finite(number, step) for number in row]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _finite(value: Any, step: Step) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise _not_finite(step, value) from None
    if not math.isfinite(number):
        raise _not_finite(step, number)
    return number


def _not_finite(step: Step, value: Any) -> errors.NotFinite:
    message = f"{_named(step)} is {_given(value)}: NaN, infinite, or beyond a double"
    return errors.NotFinite(message, path=_path(step))


def wrong_width(step: Step, columns: int, width: int) -> errors.WrongWidth:
    return errors.WrongWidth(f"{_named(step)} has {columns} columns, the model {width}", path=_path(step))


def natural_values(feature: Feature, encoded: Array) -> Array:
    """Return encoded values (steps, columns) in the feature's own unit."""
    if isinstance(feature, Numbers):
        natural: Array = encoded * np.array(feature.scale) + np.array(feature.mean)
        return natural
    assert isinstance(feature, Elapsed)  # a range is of one or the other
    times: Array = encoded * feature.scale
    return np.expm1(times) if feature.transform == "log1p" else times


def plain_values(feature: Feature, values: Any) -> Any:
    """Return values a step, which an encoder has taken, as JSON has them; of timestamps, whole microseconds.

    Returns:
        Labels; numbers, rows of them where the feature is wider; or `{"timestamps": [...]}`.
    """
    if isinstance(feature, Categories):
        return [_label(value, step) for step, value in enumerate(_column(values))]
    if isinstance(values, Mapping):
        return {"timestamps": _instants(values["timestamps"]).tolist()}
    width = feature.width if isinstance(feature, Numbers) else 1
    table = _table(values, width)
    return table.tolist() if width > 1 else table[:, 0].tolist()


# --- elapsed time ---------------------------------------------------------------------------------


def _elapsed(values: Any, feature: Elapsed) -> Array:
    times = (
        _between(values["timestamps"], feature) if isinstance(values, Mapping) else _table(values, 1)[:, 0]
    )
    if np.count_nonzero(times < 0):
        step = int((times < 0).argmax())
        raise errors.NegativeElapsed(f"step {step}: elapsed time {times[step]:g} is negative", path=(step,))
    with np.errstate(over="ignore"):
        scaled: Array = (np.log1p(times) if feature.transform == "log1p" else times) / feature.scale  # (time)
    return scaled


def _between(stamps: Any, feature: Elapsed) -> Array:
    """Return elapsed times from absolute ones: since the previous event, or up to the last."""
    try:
        instants = _instants(stamps)
        steps = np.diff(instants, prepend=instants[:1])
        if (steps < 0).any():
            step = int((steps < 0).argmax())
            after, before = (f"{np.datetime64(int(at), 'us')}Z" for at in instants[step - 1 : step + 1])
            message = f"timestamp {step}, {before}, is before the one it follows, {after}"
            raise errors.NegativeElapsed(message, path=(step,))
    except errors.InvalidArgument as error:
        raise error.at("timestamps") from None
    elapsed = steps if feature.origin == "previous" else instants[-1] - instants
    times: Array = elapsed / (UNIT_SECONDS[feature.unit] * 1e6)
    return times


def _instants(stamps: Any) -> Array:
    """Return whole microseconds since 1970, so that both doors and both forms give the same differences."""
    if isinstance(stamps, np.ndarray):
        return _from_seconds(_array_table(stamps, 1)[:, 0])
    return np.array([_from_text(stamp, step) for step, stamp in enumerate(stamps)], np.int64)


def _from_seconds(seconds: Array) -> Array:
    outside = (seconds < _YEARS_1_TO_9999[0]) | (seconds >= _YEARS_1_TO_9999[1])
    if outside.any():
        step = int(outside.argmax())
        message = f"timestamp {step}, {seconds[step]:g} s since 1970, is outside the years 1 to 9999"
        raise errors.WrongType(message, path=(step,))
    return np.rint(seconds * 1e6).astype(np.int64)


def _from_text(stamp: Any, step: int) -> int:
    try:
        if not _RFC_3339.fullmatch(stamp):
            raise ValueError
        return microseconds(datetime.datetime.fromisoformat(stamp.upper()))
    except (TypeError, ValueError):
        form = "RFC 3339 with an offset, as 2026-05-01T09:30:00+02:00"
        message = f"timestamp {step} is {_given(stamp)}, not {form}"
        raise errors.WrongType(message, path=(step,)) from None


def microseconds(time: datetime.datetime) -> int:
    """Return whole microseconds since 1970 of a time with an offset, in requests and in training data."""
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)


def shown(name: str) -> str:
    """Return a caller's name or label for a message, cut to what can be read."""
    return repr(_cut(name))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def _given(value: Any) -> str:
    """Return a caller's value for a message; what may be long, or may refuse to be written, by its type."""
    if isinstance(value, str):
        return shown(value)
    if value is None or isinstance(value, bool | float | np.number) or _is_short(value):
        return str(value)
    return f"of type {type(value).__name__}" if not isinstance(value, int) else "an integer of many digits"


def _is_short(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() <= 64
