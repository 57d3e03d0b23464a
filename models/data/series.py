"""Labelled sequences of numbers: reading sktime's `.ts` files, and splitting them by class.

The form: lines that start with `#` or `@` say what the file holds, `@data` ends them, and each line after it
is `dimension:dimension:…:label`, a dimension being its values in order of time, separated by commas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqserve.models.config import ConfigInvalid, unreadable
from seqserve.service.contract.padding import Array


@dataclass(frozen=True, slots=True)
class Series:
    """One sequence, float64 (time, width), and its class."""

    values: Array
    label: str


def read_series(path: Path) -> list[Series]:
    """Read a `.ts` file; sequences may differ in length, not in width.

    Raises:
        ConfigInvalid: the file is missing, or a line cannot be read; the message says which, and why.
    """
    try:
        lines = enumerate(path.read_text("utf-8-sig").splitlines(), 1)
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: {error}; save it as UTF-8") from error
    labels: tuple[str, ...] = ()
    rows: list[Series] = []
    for number, line in ((number, line.strip()) for number, line in lines):
        where = f"{path} line {number}"
        if line.startswith("@"):
            labels = _header(line, where) or labels
        elif line and not line.startswith("#"):
            rows.append(_row(line, labels, where))
            if rows[-1].values.shape[1] != rows[0].values.shape[1]:
                shapes = [series.values.shape[1] for series in (rows[-1], rows[0])]
                raise ConfigInvalid(f"{where}: {shapes[0]} dimensions, the lines before have {shapes[1]}")
    if not rows:
        raise ConfigInvalid(f"{path}: it holds no sequence")
    return rows


def _header(line: str, where: str) -> tuple[str, ...]:
    """Return the labels if the line lists them; refuse a form that is not supported."""
    keyword, *words = line.split()
    keyword, stated = keyword.lower(), [word.lower() for word in words[:1]]
    if keyword == "@timestamps" and stated == ["true"]:
        raise ConfigInvalid(f"{where}: values with time stamps are not supported: {line.strip()}")
    if keyword == "@classlabel":
        if stated != ["true"]:
            raise ConfigInvalid(f"{where}: the sequences have no class: {line.strip()}")
        return tuple(words[1:])
    return ()


def _row(line: str, labels: tuple[str, ...], where: str) -> Series:
    *dimensions, label = (part.strip() for part in line.split(":"))
    if not dimensions or not label:
        raise ConfigInvalid(f"{where}: dimension:…:label is expected")
    if labels and label not in labels:
        raise ConfigInvalid(f"{where}: label {label!r} is none of @classLabel's {', '.join(labels)}")
    columns = [_column(text, f"{where} dimension {place}") for place, text in enumerate(dimensions, 1)]
    for place, column in enumerate(columns, 1):
        if len(column) != len(columns[0]):
            message = f"{len(column)} values, the first dimension has {len(columns[0])}"
            raise ConfigInvalid(f"{where} dimension {place}: {message}")
    return Series(np.array(columns).T, label)


def _column(text: str, where: str) -> list[float]:
    values = []
    for place, word in enumerate(text.split(","), 1):
        try:
            values.append(float(word))
        except ValueError:
            raise ConfigInvalid(f"{where}: value {place} is not a number: {word!r}") from None
        if not np.isfinite(values[-1]):
            raise ConfigInvalid(f"{where}: value {place} is missing or infinite: {word!r}")
    return values


def stratified(labels: Sequence[str], parts: int, seed: int) -> Array:
    """Deal rows into `parts` of nearly equal size and shares of each class; returns each row's part, (rows).

    The result depends on the labels and the seed alone, not on the order of the classes in a model.
    """
    of_row = np.zeros(len(labels), np.int64)
    dealt = 0
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.asarray(labels) == label)
        shuffled = np.random.default_rng((seed, dealt)).permutation(rows)
        of_row[shuffled] = (dealt + np.arange(len(rows))) % parts  # on from where the last class stopped
        dealt += len(rows)
    return of_row
