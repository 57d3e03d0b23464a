"""Tables of numbers over time, as CSV files: what forecasters are trained and measured on."""

import csv
import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqserve.models.config import ConfigInvalid


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


def read_table(path: Path, time: str) -> Table:
    """Read a CSV table: column `time` in ISO 8601, every other column a number.

    Raises:
        ConfigInvalid: no such file or column, a cell that cannot be read, or rows unevenly spaced.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            rows = csv.reader(file)
            header = next(rows, [])
            if time not in header or len(header) < 2 or len(set(header)) < len(header):
                raise ConfigInvalid(
                    f"{path}: the header is {header}; {time!r} and distinct others are expected"
                )
            read = [_row(row, header, time, f"{path} line {rows.line_num}") for row in rows if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigInvalid(f"{path}: {error}") from error
    _check_even([instant for instant, _, _ in read], path)
    columns = tuple(name for name in header if name != time)
    values = np.array([numbers for _, _, numbers in read], np.float64).reshape(-1, len(columns))
    return Table(columns, tuple(stamp for _, stamp, _ in read), values)


def _row(
    row: list[str], header: list[str], time: str, where: str
) -> tuple[datetime.datetime, str, list[float]]:
    """Return a row's instant, the same as text, and its numbers."""
    if len(row) != len(header):
        raise ConfigInvalid(f"{where}: {len(row)} cells, the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    try:
        instant = datetime.datetime.fromisoformat(cells.pop(time))
    except ValueError as error:
        raise ConfigInvalid(f"{where}: {time}: {error}") from error
    stamp = str(instant)  # written one way, however the file writes it
    # a stamp without an offset is local time: only differences count
    instant = instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)
    return instant, stamp, [_number(cell, f"{where}: {name}") for name, cell in cells.items()]


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError as error:
        raise ConfigInvalid(f"{where}: {error}") from error
    if not math.isfinite(number):
        raise ConfigInvalid(f"{where} is {cell}; a finite number is expected")
    return number


def _check_even(instants: Sequence[datetime.datetime], path: Path) -> None:
    """Refuse a gap or a repetition: the model counts rows, not hours."""
    steps = [later - earlier for earlier, later in itertools.pairwise(instants)]
    for place, step in enumerate(steps):
        if step != steps[0] or step <= datetime.timedelta(0):
            raise ConfigInvalid(
                f"{path} row {place + 2}: {step} after the row before it, the first step is {steps[0]}"
            )
