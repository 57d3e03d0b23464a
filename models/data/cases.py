"""Event sequences: cases read from a log, each its labels and their times."""

import csv
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqserve.models.config import ConfigInvalid

COLUMNS = ("CaseID", "ActivityID", "CompleteTimestamp")
AUTUMN_SECONDS = 3600.0
END = "[END]"
"""The label of what follows a sequence's last event."""


@dataclass(frozen=True, slots=True)
class Case:
    """One complete event sequence: the events' labels, and their times in seconds from the first."""

    events: tuple[str, ...]
    seconds: tuple[float, ...]


def read_log(path: Path) -> list[Case]:
    """Read an event log: CaseID, ActivityID, CompleteTimestamp, a case's events contiguous, in order.

    Raises:
        ConfigInvalid: the file or a column is missing, a row cannot be read, or time runs backwards.
    """
    cases: dict[str, tuple[list[str], list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            rows = csv.DictReader(file)
            for row in rows:
                _read_row(row, cases, f"{path} line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigInvalid(f"{path}: {error}") from error
    if not cases:
        raise ConfigInvalid(f"{path}: it holds no case")
    timed = ((events, _seconds(times, f"{path} case {key}")) for key, (events, times) in cases.items())
    return [Case(tuple(events), seconds) for events, seconds in timed]


def _read_row(row: dict[str, str], cases: dict[str, tuple[list[str], list[float]]], where: str) -> None:
    for column in COLUMNS:
        if not row.get(column):
            raise ConfigInvalid(f"{where}: {column} is missing; the columns are {', '.join(COLUMNS)}")
    case, event, stamp = (row[column] for column in COLUMNS)
    try:
        time = datetime.datetime.fromisoformat(stamp)
    except ValueError as error:
        raise ConfigInvalid(f"{where}: CompleteTimestamp: {error}") from error
    events, times = cases.setdefault(case, ([], []))
    events.append(event)
    # a stamp without an offset is local time: only differences count
    times.append((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())


def _seconds(times: Sequence[float], where: str) -> tuple[float, ...]:
    """Return seconds from the first event. Time may run back by an hour, as in autumn; more is an error."""
    seconds = np.asarray(times) - times[0]
    steady = np.maximum.accumulate(seconds)
    if (steady - seconds).max() > AUTUMN_SECONDS:
        place = int((steady - seconds).argmax())
        raise ConfigInvalid(f"{where}: event {place + 1} is earlier than one before it; order them by time")
    return tuple(steady.tolist())
