"""Files that are read again when they change: keys, certificates, the model config file."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
Value = TypeVar("Value")
Stamp = tuple[int, int, int, int]
LOOK_SECONDS = 1.0
ATTEMPTS = 3


class Followed(Generic[Value]):
    """What some files say now. May be asked from any thread.

    Files that cannot be read, or are only half written, change nothing; that is logged once a change.

    Args:
        what: what the files are, for the log.
        read: reads them; raises ValueError, naming the file, where what they say cannot be used.
        clock: seconds.
        look_seconds: from one look at the files to the next; absent: LOOK_SECONDS.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[], Value],
        clock: Callable[[], float] = monotonic,
        look_seconds: float | None = None,
    ) -> None:
        """Read the files; raises ValueError where that fails."""
        self._what = what
        self._paths = paths
        self._read = read
        self._clock = clock
        self._look_seconds = LOOK_SECONDS if look_seconds is None else look_seconds
        self._lock = Lock()
        self._next_look = clock() + self._look_seconds
        self._stamps, self._value = self._first()

    def value(self) -> Value:
        """Return what the files said when they could last be read."""
        if self._clock() >= self._next_look:
            with self._lock:
                self._look()
        return self._value

    def _first(self) -> tuple[list[Stamp | None], Value]:
        for _ in range(ATTEMPTS):
            stamps = self._stat()
            value = self._read()
            if stamps == self._stat():
                return stamps, value
        raise ValueError(f"{self._what} ({self._named()}): changed again while it was read")

    def _look(self) -> None:
        if self._clock() < self._next_look:
            return  # another thread has looked meanwhile
        self._next_look = self._clock() + self._look_seconds
        stamps = self._stat()
        if stamps == self._stamps:
            return
        try:
            value = self._read()
        except ValueError as error:
            self._stamps = stamps
            log.warning("%s: what was read before stays in force: %s", self._what, error)
            return
        if stamps == self._stat():  # else the next look reads them whole
            self._stamps, self._value = stamps, value
            log.info("%s: read again from %s", self._what, self._named())

    def _named(self) -> str:
        return ", ".join(map(str, self._paths))

    def _stat(self) -> list[Stamp | None]:
        return [_stamp(path) for path in self._paths]


def read_file(path: Path) -> bytes:
    """Return a file's bytes; raises ValueError, naming the file, where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _stamp(path: Path) -> Stamp | None:
    """Return what no edit, replacement or change of rights leaves as it was; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
