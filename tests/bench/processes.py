"""Starts what is measured, each in a process of its own on the server's core, and ends it.

Callers have one core and all that serves has the other, so that neither takes the other's time.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
GREETING = re.compile(r"REST on http://\S+?:(\d+) .*gRPC on \S+:(\d+)")
START_SECONDS, STOP_SECONDS = 120.0, 15.0
COMMAND = (str(Path(sys.executable).with_name("seqserve")),)
FIRST_COME = (sys.executable, "-m", "tests.bench.fifo")


class NotStarted(Exception):
    """A process ended, or said nothing in time; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core is whose; one and the same where there is no other."""

    callers: int
    server: int


def cores() -> Cores:
    """Return the first two that this process may use."""
    free = sorted(os.sched_getaffinity(0))
    return Cores(free[0], free[min(1, len(free) - 1)])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Be on a core, as is every process that is started meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def worker(core: int) -> ProcessPoolExecutor:
    """Return an executor of one process that is on a core before it imports anything of ours."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return ProcessPoolExecutor(1, get_context("spawn"), os.sched_setaffinity, (0, {core}))


@dataclass(frozen=True, slots=True)
class Service:
    """A running gateway: its doors, its process, and how long it took to be ready."""

    rest_port: int
    grpc_port: int
    pid: int
    start_seconds: float

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value now, summed over the series that have the labels; 0 where there is none."""
        url = f"http://127.0.0.1:{self.rest_port}/metrics"
        with urllib.request.urlopen(url, timeout=START_SECONDS) as response:
            lines = response.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        series = (line for line in lines if re.match(rf"{name}[ {{]", line))
        return sum(float(line.rpartition(" ")[2]) for line in series if all(w in line for w in wanted))


@contextmanager
def service(core: int, root: Path, command: Sequence[str] = COMMAND, **settings: object) -> Iterator[Service]:
    """Run `seqserve serve`, with its defaults but for the settings given; ready when it is yielded."""
    began = time.perf_counter()
    with started(core, (*command, "serve"), _environment(root, settings)) as (process, words):
        ports = said(process, words, GREETING)
        seconds = time.perf_counter() - began
        yield Service(int(ports[1]), int(ports[2]), process.pid, seconds)


@contextmanager
def services(
    mine: Cores, commands: Sequence[tuple[Path, Sequence[str], Mapping[str, object]]]
) -> Iterator[list[Service]]:
    """Run some of them, each of a root, a command and settings, started by both cores in half the time.

    Each sees one core when it starts, as it will later, when all are on the server's.
    """
    with ExitStack() as stack:
        began, starting = time.perf_counter(), []
        for number, (root, command, settings) in enumerate(commands):
            core = (mine.server, mine.callers)[number % 2]
            own = _environment(root, settings)
            starting.append(stack.enter_context(started(core, (*command, "serve"), own)))
        running = []
        for process, words in starting:
            ports = said(process, words, GREETING)
            seconds = time.perf_counter() - began
            running.append(Service(int(ports[1]), int(ports[2]), process.pid, seconds))
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {mine.server})
        yield running


def _environment(root: Path, settings: Mapping[str, object]) -> dict[str, str]:
    given = {"ROOT": root, "REST_PORT": 0, "GRPC_PORT": 0, "LAME_DUCK_SECONDS": 0}
    given |= {name.upper(): value for name, value in settings.items()}
    return {f"SEQSERVE_{name}": str(value) for name, value in given.items()}


@contextmanager
def started(
    core: int, command: Sequence[str], environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Start a program on a core, in a process group of its own, and end it; yields what it says on stderr."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **(environment or {})}
    with tempfile.TemporaryFile("w+") as words:
        with on_core(core):
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **quiet},
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                start_new_session=True,
            )
        try:
            yield process, words
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask the process to end; then end what is left of the group that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its own: it began a session
    process.communicate()


def said(process: subprocess.Popen[str], words: IO[str], wanted: re.Pattern[str]) -> re.Match[str]:
    """Read what a program prints until it says what is wanted; it is ended where it does not in time."""
    assert process.stdout is not None
    end = threading.Timer(START_SECONDS, process.kill)
    end.start()
    try:
        for line in process.stdout:
            if match := wanted.search(line):
                return match
    finally:
        end.cancel()
    raise NotStarted(last_words(words))


def healthy(process: subprocess.Popen[str], words: IO[str], url: str) -> None:
    """Ask a health path until it answers 200."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise NotStarted(last_words(words))


def last_words(words: IO[str]) -> str:
    """Return the end of what a program said on stderr."""
    words.seek(0)
    return words.read()[-2000:].strip()


def resident_mib(pid: int) -> float:
    """Return the memory that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def processor_seconds(pid: int) -> float:
    """Return how long a process has had a processor so far, all its threads together."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) has it: a clock that schedules
