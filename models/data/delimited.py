"""CSV files as they come: encoding, separator and columns, recognized or refused with what to give."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from seqserve.models.config import ConfigInvalid, unreadable
from seqserve.models.data.layout import CsvFile

SEPARATORS = {",": ",", ";": ";", "\t": "tab", "|": "|"}
"""What is recognized, and how it is named."""
MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte-order marks; the longer first."""
OTHERS = {
    b"PK": "a zip archive or an Excel workbook; save it as CSV",
    b"\x1f\x8b": "packed by gzip; unpack it",
    b"BZh": "packed by bzip2; unpack it",
    b"\xfd7zXZ": "packed by xz; unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it",
    b"PAR1": "Parquet; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV",
    b"<": "XML, as .xes is; save it as CSV",
    b'{"': "JSON; save it as CSV",
    b"[{": "JSON; save it as CSV",
}
"""What is no CSV file, by its first bytes, and what to do."""
LOOKED_AT = 4096
Row = tuple[int, list[str]]
"""The line that a row ends on, and its cells in the order of the header."""


class Delimited:
    """A CSV file, opened anew for each pass over its rows.

    Args:
        file: how it is written.
        needed: the columns that must be there once, by the setting that names each.
        width: the fewest columns that a header has.

    Raises:
        ConfigInvalid: no such file, not text in a known encoding, or no header with those columns.
    """

    def __init__(self, path: Path, file: CsvFile, needed: Mapping[str, str], width: int = 2) -> None:
        self.path, self._needed = path, needed
        try:
            with path.open("rb") as opened:
                head = opened.read(LOOKED_AT)
            self._encoding = _encoding(head, file, path)
            self._skipped, named = self._first_line()
            self._separator, self.header, self._is_spaced = self._recognized(file.separator or named, width)
        except (OSError, UnicodeError, csv.Error) as error:
            raise self._fault(error, 1) from error

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header; those without any text in them are passed over.

        Raises:
            ConfigInvalid: a row repeats the header or has more cells, a quote is open, or bytes are no text.
        """
        line = self._line
        try:
            for line, cells in self._cells(self._separator, self._is_spaced):
                if cells[1:] == self._head[1:] and _names(cells[:1]) == self.header[:1]:
                    raise ConfigInvalid(f"{self.path} line {line}: it is the header again; drop the line")
                if len(cells) > len(self.header) and any(map(str.strip, cells[len(self.header) :])):
                    advice = f"one that holds {SEPARATORS.get(self._separator, self._separator)} needs quotes"
                    counts = f"{len(cells)} cells, the header has {len(self.header)}"
                    raise ConfigInvalid(f"{self.path} line {line}: {counts}; {advice}")
                if any(map(str.strip, cells)):
                    yield line, cells[: len(self.header)]
        except (OSError, UnicodeError, csv.Error) as error:
            raise self._fault(error, line + 1) from error

    def _cells(self, separator: str, is_spaced: bool, has_header: bool = False) -> Iterator[Row]:
        form = {"delimiter": separator, "skipinitialspace": is_spaced, "strict": True}
        with self.path.open(newline="", encoding=self._encoding) as file:
            for _ in range(self._skipped):
                file.readline()
            rows = csv.reader(file, **form)  # type: ignore[arg-type]
            if not has_header:
                next(rows, None)
            for cells in rows:
                yield rows.line_num + self._skipped, cells

    def _first_line(self) -> tuple[int, str | None]:
        """Return how many lines precede the header, and the separator that such a line, Excel's, names."""
        with self.path.open(newline="", encoding=self._encoding) as file:
            line = file.readline(LOOKED_AT).lstrip("\ufeff").rstrip("\r\n")
        is_said = line.startswith("sep=") and len(line) == 5
        return (1, line[-1]) if is_said else (0, None)

    def _recognized(self, given: str | None, width: int) -> tuple[str, list[str], bool]:
        """Return the separator, the header, and whether a space follows each separator."""
        best: list[str] = []
        for separator in [given] if given else SEPARATORS:
            try:
                self._line, cells = next(self._cells(separator, False, has_header=True), (1, []))
                is_spaced = all(cell.startswith(" ") for cell in cells[1:])
                if is_spaced:  # quotes that follow the spaces are then quotes
                    self._line, cells = next(self._cells(separator, True, has_header=True), (1, []))
            except csv.Error:  # a quoted name that another separator follows
                continue
            names, self._head = _names(cells), cells
            if len(names) >= width and set(self._needed.values()) <= set(names):
                self._check_once(names)
                return separator, names, is_spaced
            best = names if len(names) > len(best) else best
        raise self._no_column(best, given)

    def _check_once(self, names: list[str]) -> None:
        for setting, name in self._needed.items():
            if names.count(name) > 1:
                message = f"the header has {names.count(name)} columns {name!r}"
                raise ConfigInvalid(f"{self.path}: {message}; rename all but one, or give data.{setting}")

    def _no_column(self, names: list[str], given: str | None) -> ConfigInvalid:
        if not any(names):
            return ConfigInvalid(f"{self.path}: the first line is empty, or no header; one is expected there")
        missing = [(setting, name) for setting, name in self._needed.items() if name not in names]
        known = f"none of {_listed()}" if given is None else f"not {given!r}"
        advice = f", or data.file.separator if it is {known}" if len(names) == 1 else ""
        header = ", ".join(map(repr, names))[:200]
        if not missing:
            return ConfigInvalid(f"{self.path}: the header has only {header}; give more columns{advice}")
        if any(name[:1].isdigit() for name in names):
            advice += ", or write a header above the line if it is a row"
        settings = ", ".join(f"data.{setting}{_alike(name, names)}" for setting, name in missing)
        return ConfigInvalid(
            f"{self.path} line {1 + self._skipped}: column {missing[0][1]!r} is missing; "
            f"the header has {header}; give {settings}{advice}"
        )

    def _fault(self, error: Exception, line: int) -> ConfigInvalid:
        if isinstance(error, OSError):
            return unreadable(self.path, error)
        if isinstance(error, UnicodeError):
            return ConfigInvalid(f"{self.path} {_undecoded(self.path, self._encoding)}")
        advice = "a quote is not closed, or stands in a cell, where it is written twice"
        return ConfigInvalid(f"{self.path} line {line}: {error}: {advice}")


