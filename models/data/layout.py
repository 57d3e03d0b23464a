"""How the CSV files that models are trained on are written: the table `data.file` of a configuration."""

import codecs
import re
import zoneinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DAY_FIRST, MONTH_FIRST = "day_first", "month_first"
STAMP_UNITS = {"seconds": 0, "milliseconds": -3, "microseconds": -6, "nanoseconds": -9}
"""Units of stamps that are numbers: powers of ten of a second."""
STAMP_FORMS = (DAY_FIRST, MONTH_FIRST, *STAMP_UNITS)


def _text_encoding(name: str) -> str:
    try:
        "".encode(codecs.lookup(name).name)
    except LookupError:
        raise ValueError(f"{name!r} is no text encoding; try latin-1, cp1252 or utf-16-le") from None
    return name


def _stamp_form(form: str) -> str:
    if "%Z" in form:
        raise ValueError(f"{form!r} has %Z, which reads a zone's name and drops it; %z reads an offset")
    if "%" in form and not all(re.search(part, form) for part in ("%[Yycx]", "%[mbBjcx]", "%[djcx]")):
        raise ValueError(f"{form!r} needs the year, the month and the day, as in %d.%m.%y %H:%M")
    if ("%I" in form) != ("%p" in form):  # Python reads the one without the other as hours before noon
        raise ValueError(f"{form!r}: %I and %p go together, as in %m/%d/%Y %I:%M %p")
    if "%" not in form and form not in STAMP_FORMS:
        raise ValueError(f"{form!r} is none of {', '.join(STAMP_FORMS)}, and no pattern as %d.%m.%y %H:%M")
    return form


def _known_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone known here; a name as Europe/Berlin is expected"
        ) from None
    return name


class CsvFile(BaseModel):
    """How a CSV file is written. What is absent is recognized, or the file is refused with what to give."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: Annotated[str, Field(pattern=r'^[^"\r\n]$')] | None = None
    encoding: Annotated[str, AfterValidator(_text_encoding)] | None = None
    timestamps: Annotated[str, AfterValidator(_stamp_form)] | None = None  # one of STAMP_FORMS, or strptime's
    timezone: Annotated[str, AfterValidator(_known_zone)] | None = None  # of stamps without an offset


class LogFile(CsvFile):
    """How an event log is written: the names of its columns, and the order of a case's rows.

    `file`: they are in order of time, else the log is refused. `time`: they are sorted, those of one time as
    they stand in the file.
    """

    case: str = "CaseID"
    event: str = "ActivityID"
    time: str = "CompleteTimestamp"
    order: Literal["file", "time"] = "file"

    @model_validator(mode="after")
    def _check(self) -> "LogFile":
        if len({self.case, self.event, self.time}) < 3:
            raise ValueError(
                f"case, event and time are three columns: {self.case}, {self.event}, {self.time}"
            )
        return self


class NumbersFile(CsvFile):
    """How a table of numbers is written."""

    decimal: Literal[".", ","] = "."
