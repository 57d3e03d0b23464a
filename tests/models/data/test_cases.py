"""Event logs as people have them: read rightly, or refused with the line and with what to do."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.cases import Case, read_log
from seqserve.models.data.layout import LogFile
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.errors import NegativeElapsed

HEAD = "CaseID,ActivityID,CompleteTimestamp\n"
TWO = [Case(("a", "b"), (0.0, 90.0))]


def log(*stamps: str, separator: str = ",", head: str = HEAD) -> str:
    """Return a log of one case, one event a stamp: a, b, c, …"""
    rows = [("7", chr(ord("a") + place), stamp) for place, stamp in enumerate(stamps)]
    return head.replace(",", separator) + "".join(separator.join(row) + "\n" for row in rows)


def read(tmp_path: Path, data: str | bytes, **file: Any) -> list[Case]:
    """Read a log of those bytes, written as `file` says."""
    path = tmp_path / "log.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_log(path, LogFile(**file))


STAMPS = {
    "ISO 8601": ("2026-12-24 13:05:00", "2026-12-24T13:06:30"),
    "offsets of all kinds": ("2026-12-24 13:05:00+0100", "2026-12-24T12:06:30Z"),
    "another offset, other hours": ("2026-12-24 13:05:00+05:30", "2026-12-24 07:36:30 UTC"),
    "minutes and seconds": ("2026-12-24 13:05", "2026-12-24 13:06:30,000"),
    "ISO 8601 without marks": ("20261224T130500", "20261224T130630,0"),
    "without marks and minutes alone": ("20261224T1305+01", "20261224T120630Z"),
    "year first with strokes": ("2026/12/24 13:05:00", "2026/12/24 13:06:30"),
    "German": ("24.12.2026 13:05", "24.12.2026, 13:06:30"),
    "British": ("24/12/2026 13:05", "24/12/2026 13:06:30"),
    "American": ("12/24/2026 12:59 PM", "12/24/2026 1:00:30 p.m."),
    "American, as browsers write it": ("12/24/2026, 1:05:00\u202fPM", "12/24/2026, 1:06:30\u202fPM"),
    "American, midnight": ("12/24/2026 12:00 AM", "12/24/2026 12:01:30 AM"),
    "day and month alike": ("05.05.2026 13:05", "05.05.2026 13:06:30"),
    "English months": ("24 Dec 2026 13:05", "24 December 2026 13:06:30"),
    "as in mails": ("Thu, 24 Dec 2026 13:05:00 +0100", "Thu, 24 Dec 2026 13:06:30 +0100"),
    "American months": ("Dec 24, 2026 1:05:00 PM", "Dec 24, 2026 1:06:30 PM"),
    "seconds since 1970": ("1798117500", "1798117590.0"),
    "milliseconds since 1970": ("1612010512345", "1612010602345"),
    "microseconds since 1970": ("1612010512345678", "1612010602345678"),
    "nanoseconds since 1970": ("1612010512345678000", "1612010602345678000"),
}


@pytest.mark.parametrize("stamps", STAMPS.values(), ids=STAMPS)
def test_times_that_mean_one_thing_are_read(stamps: Sequence[str], tmp_path: Path) -> None:
    """Ninety seconds pass between two events, however they are written."""
    assert read(tmp_path, log(*(f'"{stamp}"' for stamp in stamps))) == TWO


@pytest.mark.parametrize(
    ("stamps", "form"),
    [
        (("24.12.26 13:05:00", "24.12.26 13:06:30"), "%d.%m.%y %H:%M:%S"),
        (("20261224130500", "20261224130630"), "%Y%m%d%H%M%S"),
        (("01/02/2026 13:05", "01/02/2026 13:06:30"), "day_first"),
        (("01/02/2026 13:05", "01/02/2026 13:06:30"), "month_first"),
        (("0", "90"), "seconds"),
        (("-90000", "0"), "milliseconds"),
    ],
)
def test_times_that_could_mean_more_are_refused_until_it_is_said_which(
    stamps: Sequence[str], form: str, tmp_path: Path
) -> None:
    """The refusal names the line and the setting."""
    with pytest.raises(ConfigInvalid, match=r"log\.csv line 2: CompleteTimestamp .*data\.file\.timestamps"):
        read(tmp_path, log(*stamps))
    assert read(tmp_path, log(*stamps), timestamps=form) == TWO


def test_one_line_shows_the_order_of_day_and_month(tmp_path: Path) -> None:
    """The 25th of any month, on any line, decides for the whole file."""
    stamps = ("01/03/2026 00:00", "02/03/2026 00:00", "25/03/2026 00:00")
    assert read(tmp_path, log(*stamps))[0].seconds == (0.0, 86400.0, 24 * 86400.0)
    stamps = ("01/03/2026 00:00", "02/03/2026 00:00", "02/25/2026 00:00")
    assert read(tmp_path, log(*stamps))[0].seconds == (0.0, 31 * 86400.0, 53 * 86400.0)


HEADED = "\ufeff" + log("2026-12-24 13:05:00", "2026-12-24 13:06:30")
PLAIN = HEADED[1:]
BYTES = {
    "UTF-8 with a mark": HEADED.encode(),
    "UTF-16, little end first": b"\xff\xfe" + PLAIN.encode("utf-16-le"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "bars": PLAIN.replace(",", "|").encode(),
    "a space after each comma": PLAIN.replace(",", ", ").encode(),
    "lines as of Windows": PLAIN.replace("\n", "\r\n").encode(),
    "lines as of old Macs": PLAIN.replace("\n", "\r").encode(),
    "a line for Excel": ("sep=;\n" + PLAIN.replace(",", ";")).encode(),
    "rows without text": (PLAIN + ",,\n\n ,,\n").encode(),
    "a separator at the end of each row": PLAIN.replace(":00\n", ":00,\n")
    .replace(":30\n", ":30,,\n")
    .encode(),
    "all quoted, with semicolons": b'"CaseID";"ActivityID";"CompleteTimestamp"\r\n'
    b'"7";"a";"24.12.2026 13:05"\r\n"7";"b";"24.12.2026 13:06:30"\r\n',
    "all quoted, with tabs": b'"CaseID"\t"ActivityID"\t"CompleteTimestamp"\n"7"\t"a"\t"2026-12-24 13:05"\n'
    b'"7"\t"b"\t"2026-12-24 13:06:30"\n',
    "all quoted, with spaces": b'"CaseID", "ActivityID", "CompleteTimestamp"\n"7", "a", "2026-12-24 13:05"\n'
    b'"7", "b", "2026-12-24 13:06:30"\n',
    "all quoted": b'"CaseID","ActivityID","CompleteTimestamp"\n"7","a","2026-12-24 13:05"\n'
    b'"7","b","2026-12-24 13:06:30"\n',
    "columns of other names and places": b"note,CompleteTimestamp,note,ActivityID,CaseID\n"
    b'"x, y",2026-12-24 13:05,,a,7\n,2026-12-24 13:06:30,"two\nlines",b, 7\n',
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES)
def test_files_are_read_as_they_are_written(data: bytes, tmp_path: Path) -> None:
    """Encodings with a mark, the usual separators, and columns in any order are recognized."""
    assert read(tmp_path, data) == TWO


LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), min_size=1)


@given(
    labels=st.lists(LABELS.filter(str.strip), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_whatever_a_library_writes_is_read(
    labels: list[str],
    separator: str,
    quoting: Literal[0, 1, 2],
    end: str,
    encoding: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any label, between any separators, quoted or not, comes back as it was."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    rows = [("7", label, f"2026-12-24 13:05:{second:02}") for second, label in enumerate(labels)]
    writer.writerows([HEAD.strip().split(","), *rows])
    (case,) = read(tmp_path_factory.mktemp("log"), text.getvalue().encode(encoding))
    assert case == Case(tuple(labels), tuple(map(float, range(len(labels)))))


def test_names_of_columns_and_what_cannot_be_seen_are_settings(tmp_path: Path) -> None:
    """Columns, encoding and separator; a label is what the encoding says."""
    text = "Fall:Schritt:Zeit\n7:Prüfung:2026-12-24\n7:Ende:2026-12-25\n"
    file = {"case": "Fall", "event": "Schritt", "time": "Zeit", "separator": ":"}
    (case,) = read(tmp_path, text.encode("latin-1"), encoding="latin-1", **file)
    assert case == Case(("Prüfung", "Ende"), (0.0, 86400.0))
    assert read(tmp_path, text.encode("utf-16-le"), encoding="utf-16-le", **file) == [case]


def test_rows_of_a_case_need_not_stand_together(tmp_path: Path) -> None:
    """Cases come in the order of their first rows."""
    rows = ("2,x,2026-01-01 00:00", "1,y,2026-01-01 00:01", "2,z,2026-01-01 00:02")
    assert read(tmp_path, HEAD + "\n".join(rows)) == [Case(("x", "z"), (0.0, 120.0)), Case(("y",), (0.0,))]


def test_rows_out_of_order_are_refused_or_sorted(tmp_path: Path) -> None:
    """Sorted by time, those of one time as they stand in the file; what is added up is the same."""
    text = log("2026-01-02 00:00:00", "2026-01-01 00:00:00", "2026-01-02 00:00:00")
    with pytest.raises(ConfigInvalid, match=r'line 3: case 7: event 2 is earlier .* line 2.*order = "time"'):
        read(tmp_path, text)
    assert read(tmp_path, text, order="time") == [Case(("b", "a", "c"), (0.0, 86400.0, 86400.0))]


def test_an_hour_that_clocks_repeat_is_no_time_of_zero(tmp_path: Path) -> None:
    """Without a zone going back is refused, and the zone is asked for; with it the hour has passed."""
    text = log("2026-10-25 02:30:00", "2026-10-25 02:10:00", "2026-10-25 03:00:00")
    with pytest.raises(ConfigInvalid, match=r"line 3: .* earlier .*data\.file\.timezone"):
        read(tmp_path, text)
    assert read(tmp_path, text, timezone="Europe/Berlin")[0].seconds == (0.0, 2400.0, 5400.0)
    with pytest.raises(ConfigInvalid, match=r"line 2: .*2026-03-29 02:30:00 does not exist in Europe/Berlin"):
        read(tmp_path, log("2026-03-29 02:30:00"), timezone="Europe/Berlin")


def test_times_with_and_without_offset_need_a_zone(tmp_path: Path) -> None:
    """As callers must, the log has to say what an hour is; the zone says it for those without an offset."""
    text = log("2026-12-24 13:05:00", "2026-12-24 12:06:30Z")
    with pytest.raises(
        ConfigInvalid, match=r"line 3: .* an offset, that on line 2 no offset.*file\.timezone"
    ):
        read(tmp_path, text)
    assert read(tmp_path, text, timezone="Europe/Berlin") == TWO


REFUSED = {
    "no such column": (
        "Case,What\n",
        r"line 1: column 'CaseID' is missing.*'Case', 'What'.*data\.file\.case",
    ),
    "an unknown separator": (PLAIN.replace(",", ":"), r"data\.file\.separator if it is none of , ; tab \|"),
    "a column twice": (
        "CaseID," + PLAIN,
        r"2 columns 'CaseID'; rename all but one, or give data\.file\.case",
    ),
    "an empty file": ("", "the first line is empty"),
    "no row": (HEAD, "it holds no case"),
    "no time": (log("2026-01-01", ""), "line 3: CompleteTimestamp is missing"),
    "no case": (HEAD + " ,a,2026-01-01\n", "line 2: CaseID is missing"),
    "a short row": (HEAD + "1,a\n", "line 2: CompleteTimestamp is missing"),
    "a long row": (HEAD + "1,a,b,2026-01-01\n", "line 2: 4 cells, the header has 3; one that holds , needs"),
    "an open quote": (HEAD + '1,"a,2026-01-01\n', "line 2: .*a quote is not closed"),
    "NaN for a time": (log("2026-01-01", "NaN"), "line 3: CompleteTimestamp is missing, as 'NaN' says; fill"),
    "a dash for a time": (log("-"), "line 2: CompleteTimestamp is missing, as '-' says; fill it in, or drop"),
    "NULL for a case": (
        HEAD + "NULL,a,2026-01-01\n",
        "line 2: CaseID is missing, as 'NULL' says; fill it in",
    ),
    "a word": (log("2026-01-01", "soon"), "line 3: CompleteTimestamp 'soon' is not recognized"),
    "names in capitals": (
        PLAIN.upper(),
        r'give data\.file\.case = "CASEID", data\.file\.event = "ACTIVITYID", data\.file\.time = "COMPLETE',
    ),
    "XES's names": (
        "case:concept:name,concept:name,time:timestamp\n",
        r"'time:timestamp'; give data\.file\.case, data\.file\.event, data\.file\.time$",
    ),
    "no header": (PLAIN.partition("\n")[2], "line 1: .*or write a header above the line if it is a row"),
    "the header again": (HEADED + HEADED, "line 4: it is the header again; drop the line"),
    "zero": (log("0", "0"), "line 2: CompleteTimestamp '0' is not recognized"),
    "a day of Excel's": (log("46380.5451"), "line 2: CompleteTimestamp '46380.5451' is not recognized"),
    "a zone by its name": (log("2026-01-01 10:00 CET"), "line 2: .* is not recognized"),
    "a day that is not": (
        log("2026-06-31"),
        "line 2: CompleteTimestamp '2026-06-31': day is out of range for month; correct it, or drop the row",
    ),
    "the end of a day": (log("2026-12-24 24:00"), "line 2: .*hour must be in .*write 00:00 of the day after"),
    "an hour that is not": (log("12/24/2026 13:05 PM"), "line 2: .*hour 13 does not go with PM"),
    "a German month": (log("24 Dez 2026 13:05"), r"line 2: .*'Dez' is no month in English; give data\.file"),
    "dates without a time among others": (
        log("2026-01-01 10:00", "2026-01-02"),
        "line 3: .*no time, that on line 2 24 hours",
    ),
    "two forms": (
        log("2026-12-24 13:05", "24.12.2026 13:06"),
        "line 3: .*year last, that on line 2 year first",
    ),
    "two units": (log("1798117500", "1798117590000"), "line 3: .*milliseconds, that on line 2 seconds"),
    "two orders": (
        log("24/12/2026", "12/25/2026"),
        "line 2: .*the day first, '12/25/2026' on line 3 the month",
    ),
    "half of the hours": (log("12/24/2026 1:05 PM", "12/24/2026 2:05"), "line 3: .*24 hours, .* am or pm"),
    "Latin 1": (PLAIN.replace("a,", "ä,").encode("latin-1"), r"line 2: byte 0xe4 .*data\.file\.encoding"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), r'data\.file\.encoding = "utf-16-le"'),
    "the other half of it": (PLAIN.encode("utf-16-be"), r'data\.file\.encoding = "utf-16-be"'),
    "an unknown separator that is given": (
        PLAIN.replace(",", "~"),
        r"data\.file\.separator if it is none of",
    ),
    "bytes": (PLAIN.replace("a,", "\0,"), "it has bytes of 0, so it is no text"),
    "cut UTF-16": (b"\xff\xfe" + PLAIN.encode("utf-16-le")[:-1], "line 3: it is not utf-16"),
    "packed": (gzip.compress(PLAIN.encode()), "packed by gzip; unpack it"),
    "JSON": ('[{"CaseID": 7}]', "it is JSON; save it as CSV"),
    "a quote in a cell": (
        HEAD + r'1,"a \"b\"",2026-01-01',
        "line 2: .*stands in a cell, where it is written twice",
    ),
    "a workbook": (b"PK\x03\x04", "a zip archive or an Excel workbook; save it as CSV"),
    "XML": ("\ufeff\n<log/>", "XML, as .xes is; save it as CSV"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_clear_is_refused_in_one_line(data: str | bytes, message: str, tmp_path: Path) -> None:
    """The line is named, and what to do."""
    with pytest.raises(ConfigInvalid, match=r"log\.csv.*" + message) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Neither is a folder a log."""
    with pytest.raises(ConfigInvalid, match=r"none\.csv: there is no such file, seen from /"):
        read_log(tmp_path / "none.csv")
    with pytest.raises(ConfigInvalid, match="it is a folder; a file is expected"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        {"timestamps": "german"},
        {"timestamps": "%H:%M"},
        {"timestamps": "%Y-%m-%d %Z"},
        {"timestamps": "%Y-%d"},
        {"timestamps": "%m/%d/%Y %H:%M %p"},
        {"timestamps": "%m/%d/%Y %I:%M"},
        {"timezone": "Mars/Base"},
        {"encoding": "rot13"},
        {"separator": ";;"},
        {"case": "ActivityID"},
    ],
)
def test_settings_that_cannot_be_are_named(file: dict[str, str]) -> None:
    """A pattern that leaves the day open, too, or the half of the day, which Python would take as morning."""
    with pytest.raises(ValidationError, match=next(iter(file.values())).replace("%", "%")[:4]):
        LogFile(**file)  # type: ignore[arg-type]


TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001
ELAPSED: dict[str, Any] = {
    "task": "sequence",
    "name": "waits",
    "version": 1,
    "signatures": {
        "serving_default": {
            "inputs": {"wait": {"dtype": "float32", "axes": ["batch", "time"], "pad_value": -1}},
            "outputs": {"more": {"dtype": "float32", "axes": ["batch"]}},
        }
    },
    "mask": "none",
    "features": {"wait": {"kind": "elapsed", "unit": "seconds"}},
    "heads": {"more": {"kind": "numeric"}},
    "limits": {"sequence_steps": 8},
    "buckets": [8],
}


@given(st.lists(TIMES, min_size=1, max_size=6), st.sampled_from(["Z", "-03:30", "+14:00"]))
def test_a_log_gives_what_serving_makes_of_its_times(
    tmp_path_factory: pytest.TempPathFactory, times: list[datetime], offset: str
) -> None:
    """What is trained on is what a request with those times is encoded to; order is refused alike."""
    encoder = SequenceEncoder(parse_manifest(json.dumps(ELAPSED).encode()), "serving_default")
    folder = tmp_path_factory.mktemp("log")
    stamps = [f"{time.isoformat(timespec='microseconds')}{offset}" for time in times]
    try:
        served = encoder.encode({"wait": {"timestamps": stamps}}).row.inputs["wait"]
    except NegativeElapsed:
        with pytest.raises(ConfigInvalid, match="is earlier than the one before it"):
            read(folder, log(*stamps))
        return
    (case,) = read(folder, log(*stamps))
    trained = encoder.encode({"wait": np.diff(case.seconds, prepend=0.0)}).row.inputs["wait"]
    np.testing.assert_allclose(trained, served, rtol=1e-6)
