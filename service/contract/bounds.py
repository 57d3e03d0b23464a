"""How large what a manifest says may be: one table for numbers, one for lists and objects, one for strings.

The bounds are far above what models need; they keep a version that is broken or hostile from costing memory
or time before it is refused. Fields that are not named here are unknown or read by nothing, and are kept as
they are. What one field allows of another is for `consistency`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from seqserve.service.errors import ManifestInvalid

MANIFEST_BYTES = 64 * 2**20
FILE_BYTES = 256 * 2**20
"""Of a contract file other than the manifest: vocabularies have at most a million entries."""
ASSET_BYTES = 2**30
"""Of any file in assets/, which a graph may read whole."""
FLOAT32, INT32, INT64 = 3.4028234663852886e38, 2**31 - 1, 2**63 - 1
EXACT_IN_FLOAT32 = 2**24
"""Up to here, float32 has every integer."""
ROW_NUMBERS = 2**28
"""The numbers of one row that is padded to the last bucket: 1 GiB of float32."""

_REAL, _ID, _LENGTH = (-FLOAT32, FLOAT32), (-INT32 - 1, INT32), (1, 1_000_000)
NUMBERS: Mapping[str, tuple[float, float]] = {
    "schema_version": (0, INT32),
    "version": (1, INT64),
    "pad_value": _REAL,
    "state": (1, ROW_NUMBERS),
    **dict.fromkeys(("default", "minimum", "maximum"), (-FLOAT32, FLOAT32)),
    **dict.fromkeys(("pad", "unknown", "start", "end", "first_id", "unknown_id"), _ID),
    "width": (1, 100_000),
    **dict.fromkeys(("mean", "scale", "temperature"), _REAL),
    **dict.fromkeys(("thresholds", "quantiles"), (0, 1)),
    "max_beams": (1, 1000),
    **dict.fromkeys(("default_length", "max_length", "text_pieces"), _LENGTH),
    "common": _LENGTH,
    "partners": (0, 1_000_000),
    **dict.fromkeys(("sequence_steps", "sequence_least", "buckets"), _LENGTH),
    "text_characters": (1, 100_000_000),
    **dict.fromkeys(("cpu", "gpu"), (0, 0.1)),
}
"""By field, the least and the most; of a list, of each entry."""
ENTRIES: Mapping[str, int] = {
    **dict.fromkeys(("signatures", "inputs", "outputs", "options", "features", "heads"), 1000),
    "axes": 16,
    "state": 1000,
    "labels": 1_000_000,
    "thresholds": 1_000_000,
    **dict.fromkeys(("mean", "scale", "columns", "units"), 100_000),
    **dict.fromkeys(("quantiles", "buckets", "examples", "mask_from", "streams"), 1000),
    "files": 100_000,
}
"""By field, the most entries of a list or an object."""
CHARACTERS: Mapping[str, int] = dict.fromkeys(
    (
        *("task", "name", "input", "mask", "mask_from", "streams", "axes", "tokenizer", "normalization"),
        *("labels", "columns", "units", "unit", "signatures", "files", "source", "target"),
        *("greedy", "beam", "sample"),
    ),
    1000,
)
"""By field, the longest string; of a list, of each entry."""
LONGEST_KEY = 1000
MOST_FAULTS, LONGEST_FAULT = 10, 1000
"""Faults of a manifest that are shown, and the characters of each."""
DEEPEST = 8
"""Nothing that is named here lies deeper."""
FREE = ("card", "profile", "examples")
"""Parts of which the entries are the trainer's or a caller's own; `profile` is for `consistency`."""
KNOWN = (
    *(
        "schema_version",
        "task",
        "name",
        "version",
        "signatures",
        "mask",
        "mask_from",
        "mask_where",
        "streams",
    ),
    *("options", "features", "heads", "decode", "languages", "limits", "buckets", "tolerance", "files"),
)


def check_bounds(data: bytes, file: str) -> None:
    """Check a manifest's JSON, before more is made of it.

    Raises:
        ManifestInvalid: it is not JSON, or something is past a bound: field, value and limit are named.
    """
    if len(data) > MANIFEST_BYTES:
        raise ManifestInvalid(f"{file}: {len(data)} bytes are above the limit of {MANIFEST_BYTES}")
    try:
        # JSON has no NaN and no Infinity; pydantic would let them in where any value goes
        plain = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ManifestInvalid(f"{file}: not JSON: {error}") from error
    excess = _first_excess(plain) if isinstance(plain, dict) else None
    if excess is not None:
        raise ManifestInvalid(in_one_line(f"{file}: {excess}"))


def in_one_line(message: str) -> str:
    """Return a message without line breaks, which names and values may have."""
    return message.replace("\r", "\\r").replace("\n", "\\n")


def _first_excess(plain: dict[str, Any]) -> str | None:
    parts = [(name, plain[name]) for name in KNOWN if name in plain]
    faults = (fault for name, part in parts for fault in _faults(part, name, name, 1))
    counted = ((name, plain.get(name)) for name in FREE)
    too_many = (_too_many(part, name, name) for name, part in counted if isinstance(part, list))
    return next(faults, None) or next(filter(None, too_many), None)


def _faults(value: Any, name: str, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, list | dict):
        too_many = _too_many(value, name, path)
        if too_many is not None:
            yield too_many
        elif depth < DEEPEST:
            yield from _faults_within(value, name, path, depth)
    elif (fault := _scalar(value, name)) is not None:
        yield f"{path}: {fault}"


def _faults_within(value: list[Any] | dict[str, Any], name: str, path: str, depth: int) -> Iterator[str]:
    is_list = isinstance(value, list)
    for key, entry in enumerate(value) if isinstance(value, list) else value.items():
        field = name if is_list else str(key)
        if not is_list and len(field) > LONGEST_KEY:
            yield f"{path}: a name of {len(field)} characters is above the limit of {LONGEST_KEY}"
        elif isinstance(entry, list | dict):
            yield from _faults(entry, field, f"{path}.{key}", depth + 1)
        elif (fault := _scalar(entry, field)) is not None:
            yield f"{path}.{key}: {fault}"


def _too_many(value: list[Any] | dict[str, Any], name: str, path: str) -> str | None:
    most = ENTRIES.get(name)
    if most is None or len(value) <= most:
        return None
    return f"{path}: {len(value)} entries are above the limit of {most}"


def _scalar(value: Any, name: str) -> str | None:
    if isinstance(value, str):
        longest = CHARACTERS.get(name)
        is_longer = longest is not None and len(value) > longest
        return f"{len(value)} characters are above the limit of {longest}" if is_longer else None
    if name not in NUMBERS or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    least, most = NUMBERS[name]
    if value > most:
        return f"{value} is above the limit of {most}"
    return f"{value} is below the limit of {least}" if value < least else None
