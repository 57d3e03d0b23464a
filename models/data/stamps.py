"""Time stamps as people's files write them: one form a file, recognized from all of its stamps, or named.

A form that could be read in two ways is refused, so that no time is a guess. Nothing of a stamp is filled in
but what its whole file leaves out: seconds, or the time of day.
"""

import datetime
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.layout import DAY_FIRST, MONTH_FIRST, STAMP_FORMS, STAMP_UNITS, CsvFile
from seqserve.service.contract.values import microseconds

SETTING = "data.file.timestamps"
PATTERN = f'give {SETTING}, one of {", ".join(STAMP_FORMS)} or a pattern as "%d.%m.%y %H:%M"'
DIGITS = {10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}
"""What a count since 1970 is in, by its digits: the years 2001 to 2286, which do not overlap."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(:(?P<second>\d{2})([.,](?P<fraction>\d+))?)?"
_OFFSET = r"(\s*(?P<offset>Z|UTC|GMT|[+-]\d\d(:?\d\d)?))?"
_TIME = rf"((T|,?\s+){_CLOCK}(\s*(?P<half>[AP])\.?M\.?)?{_OFFSET})?"
_BASIC = r"T(?P<hour>\d{2})(?P<minute>\d{2})((?P<second>\d{2})([.,](?P<fraction>\d+))?)?"
_DAY, _MONTH = r"([A-Z]{3,9},?\s+)?", r"(?P<name>[A-Z]{3})[A-Z]*\.?"
_FORMS = {
    name: re.compile(form, re.ASCII | re.IGNORECASE)
    for name, form in {
        "year first": r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})" + _TIME,
        "year last": r"(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4})" + _TIME,
        "day and name": rf"{_DAY}(?P<day>\d{{1,2}})\.?[ -]{_MONTH}[ -](?P<year>\d{{4}})" + _TIME,
        "name and day": rf"{_DAY}{_MONTH}\s+(?P<day>\d{{1,2}}),?\s+(?P<year>\d{{4}})" + _TIME,
        "no marks": r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})" + _BASIC + _OFFSET,
    }.items()
}
"""Dates, and the time of day; without marks, as ISO 8601's basic format has it, with both."""
_SPACES = {ord("\N{NO-BREAK SPACE}"): " ", ord("\N{NARROW NO-BREAK SPACE}"): " "}  # before PM, as CLDR has it
_DIGITS = dict.fromkeys(map(ord, "123456789"), "0")
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

Read = Callable[[str], datetime.datetime]
"""Reads one stamp; raises ValueError with why it cannot be read."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What all stamps of a file have in common."""

    form: str
    clock: str
    offset: str


def reader_of(stamps: Iterable[tuple[int, str]], file: CsvFile, where: str, column: str) -> Read:
    """Return what reads the stamps of a file, having looked at all of them.

    Times without an offset are read in `file.timezone`; without one they stay naive.

    Args:
        stamps: each with its line.
        where, column: the file and the column, for errors.

    Raises:
        ConfigInvalid: a form that is not recognized, two forms in one file, or days and months that could be
            either; the message names the line and the setting.
    """
    named = file.timestamps
    if named is not None and "%" in named:
        return lambda text: _located(datetime.datetime.strptime(text, named), file)  # noqa: DTZ007
    if named in STAMP_UNITS:
        return lambda text: _counted(text, STAMP_UNITS[named])
    seen = _Seen(file, where, column)
    for line, text in stamps:
        seen.add(line, text)
    return seen.reader()


def instant(time: datetime.datetime) -> int:
    """Return microseconds since 1970, of naive times as if in UTC: only differences count."""
    return microseconds(time if time.tzinfo else time.replace(tzinfo=datetime.UTC))


def in_order(time: datetime.datetime, least: int | None) -> datetime.datetime:
    """Return the time, of an hour that the clocks repeat the first or the second.

    The first, unless its instant is below `least`, which a row before it sets, and the second's is not.
    """
    if time.tzinfo is None:
        return time
    second = time.replace(fold=1)
    return second if least is not None and instant(time) < least <= instant(second) else time


