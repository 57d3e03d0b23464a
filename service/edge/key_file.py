"""The file of API keys: one JSON object a line, read by the service and written by `seqserve keys`.

    {"name": "shop", "sha256": "9f86…", "scopes": ["predict:*"], "created": "2026-05-01T07:30:00Z"}

Lines that begin with # are passed over, and kept. The file is replaced as a whole, never written in place.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from seqserve.service.edge.keys import Keys, Line
from seqserve.service.followed import read_file

FIRST_LINE = "# API keys by their SHA-256, for SEQSERVE_KEYS; see: seqserve keys --help"
MODE = 0o600


def read_keys(path: Path) -> Keys:
    """Read a file; raises ValueError, naming the line, where it cannot be used."""
    return _keys(path, read_lines(path))


def read_lines(path: Path) -> list[Line]:
    """Return the keys of a file, in order; raises ValueError, naming the line, where it cannot be used."""
    content = read_file(path)
    if not content.strip():  # as a file is while something writes it anew; that of no keys has a first line
        raise ValueError(f"{path} is empty")
    return _parsed(path, content.splitlines())


def add(path: Path, line: Line) -> None:
    """Add a line; makes the file where there is none. Raises ValueError where it cannot be used."""
    with _rewriting(path) as lines:
        lines.append(line.model_dump_json(exclude_none=True).encode())


def remove(path: Path, is_wanted: Callable[[Line], bool]) -> list[Line]:
    """Remove lines, and return them; raises ValueError where the file cannot be used."""
    with _rewriting(path) as lines:
        removed = [line for line in read_lines(path) if is_wanted(line)]  # as it is while nobody else writes
        lines[:] = [raw for raw in lines if not _is_key(raw) or _line(path, 0, raw) not in removed]
        if not any(raw.strip() for raw in lines):
            lines[:] = [FIRST_LINE.encode()]  # an empty file would leave the keys before it in force
    return removed


@contextmanager
def _rewriting(path: Path) -> Iterator[list[bytes]]:
    """Yield the file's lines, to be changed by one at a time; who reads it meanwhile sees all or none.

    The file's owner stays who it is, so that root may write what the service's own user reads.
    """
    path = path.resolve()  # a link to it stays a link
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        owner = path.stat() if path.exists() else None
        lines = read_file(path).splitlines() if owner is not None else [FIRST_LINE.encode()]
        before = list(lines)
        yield lines
        if lines == before:
            return
        _keys(path, _parsed(path, lines))  # what cannot be used does not replace what can
        aside = path.with_name(f".{path.name}.new")
        aside.unlink(missing_ok=True)  # left by who was killed, or planted
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
            os.fchmod(file.fileno(), MODE)
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        os.fsync(folder)
    finally:
        os.close(folder)


def _keys(path: Path, lines: list[Line]) -> Keys:
    try:
        return Keys(lines)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parsed(path: Path, lines: list[bytes]) -> list[Line]:
    return [_line(path, number, raw) for number, raw in enumerate(lines, 1) if _is_key(raw)]


def _is_key(raw: bytes) -> bool:
    return bool(raw.strip()) and not raw.startswith(b"#")


def _line(path: Path, number: int, raw: bytes) -> Line:
    try:
        return Line.model_validate_json(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'JSON'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} line {number}: {faults}") from None
