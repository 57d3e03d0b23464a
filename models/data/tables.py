"""Tables of numbers over time, as CSV files: what forecasters are trained and measured on."""

import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.delimited import Delimited
from seqserve.models.data.layout import NumbersFile
from seqserve.models.data.stamps import Read, in_order, instant, reader_of


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows evenly spaced in time: the time, as `2026-01-31 18:00:00`, and one number for each column."""

    columns: tuple[str, ...]
    times: tuple[str, ...]
    values: np.ndarray  # float64 (rows, columns)

    def part(self, first: int, end: int | None) -> "Table":
        """Return the rows from `first` up to, not including, `end`."""
        return Table(self.columns, self.times[first:end], self.values[first:end])

    def arranged(self, columns: Sequence[str], where: str) -> "Table":
        """Return the table with its columns in another order.

        Raises:
            ConfigInvalid: a column is missing.
        """
        for name in columns:
            if name not in self.columns:
                raise ConfigInvalid(f"{where}: no column {name!r}; it has {', '.join(self.columns)}")
        places = [self.columns.index(name) for name in columns]
        return Table(tuple(columns), self.times, self.values[:, places])


def read_table(path: Path, time: str, file: NumbersFile | None = None) -> Table:
    """Read a CSV table: a column `time`, every other column a number.

    Args:
        file: how it is written; `delimited` and `stamps` say what is recognized.

    Raises:
        ConfigInvalid: no such file or column, a cell that cannot be read, or rows unevenly spaced.
    """
    file = file or NumbersFile()
    opened = Delimited(path, file, {"time": time})
    header = opened.header
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ConfigInvalid(f"{path}: the header has {twice!r} twice; rename one of the two")
    rows = [(line, _cells(cells, header, f"{path} line {line}")) for line, cells in opened.rows()]
    read = reader_of(((line, cells[time].strip()) for line, cells in rows), file, str(path), time)
    stamps: list[str] = []
    instants: list[int] = []
    for line, cells in rows:
        stamp, at = _time(read, cells[time].strip(), instants, f"{path} line {line}: {time}")
        stamps.append(stamp)
        instants.append(at)
    _check_even(instants, [line for line, _ in rows], path)
    columns = tuple(name for name in header if name != time)
    numbers = [
        [_number(cells[name], f"{path} line {line}: {name}", file) for name in columns]
        for line, cells in rows
    ]
    values = np.array(numbers, np.float64).reshape(-1, len(columns))
    return Table(columns, tuple(stamps), values)


def _cells(row: list[str], header: list[str], where: str) -> dict[str, str]:
    if len(row) != len(header):
        raise ConfigInvalid(f"{where}: {len(row)} cells, the header has {len(header)}")
    return dict(zip(header, row, strict=True))


def _time(read: Read, cell: str, before: Sequence[int], where: str) -> tuple[str, int]:
    """Return a row's time as text, written one way however the file writes it, and as microseconds."""
    try:
        written = read(cell)
    except ValueError as error:
        raise ConfigInvalid(f"{where}: {error}") from error
    written = in_order(written, before[-1] + 1 if before else None)
    return str(written), instant(written)


def _number(cell: str, where: str, file: NumbersFile) -> float:
    if not cell.strip():
        raise ConfigInvalid(f"{where} is empty; a finite number is expected")
    try:
        number = float(_plain(cell, file))
    except ValueError as error:
        is_comma = file.decimal == "." and cell.count(",") == 1
        advice = '; give data.file.decimal = "," if that is its decimal sign' if is_comma else ""
        raise ConfigInvalid(f"{where}: {error}{advice}") from error
    if not math.isfinite(number):
        raise ConfigInvalid(f"{where} is {cell}; a finite number is expected")
    return number


def _plain(cell: str, file: NumbersFile) -> str:
    """Write a number as Python does; raises ValueError for signs of thousands."""
    if file.decimal == "." or "." not in cell:
        return cell.replace(file.decimal, ".")
    raise ValueError(f"{cell!r} has a point, and data.file.decimal is a comma; leave out signs of thousands")


def _check_even(instants: Sequence[int], lines: Sequence[int], path: Path) -> None:
    """Refuse a gap or a repetition: the model counts rows, not hours."""
    steps = [datetime.timedelta(microseconds=b - a) for a, b in itertools.pairwise(instants)]
    for place, step in enumerate(steps):
        if step != steps[0] or step <= datetime.timedelta(0):
            where = f"{path} line {lines[place + 1]}, row {place + 2}"
            raise ConfigInvalid(f"{where}: {step} after the row before it, the first step is {steps[0]}")
