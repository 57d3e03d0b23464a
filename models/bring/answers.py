"""What a user's own code answers, as it is written down, and whether a served answer is the same.

By head: a label, `{label: probability}`, or the numbers as the model gives them; a value, or a list of them;
a list with an entry a step.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.manifest import Head, Numeric, Sigmoid, Softmax
from seqserve.service.contract.texts import TextHead

ROUNDED = 5e-3
"""Half a unit of the last digit that a number is written with counts as equal, up to this."""
FORMS = {
    "softmax": "a label, a table of probabilities by label, or one number a label",
    "sigmoid": "a list of labels, a table of probabilities by label, or one number a label",
    "numeric": "a number, or one a column",
    "text": "a text",
}
Wanted = Any
"""A label; a frozenset of labels; probabilities by label; an array of numbers; a text; a list of these."""


def read_wanted(field: str, head: Head, given: Any) -> Wanted:
    """Check an expected answer, and return it in the form that is compared.

    Raises:
        ConfigInvalid: it is no answer of such a head.
    """
    if head.per == "step":
        if not isinstance(given, list):
            raise _wrong(field, head, given, "a list with an entry a step, each ")
        single = head.model_copy(update={"per": "sequence"})
        return [read_wanted(f"{field}.{step}", single, one) for step, one in enumerate(given)]
    if isinstance(head, TextHead):
        if not isinstance(given, str):
            raise _wrong(field, head, given)
        return given
    if isinstance(head, Numeric):
        return _numbers(field, head, given)
    return _labels(field, head, given)


def _labels(field: str, head: Softmax | Sigmoid, given: Any) -> Wanted:
    if isinstance(given, Mapping):
        unknown = [label for label in given if label not in head.labels]
        if unknown:
            raise _no_label(field, head, unknown[0])
        return {label: float(_number(field, head, value)) for label, value in given.items()}
    if isinstance(head, Softmax) and (
        isinstance(given, str) or (_is_number(given) and float(given).is_integer())
    ):
        label = given if isinstance(given, str) else str(int(given))
        if label not in head.labels:
            raise _no_label(field, head, given)
        return label
    listed = given if isinstance(given, list) else [given]
    if isinstance(head, Sigmoid) and all(isinstance(label, str) for label in listed):
        unknown = [label for label in listed if label not in head.labels]
        if unknown:
            raise _no_label(field, head, unknown[0])
        return frozenset(listed)
    if len(listed) != len(head.labels):
        raise _wrong(field, head, given)
    return dict(zip(head.labels, (float(_number(field, head, value)) for value in listed), strict=True))


def _numbers(field: str, head: Numeric, given: Any) -> Any:
    try:
        values = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise _wrong(field, head, given) from None
    columns = max(1, len(head.columns))
    if head.per == "horizon":
        is_table = values.ndim in (1, 2) and values.size % columns == 0
        values = values.reshape(-1, columns) if is_table else values
    elif values.ndim < 2 and values.size == columns:
        values = values.reshape(columns)
    wanted = 2 if head.per == "horizon" else 1
    if values.ndim != wanted or values.shape[-1] != columns or not np.isfinite(values).all():
        raise _wrong(field, head, given, "a row a step, each " if head.per == "horizon" else "")
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(field: str, head: Head, value: Any) -> float:
    if not _is_number(value) or not np.isfinite(value):
        raise _wrong(field, head, value)
    return float(value)


def _wrong(field: str, head: Head, given: Any, form: str = "") -> ConfigInvalid:
    forms = f"{form}{FORMS[head.kind]}"
    return ConfigInvalid(f"{field}: {_short(given)} is not what a {head.kind} head answers: {forms}")


def _no_label(field: str, head: Softmax | Sigmoid, given: Any) -> ConfigInvalid:
    listed = ", ".join(map(repr, head.labels[:5])) + (", …" if len(head.labels) > 5 else "")
    place = "; a label is wanted, not its place" if _is_number(given) else ""
    return ConfigInvalid(f"{field}: {_short(given)} is none of the head's labels, {listed}{place}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


# --- compared ---------------------------------------------------------------------------------------


def mismatch(head: Head, wanted: Wanted, got: Mapping[str, Any], tolerance: float) -> str | None:
    """Say where a head's served answer, in its JSON form, is not the wanted one; None if it is."""
    if head.per == "step":
        if len(wanted) != len(got["steps"]):
            return f"{len(got['steps'])} steps are served, {len(wanted)} expected"
        single = head.model_copy(update={"per": "sequence"})
        pairs = enumerate(zip(wanted, got["steps"], strict=True))
        found = ((step, mismatch(single, one, other, tolerance)) for step, (one, other) in pairs)
        return next((f"step {step}: {why}" for step, why in found if why is not None), None)
    if isinstance(head, TextHead):
        same = wanted.strip() == got["text"].strip()
        return None if same else f"{got['text']!r} is served, {wanted!r} expected"
    if isinstance(head, Numeric):
        return _values_apart(wanted, got["values"] if head.per == "horizon" else got["value"], tolerance)
    return _labels_apart(head, wanted, got, tolerance)