def _listed() -> str:
    return " ".join(SEPARATORS.values())


def _names(cells: list[str]) -> list[str]:
    return [cell.lstrip("\ufeff").strip() for cell in cells]


def _alike(name: str, names: list[str]) -> str:
    """Return what sets a column that differs from `name` by capitals, spaces and marks; else nothing."""
    plain = {re.sub(r"[\W_]", "", other).lower(): other for other in names}
    alike = plain.get(re.sub(r"[\W_]", "", name).lower())
    return f' = "{alike}"' if alike else ""


def _encoding(head: bytes, file: CsvFile, path: Path) -> str:
    """Return the encoding: that of the byte-order mark, or the one given, or UTF-8."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    other = next((what for first, what in OTHERS.items() if start.startswith(first)), None)
    if other is not None:
        raise ConfigInvalid(f"{path}: it is {other}")
    marked = next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), None)
    if marked is None and file.encoding is None and b"\0" in head:
        order = "le" if head[1:2] == b"\0" else "be" if head[:1] == b"\0" else None
        advice = f'as in UTF-16; give data.file.encoding = "utf-16-{order}"' if order else "so it is no text"
        raise ConfigInvalid(f"{path}: it has bytes of 0, {advice}")
    return marked or file.encoding or "utf-8"


def _undecoded(path: Path, encoding: str) -> str:
    """Say which line is not in the encoding."""
    if encoding not in ("utf-8", "utf-8-sig"):
        with path.open(encoding=encoding, errors="replace", newline="") as text:
            place = next((n for n, line in enumerate(text, 1) if "\N{REPLACEMENT CHARACTER}" in line), 1)
        return f"line {place}: it is not {encoding}; give another data.file.encoding"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                byte, advice = line[error.start], 'give data.file.encoding, as "latin-1" or "cp1252"'
                return f"line {number}: byte 0x{byte:02x} is not UTF-8; {advice}"
    return "is not UTF-8"