class _Seen:
    """What has been seen of a file's stamps."""

    def __init__(self, file: CsvFile, where: str, column: str) -> None:
        self._file, self._where, self._column = file, where, column
        self._first: tuple[int, str, _Shape] | None = None
        self._shapes: dict[str, _Shape] = {}
        self._proofs: dict[str, tuple[int, str]] = {}  # by order of day and month: what shows it
        self._unclear: tuple[int, str] | None = None

    def add(self, line: int, text: str) -> None:
        """Take in one stamp."""
        outline = text.translate(_DIGITS)  # which alone decides the shape: a file has few
        shape = self._shapes.get(outline)
        if shape is None:
            shape = self._shapes[outline] = self._shape(line, text)
        if self._first is None:
            self._first = (line, text, shape)
        elif shape != self._first[2]:
            self._compare(line, text, shape, *self._first)
        if shape.form == "year last":
            self._order(line, text)

    def _at(self, line: int, text: str) -> str:
        return f"{self._where} line {line}: {self._column} {text[:60]!r}"

    def _shape(self, line: int, text: str) -> _Shape:
        found = _match(text)
        if found is not None:
            form, given = found[0], found[1].groupdict()
            clock = "no time" if given["hour"] is None else "am or pm" if given.get("half") else "24 hours"
            return _Shape(form, clock, "an offset" if given["offset"] else "no offset")
        digits = len(text.partition(".")[0])
        if _NUMBER.fullmatch(text) and digits in DIGITS and text[0] != "-":
            return _Shape(DIGITS[digits], "24 hours", "an offset")
        raise ConfigInvalid(f"{self._at(line, text)} is not recognized; {PATTERN}")

    def _compare(self, line: int, text: str, shape: _Shape, there: int, other: str, first: _Shape) -> None:
        """Refuse a stamp that is written otherwise than the first."""
        where = self._at(line, text)
        if (shape.form, shape.clock) != (first.form, first.clock):
            is_clock = shape.form == first.form
            this, that = (shape.clock, first.clock) if is_clock else (shape.form, first.form)
            what = f"has {this}, that on line {there} {that}: {other!r}"
            raise ConfigInvalid(f"{where} {what}; write all alike")
        if shape.offset != first.offset and self._file.timezone is None:
            what = f"has {shape.offset}, that on line {there} {first.offset}: {other!r}"
            wanted = 'give data.file.timezone, as "Europe/Berlin", for those without'
            raise ConfigInvalid(f"{where} {what}; {wanted}")

    def _order(self, line: int, text: str) -> None:
        match = _FORMS["year last"].fullmatch(text.translate(_SPACES))
        assert match is not None
        one, two = int(match["one"]), int(match["two"])
        if one > 12 or two > 12:
            self._proofs.setdefault(DAY_FIRST if one > 12 else MONTH_FIRST, (line, text))
        elif one != two and self._unclear is None:
            self._unclear = (line, text)

    def reader(self) -> Read:
        """Return what reads them all; raises ConfigInvalid where days and months could be either."""
        form = self._first[2].form if self._first is not None else ""
        if form in STAMP_UNITS:
            return lambda text: _counted(text, STAMP_UNITS[form])
        if form in ("year first", "no marks"):
            return lambda text: _located(_year_first(text), self._file)
        is_day_first = form == "year last" and self._is_day_first()
        return lambda text: _located(_written(text, is_day_first), self._file)

    def _is_day_first(self) -> bool:
        if self._file.timestamps is not None:
            return self._file.timestamps == DAY_FIRST
        if len(self._proofs) == 2:
            (line, text), (there, other) = self._proofs[DAY_FIRST], self._proofs[MONTH_FIRST]
            what = f"has the day first, {other!r} on line {there} the month"
            raise ConfigInvalid(f"{self._at(line, text)} {what}; write all alike")
        if not self._proofs and self._unclear is not None:
            line, text = self._unclear
            what = "could have the day or the month first, and no line of the file shows which"
            advice = f'give {SETTING} = "{DAY_FIRST}" or "{MONTH_FIRST}"'
            raise ConfigInvalid(f"{self._at(line, text)} {what}; {advice}")
        return DAY_FIRST in self._proofs


def _match(text: str) -> tuple[str, re.Match[str]] | None:
    plain = text.translate(_SPACES)
    matches = ((name, form.fullmatch(plain)) for name, form in _FORMS.items())
    return next(((name, match) for name, match in matches if match is not None), None)


def _year_first(text: str) -> datetime.datetime:
    """Read a time of that form; by the standard library where it knows it, which is faster."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return _written(text, False)


def _written(text: str, is_day_first: bool) -> datetime.datetime:
    found = _match(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is not recognized; {PATTERN}")
    form, match = found
    given = match.groupdict()
    day, month = given.get("day"), given.get("month")
    if form == "year last":
        day, month = (given["one"], given["two"]) if is_day_first else (given["two"], given["one"])
    number = int(month) if month else _named_month(given["name"])
    fraction = (given["fraction"] or "")[:6].ljust(6, "0")  # cut, as in requests
    clock = (_hour(given), int(given["minute"] or 0), int(given["second"] or 0), int(fraction))
    date, offset = (int(given["year"]), number, int(day or 0)), _offset(given["offset"])
    try:
        return datetime.datetime(*date, *clock, tzinfo=offset)
    except ValueError as error:
        advice = "write 00:00 of the day after" if clock == (24, 0, 0, 0) else "correct it, or drop the row"
        raise ValueError(f"{error}; {advice}") from None


def _named_month(name: str) -> int:
    if name.lower() not in MONTHS:
        raise ValueError(f"{name!r} is no month in English; give {SETTING}, a pattern, or write numbers")
    return MONTHS.index(name.lower()) + 1


def _hour(given: dict[str, str]) -> int:
    hour, half = int(given["hour"] or 0), (given.get("half") or "").upper()
    if half and not 1 <= hour <= 12:
        raise ValueError(f"hour {hour} does not go with {half}M")
    return hour % 12 + 12 * (half == "P") if half else hour


def _offset(text: str | None) -> datetime.timezone | None:
    if text is None:
        return None
    if text[0] not in "+-":
        return datetime.UTC
    minutes = 60 * int(text[1:3]) + int(text[3:].strip(":") or 0)
    return datetime.timezone(datetime.timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _counted(text: str, power: int) -> datetime.datetime:
    """Read a number of units since 1970, or since any other origin."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a number, as 1798117500.25 is one")
    try:
        return _EPOCH + datetime.timedelta(microseconds=int(Decimal(text).scaleb(power + 6)))
    except OverflowError:
        raise ValueError(f"{text[:60]!r} is outside the years 1 to 9999") from None


def _located(time: datetime.datetime, file: CsvFile) -> datetime.datetime:
    """Give a time without an offset the zone of the file."""
    if time.tzinfo is not None or file.timezone is None:
        return time
    zone = ZoneInfo(file.timezone)
    located = time.replace(tzinfo=zone)
    try:
        there_and_back = located.astimezone(datetime.UTC).astimezone(zone).replace(tzinfo=None)
    except OverflowError:
        raise ValueError(f"{time} is not within the years 1 to 9999 in UTC") from None
    if there_and_back != time:
        raise ValueError(f"{time} does not exist in {file.timezone}: clocks were set forward; correct it")
    return located
