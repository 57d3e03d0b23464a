"""Logs: one bounded line of JSON a record, nothing of a caller's in it, and nobody who waits for a reader."""

import http.client
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry

from seqserve.service.logs import (
    JsonFormatter as Formatter,
    LineHandler,
    LinesDropped,
    Told,
    configure_logging,
)

LONGEST = 40_000
PROGRAM = Path(sys.executable).parent / "seqserve"
anything = st.text() | st.binary() | st.floats() | st.integers() | st.builds(object)


def record(
    message: str, *arguments: object, name: str = "seqserve.tests", **fields: Any
) -> logging.LogRecord:
    """Return a record, with the exception under way."""
    made = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, sys.exc_info())
    made.fields = fields
    return made


def formatted(made: logging.LogRecord) -> dict[str, Any]:
    """Return a record's line, read back."""
    line = Formatter().format(made)
    assert "\n" not in line
    assert len(line.encode()) < LONGEST
    read: dict[str, Any] = json.loads(line)
    return read


@given(st.text().map(lambda text: text * 300), anything)
def test_whatever_is_logged_is_one_bounded_line(message: str, value: object) -> None:
    read = formatted(record("%s", message, given=value, huge="ü" * 100_000, count=2**70, path="\udcff"))
    assert read["message"][:2000] == message[:2000]
    assert read["huge"].endswith("... (100000 characters)")
    assert (read["count"], read["path"]) == (2**70, "\udcff")


def deep(steps: int) -> None:
    """Fail far down, because of something further down."""
    if steps:
        deep(steps - 1)
    try:
        int("a secret")
    except ValueError as error:
        raise KeyError("another secret" * 1000) from error


@pytest.mark.parametrize("name", ["seqserve.tests", "asyncio", "uvicorn.error"])
def test_an_exception_is_its_kind_and_place_and_nothing_that_a_caller_sent(name: str) -> None:
    try:
        deep(200)
    except KeyError:
        message = (
            "it failed" if name == "seqserve.tests" else "it failed\n<Task exception=KeyError('secret')>"
        )
        read = formatted(record(message, name=name))
    assert read["message"] == "it failed"
    told = read["exception"].splitlines()
    assert (told[0], told[2]) == ("KeyError", "from ValueError")
    assert re.fullmatch(r"  tests\.test_logs:\d+ in deep", told[1])
    assert "secret" not in str(read)


def test_the_systems_own_words_are_kept() -> None:
    try:
        Path("/nowhere/at/all").read_bytes()
    except OSError:
        assert formatted(record("reading"))["exception"].startswith("FileNotFoundError: No such file")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, which is given back as it was."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = before
    logger.setLevel(level)
    logging.getLogger("seqserve.access").setLevel(logging.NOTSET)


def test_where_nobody_reads_lines_are_dropped_counted_and_nobody_waits(root_logger: logging.Logger) -> None:
    """What was taken is whole, in order, and read once somebody does."""
    reading, writing = os.pipe()
    handler = LineHandler(writing)
    handler.setFormatter(Formatter())
    root_logger.handlers[:] = [handler]
    began = time.perf_counter()
    for number in range(10_000):
        root_logger.error("%d %s", number, "x" * 100)
    root_logger.error("%d", "none")  # a fault of whoever logs
    assert time.perf_counter() - began < 5
    (family,) = LinesDropped().collect()
    dropped = family.samples[0].value
    assert dropped == handler.dropped > 1000
    CollectorRegistry().register(LinesDropped())  # as the service does
    os.set_blocking(reading, False)
    lines = b""
    handler._closing.set()
    handler._lines.put(b"")
    while handler._thread.is_alive():
        lines += os.read(reading, 1 << 20) if _ready(reading) else b""
    lines += os.read(reading, 1 << 20) if _ready(reading) else b""
    numbers = [int(json.loads(line)["message"].split()[0]) for line in lines.splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + dropped == 10_001
    os.close(reading)
    os.close(writing)


def _ready(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.05)[0])


class Threads(Formatter):
    """Notes which threads made lines."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[threading.Thread] = []

    def format(self, record: logging.LogRecord) -> str:
        self.seen.append(threading.current_thread())
        return super().format(record)


def test_a_record_that_says_all_is_made_a_line_by_the_thread_that_writes_it(
    root_logger: logging.Logger,
) -> None:
    """And lies among the others where it was logged."""
    reading, writing = os.pipe()
    handler, formatter = LineHandler(writing), Threads()
    handler.setFormatter(formatter)
    root_logger.handlers[:] = [handler]
    like = logging.LogRecord("seqserve.tests", logging.INFO, "", 0, "a call", (), None)
    root_logger.handle(Told(like, like.created, {"request_id": "an-id", "items": 3}))
    root_logger.error("after")
    handler.close()
    lines = [json.loads(line) for line in os.read(reading, 1 << 20).splitlines()]
    assert [line["message"] for line in lines] == ["a call", "after"]
    assert {"request_id": "an-id", "items": 3, "level": "INFO"}.items() <= lines[0].items()
    assert datetime.fromisoformat(lines[0]["time"]).timestamp() == pytest.approx(like.created, abs=0.001)
    here = threading.current_thread()
    assert [thread is here for thread in formatter.seen] == [True, False]
    os.close(reading)
    os.close(writing)


def test_a_reader_that_has_gone_is_no_fault(root_logger: logging.Logger) -> None:
    reading, writing = os.pipe()
    handler = LineHandler(writing)
    root_logger.handlers[:] = [handler]
    os.close(reading)
    root_logger.error("to nobody")
    handler.close()
    assert handler.dropped == 1
    os.close(writing)


def test_the_access_log_is_written_whatever_the_level(
    root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("ERROR")
    logging.getLogger("seqserve.access").info("a call")
    logging.getLogger("seqserve.service").info("else")
    root_logger.handlers[0].close()
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "a call"


@pytest.mark.slow
def test_a_service_whose_errors_nobody_reads_answers_and_ends() -> None:
    """Each request writes a line, and the pipe is full after some hundred."""
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    command = [str(PROGRAM), "serve", "--tfserving", "127.0.0.1:9", "--models", "absent", *ports]
    at_once = {**os.environ, "SEQSERVE_LAME_DUCK_SECONDS": "0"}
    process = subprocess.Popen(
        command, env=at_once, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        greeting = next(line for line in process.stdout if "REST on" in line)
        host, port = re.search(r"http://([\d.]+):(\d+)", greeting).groups()  # type: ignore[union-attr]
        with closing(http.client.HTTPConnection(host, int(port), timeout=20)) as client:
            for _ in range(1500):
                client.request("GET", "/nothing/at/all")
                assert client.getresponse().read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
