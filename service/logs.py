"""Logs as one JSON object a line, each with the id of the request it belongs to. No texts, no values.

They never make anybody wait: a thread writes, and what it cannot write in time is dropped and counted.
"""

import json
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from queue import SimpleQueue
from random import getrandbits
from traceback import walk_tb
from typing import Any

import orjson
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
_ID_FORM = re.compile(r"[\x21-\x7e]{1,128}")
MOST_LINES = 4096
"""Lines that wait to be written; most are below 1 KiB, none above 40."""
GATHERING_SECONDS, MOST_TOGETHER = 0.02, 256
"""For how long the thread gathers lines, and how many: to be woken for each would cost the most of all."""
LONGEST_MESSAGE, LONGEST_FIELD = 2000, 500
"""Characters of a message, and of each member that is added to it."""
MOST_FRAMES, MOST_CAUSES = 12, 4
"""Of an exception: its last frames, and the exceptions that led to it."""
CLOSING_SECONDS = 1.0
"""How long the end of the program waits for what is still to be written."""
OURS = "seqserve."


def request_id(given: str) -> str:
    """Return the caller's id where it is fit for a log line and a header, else a new one."""
    return given if given and _ID_FORM.fullmatch(given) else f"{getrandbits(128):032x}"


class JsonFormatter(logging.Formatter):
    """Formats a record; members given by `extra={"fields": {…}}` are added.

    Of an exception there are its type, our frames and where it was raised: its message, and the lines that
    other programs make of it, may quote what a caller sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03d}+00:00",
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        if given := REQUEST_ID.get():
            line["request_id"] = given
        fields = getattr(record, "fields", {})
        line |= fields
        for name in [
            name for name, value in fields.items() if isinstance(value, str) and len(value) > LONGEST_FIELD
        ]:
            line[name] = _cut(fields[name], LONGEST_FIELD)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "\n".join(_told(record.exc_info[1]))
        try:
            return orjson.dumps(line, default=_shown).decode()
        except TypeError:  # a path that is not UTF-8, or a number beyond 64 bits
            return json.dumps(line, default=_shown)


class Told(logging.LogRecord):
    """A record whose fields say all, the request's id among them, and stay as they are.

    So the thread that writes its line makes it too, of many at a time, which takes less.

    Args:
        like: what it has beside: to make that anew takes as long as a line.
        created: seconds since 1970.
    """

    def __init__(self, like: logging.LogRecord, created: float, fields: Mapping[str, Any]) -> None:
        vars(self).update(vars(like), created=created, msecs=created % 1 * 1000, fields=fields)


class LineHandler(logging.Handler):
    """Hands lines to a thread that writes them; at most `MOST_LINES` wait, later ones are dropped.

    Args:
        descriptor: of the open file to write to. It may be one that nobody reads: then nothing but the thread
            waits for it.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: SimpleQueue[bytes | Told] = SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        if self._lines.qsize() >= MOST_LINES:
            self.dropped += 1
            return
        try:
            self._lines.put(record if isinstance(record, Told) else self._line(record))
        except Exception:  # a message that does not go with its arguments; it must not end who logs it
            self.dropped += 1

    def close(self) -> None:
        """Wait for what is queued, `CLOSING_SECONDS` at most; `logging` does so when the program ends."""
        self._closing.set()
        self._lines.put(b"")  # so that the thread wakes
        self._thread.join(CLOSING_SECONDS)
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode() + b"\n"

    def _written(self, waiting: bytes | Told) -> bytes:
        return self._line(waiting) if isinstance(waiting, Told) else waiting

    def _write_all(self) -> None:
        """Write what has come, and then what comes within `GATHERING_SECONDS`, together."""
        while not self._closing.is_set() or not self._lines.empty():
            lines = [self._lines.get()]
            self._closing.wait(GATHERING_SECONDS)
            while len(lines) < MOST_TOGETHER and not self._lines.empty():
                lines.append(self._lines.get())
            try:
                _write(self._descriptor, b"".join(map(self._written, lines)))
            except OSError:  # nobody can read it any more
                self.dropped += sum(map(bool, lines))


def configure_logging(level: str) -> None:
    """Send every log line to standard error as JSON, and the access log's whatever the level is.

    It comes before grpc is imported, whose core would write there by itself, and wait for a reader.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line has them
    handler = LineHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("seqserve.access").setLevel(logging.INFO)


class LinesDropped(Collector):
    """The metric of the lines that have been dropped."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the family, as `prometheus_client` asks for it."""
        handlers = logging.getLogger().handlers
        dropped = sum(handler.dropped for handler in handlers if isinstance(handler, LineHandler))
        text = "Log lines dropped, because too many waited to be written."
        yield CounterMetricFamily("seqserve_log_lines_dropped", text, dropped)


def _write(descriptor: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # another program that has the same file open wants it so
            select.select([], [descriptor], [])


@lru_cache(1)
def _second(seconds: int) -> str:
    """Return a time as ISO 8601 has it, in UTC: many lines share one."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and not record.name.startswith(OURS):
        message = re.split(r"[\n(]", message, maxsplit=1)[0]
    return str(_cut(message, LONGEST_MESSAGE))


def _cut(value: Any, longest: int) -> Any:
    if not isinstance(value, str) or len(value) <= longest:
        return value
    return f"{value[:longest]}... ({len(value)} characters)"


def _shown(value: Any) -> str:
    return str(_cut(str(value), LONGEST_FIELD))


def _told(error: BaseException) -> Iterator[str]:
    """Yield the lines of an exception, and of those that led to it."""
    led: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if led is None:
            return
        frames = [
            (str(frame.f_globals.get("__name__", "?")), line, frame.f_code.co_name)
            for frame, line in walk_tb(led.__traceback__)
        ]
        told = [frame for frame in frames[:-1] if frame[0].startswith(OURS)] + frames[-1:]
        yield _kind(led) if led is error else f"from {_kind(led)}"
        yield from (f"  {module}:{line} in {name}" for module, line, name in told[-MOST_FRAMES:])
        led = led.__cause__ or (None if led.__suppress_context__ else led.__context__)


def _kind(error: BaseException) -> str:
    """Return an exception's type; with the system's own words, which quote nothing, where there are any."""
    said = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