def _labels_apart(
    head: Softmax | Sigmoid, wanted: Wanted, got: Mapping[str, Any], tolerance: float
) -> str | None:
    served = probabilities(got)
    if isinstance(wanted, str):
        chosen = got["label"]
        if served.get(wanted, 0.0) >= served[chosen] - tolerance:
            return None
        shown = f"{served[wanted]:.4g}" if wanted in served else "very little"
        return f"{chosen!r} is served ({served[chosen]:.4g}), {wanted!r} expected (served with {shown})"
    if isinstance(wanted, frozenset):
        assert isinstance(head, Sigmoid)
        limits = dict(zip(head.labels, head.thresholds, strict=True))
        clear = [label for label in head.labels if abs(served[label] - limits[label]) > tolerance]
        label = next((n for n in clear if (n in wanted) != (served[n] >= limits[n])), None)
        if label is None:
            return None
        side = "at least" if label in wanted else "below"
        return f"{label!r} is served with {served[label]:.4g}, {side} {limits[label]:g} is expected"
    least = min(served.values())  # of many labels the least likely are not listed
    for label, value in wanted.items():
        if not near(value, served.get(label, min(value, least)), tolerance):
            shown = f"{served[label]:.6g}" if label in served else f"less than {least:.3g}"
            return f"{label!r} is served with {shown}, {value:.6g} expected"
    return None


def probabilities(got: Mapping[str, Any]) -> dict[str, float]:
    """Return a served answer's probabilities by label: of a class those that are listed."""
    return {entry["label"]: entry["probability"] for entry in got.get("all") or got["top"]}


def _values_apart(wanted: Any, got: Any, tolerance: float) -> str | None:
    served = np.array(got, np.float64).reshape(-1, wanted.shape[-1])
    table = wanted.reshape(-1, wanted.shape[-1])
    if len(served) != len(table):
        return f"{len(served)} rows are served, {len(table)} expected"
    for place in np.ndindex(*table.shape):
        if not near(float(table[place]), float(served[place]), tolerance):
            where = f" at row {place[0]}, column {place[1]}" if table.size > 1 else ""
            return f"{served[place]:.6g} is served, {table[place]:.6g} expected{where}"
    return None


def near(wanted: float, got: float, tolerance: float) -> bool:
    """Say whether two numbers are equal, the wanted one rounded to the digits that it has."""
    exponent = Decimal(repr(wanted)).as_tuple().exponent
    rounding = min(ROUNDED, 0.5 * 10.0**exponent) if isinstance(exponent, int) else 0.0
    return abs(wanted - got) <= tolerance * (1 + abs(wanted)) + rounding


def pairs(head: Head, wanted: Wanted, got: Mapping[str, Any]) -> Iterator[tuple[Wanted, Mapping[str, Any]]]:
    """Yield each single answer of a head, wanted and served: one, or one a step."""
    if head.per != "step":
        yield wanted, got
        return
    yield from zip(wanted, got["steps"], strict=False)


def names_labels(given: Any) -> bool:
    """Say whether an expected answer, as it is written, names labels: only then is their order compared."""
    if isinstance(given, list):
        return any(names_labels(one) for one in given)
    return isinstance(given, str | Mapping)
