"""What surfaces of tensors should say, made from our own door's answer; and tensors made from our rows."""

import math
from typing import Any

import numpy as np

from tests.doors import Row

Values = dict[str, Any]


def expected(item: dict[str, Any]) -> Values:
    """Return one of our items as values by the names that docs/surfaces.md gives."""
    if "heads" not in item:
        return {"text": item["text"], **({"score": item["score"]} if "score" in item else {})}
    return {
        f"{name}{end}": value for name, head in item["heads"].items() for end, value in parts(head).items()
    }


def parts(head: dict[str, Any]) -> Values:
    """Return one head's answer by the ends of names."""
    if "steps" in head:
        steps = [parts(step) for step in head["steps"]]
        words = {".words": head["words"]} if "words" in head else {}
        return {end: [step[end] for step in steps] for end in steps[0]} | words
    if "all" in head:
        reached = {one["label"] for one in head.get("labels", ())}
        every = head["all"]
        return {
            "": [one["label"] for one in every],
            ".probability": [one["probability"] for one in every],
            ".reached": [one["label"] in reached for one in every],
        }
    if "label" in head:
        return {"": head["label"], ".probability": head["probability"]}
    if "text" in head:
        return {"": head["text"]}
    value = {"": head["values"] if "values" in head else head["value"]}
    intervals = head.get("intervals") or ()
    ends = ("level", "low", "high")
    return value | ({f".{end}": [one[end] for one in intervals] for end in ends} if intervals else {})


def columns(row: Row) -> dict[str, list[Any]] | None:
    """Return what a row asks by column; None where it cannot be said so."""
    if row.body.keys() - {"texts", "sequences"}:
        return None  # options
    if row.verb == "translate":
        return {"text": row.body["texts"]}
    sequences = row.body["sequences"]
    if len({tuple(sequence) for sequence in sequences}) != 1:
        return None
    return {name: [sequence[name] for sequence in sequences] for name in sequences[0]}


def arrays(row: Row) -> dict[str, np.ndarray] | None:
    """Return what a row asks as tensors, shorter rows filled up; None where it cannot be said so."""
    found = columns(row)
    if found is None:
        return None
    try:
        return {name: array(values) for name, values in found.items()}
    except (TypeError, ValueError):
        return None  # timestamps, a mixture, nothing


def array(rows: list[Any]) -> np.ndarray:
    """Return rows as one array of objects (text) or doubles."""
    shape = widest(rows)
    leaf = rows
    while isinstance(leaf, list):
        leaf = leaf[0] if leaf else None
    if leaf is None or not isinstance(leaf, str | int | float):
        raise TypeError(leaf)
    filled = np.full(shape, "", object) if isinstance(leaf, str) else np.full(shape, np.nan)
    put(filled, rows)
    return filled


def widest(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    inner = [widest(entry) for entry in value]
    longest = max(inner, key=len, default=())
    return (len(value), *(max(one[axis] for one in inner if len(one) > axis) for axis in range(len(longest))))


def put(filled: np.ndarray, value: Any) -> None:
    if filled.ndim == 1:
        if any(isinstance(entry, str) != (filled.dtype == object) for entry in value):
            raise TypeError(value)
        filled[: len(value)] = value
        return
    for place, entry in enumerate(value):
        put(filled[place], entry)


def cut(value: Any) -> Any:
    """Return a value of a row without what fills it up."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, list):
        return value
    kept = [cut(entry) for entry in value]
    while kept and (kept[-1] in ("", []) or (isinstance(kept[-1], float) and math.isnan(kept[-1]))):
        kept.pop()
    return kept


def by_row(tensors: dict[str, np.ndarray]) -> list[Values]:
    """Return tensors as values of each row."""
    count = len(next(iter(tensors.values())))
    return [
        {
            name: cut(tensor[row].tolist() if tensor.ndim > 1 else tensor.tolist()[row])
            for name, tensor in tensors.items()
        }
        for row in range(count)
    ]
