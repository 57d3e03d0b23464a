"""Event sequences: cases read from a log, each its labels and their times."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.delimited import Delimited
from seqserve.models.data.layout import LogFile
from seqserve.models.data.stamps import Read, in_order, instant, reader_of

AUTUMN = 3_600_000_000
"""Microseconds that clocks are set back by in autumn."""
END = "[END]"
"""The label of what follows a sequence's last event."""
MISSING = frozenset(("", "-", "n/a", "#n/a", "<na>", "nan", "nat", "none", "null", "\\n"))
"""How files write that a case or a time is missing, in lower case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One complete event sequence: the events' labels, and their times in seconds from the first."""

    events: tuple[str, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Event:
    """One row of a log; `time` is in microseconds since 1970."""

    label: str
    time: int
    line: int


def read_log(path: Path, file: LogFile | None = None) -> list[Case]:
    """Read an event log, a CSV file; the rows of a case need not stand together.

    Times go on within a case, as serving wants them: a row that goes back is refused, or the rows are sorted
    where `file.order` says so. `delimited` and `stamps` say which separators, encodings and times are
    recognized. Cases come in the order of their first rows.

    Args:
        file: how it is written.

    Raises:
        ConfigInvalid: the file or a column is missing, a row cannot be read, or time runs backwards; the
            message names the line, and the setting that helps.
    """
    file = file or LogFile()
    log = _Log(path, file)
    cases: dict[str, list[_Event]] = {}
    for line, case, label, stamp in log.rows():
        events = cases.setdefault(case, [])
        events.append(_Event(label, log.time(line, case, stamp, events), line))
    if not cases:
        raise ConfigInvalid(f"{path}: it holds no case")
    return [_case(events, file) for events in cases.values()]


def _case(events: list[_Event], file: LogFile) -> Case:
    ordered = sorted(events, key=lambda event: event.time) if file.order == "time" else events
    first = ordered[0].time
    return Case(tuple(event.label for event in ordered), tuple((e.time - first) / 1e6 for e in ordered))


class _Log:
    """A log's rows, and what reads their times."""

    def __init__(self, path: Path, file: LogFile) -> None:
        self._path, self._file = path, file
        columns = {"file.case": file.case, "file.event": file.event, "file.time": file.time}
        self._opened = Delimited(path, file, columns, width=len(columns))
        self._places = {name: self._opened.header.index(name) for name in columns.values()}
        self._read: Read = reader_of(
            ((line, stamp) for line, _, _, stamp in self.rows()), file, str(path), file.time
        )

    def rows(self) -> Iterator[tuple[int, str, str, str]]:
        """Yield each row's line, case, label and time, none of them missing.

        A label is taken as it stands: callers send it so.
        """
        last = max(self._places.values())
        for line, cells in self._opened.rows():
            row = cells if len(cells) > last else [*cells, *[""] * (last + 1 - len(cells))]
            case, label, stamp = (row[place] for place in self._places.values())
            case, stamp = case.strip(), stamp.strip()
            if case.lower() in MISSING or stamp.lower() in MISSING or not label.strip():
                raise self._missing(line, case, label.strip(), stamp)
            yield line, case, label, stamp

    def _missing(self, line: int, *cells: str) -> ConfigInvalid:
        """Return the error of a row's first cell that is missing, or is written so; any label is one."""
        absent = (MISSING, {""}, MISSING)
        row = zip(self._places, cells, absent, strict=True)
        name, cell = next((name, cell) for name, cell, none in row if cell.lower() in none)
        what = f"{name} is missing" + (f", as {cell!r} says" if cell else "")
        return ConfigInvalid(f"{self._path} line {line}: {what}; fill it in, or drop the row")

    def time(self, line: int, case: str, stamp: str, before: list[_Event]) -> int:
        """Return a row's time; it follows the others of its case.

        Raises:
            ConfigInvalid: it cannot be read, or is earlier than the one before and rows are not sorted.
        """
        where = f"{self._path} line {line}"
        try:
            written = self._read(stamp)
        except ValueError as error:
            raise ConfigInvalid(f"{where}: {self._file.time} {stamp[:60]!r}: {error}") from error
        if self._file.order == "time" or not before:
            return instant(written)
        time = instant(in_order(written, before[-1].time))
        if time < before[-1].time:
            is_autumn = written.tzinfo is None and before[-1].time - time <= AUTUMN
            shown = " ".join(case.split())[:60]
            raise ConfigInvalid(f"{where}: case {shown}: {_backwards(stamp, before, is_autumn)}")
        return time


def _backwards(stamp: str, before: list[_Event], is_autumn: bool) -> str:
    event = f"event {len(before) + 1} is earlier than the one before it, on line {before[-1].line}: {stamp}"
    zone = ', or data.file.timezone, as "Europe/Berlin", if clocks were set back' if is_autumn else ""
    return f'{event}; give data.file.order = "time" to sort each case{zone}'
