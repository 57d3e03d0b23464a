"""Starts a model server for a test, and ends it: the test server, or by its command TensorFlow Serving."""

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 120.0
GREETING = re.compile(r"^serving gRPC on (\S+), REST on (\S+)$", re.MULTILINE)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """A running one: where it listens, each as host:port, and its process."""

    address: str
    rest: str
    process: subprocess.Popen[bytes]


class NotStarted(RuntimeError):
    """It ended before it could be called, or took too long. `code` is its exit status, None while it runs."""

    def __init__(self, code: int | None, output: str) -> None:
        super().__init__(f"the model server did not start (exit status {code}):\n{output[-4000:]}")
        self.code = code


@contextmanager
def serving(config: Path | None = None, command: str = "", **flags: object) -> Iterator[Server]:
    """Start it on free ports of 127.0.0.1; end it, and nothing else, at the end.

    Args:
        config: --model_config_file; else give model_name and model_base_path.
        command: a shell command that starts a real one and takes its flags; empty for the test server.
        flags: more of them. Polling is fast, health is on, and labels may name versions not yet there,
            unless said otherwise.
    """
    given: dict[str, object] = {
        **({"model_config_file": config} if config else {}),
        "file_system_poll_wait_seconds": 0.05,
        "enable_grpc_healthcheck_service": True,
        "allow_version_labels_for_unavailable_models": True,
        **flags,
    }
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        starting = _real(shlex.split(command), given, output) if command else _test_server(given, output)
        with starting as server:
            yield server


@contextmanager
def _test_server(flags: dict[str, object], output: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.tfserving"]
    ports = {"host": "127.0.0.1", "port": 0, "rest_api_port": 0}
    with _running([*command, *_arguments({**ports, **flags})], output) as process:
        said = _wait(process, output, lambda: GREETING.search(output.read_text()))
        yield Server(said[1], said[2], process)


@contextmanager
def _real(command: list[str], flags: dict[str, object], output: Path) -> Iterator[Server]:
    """Start one that takes no port 0, no part of a second, and listens once it has loaded everything."""
    polls = {name: 1 for name in flags if name.endswith("_wait_seconds")}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, rest = one.getsockname()[1], two.getsockname()[1]
    given = {"port": port, "rest_api_port": rest, **flags, **polls}
    server = f"127.0.0.1:{given['port']}", f"127.0.0.1:{given['rest_api_port']}"
    with _running([*command, *_arguments(given)], output) as process:
        _wait(process, output, lambda: all(map(_listens, server)))
        yield Server(*server, process)


@contextmanager
def _running(command: list[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with (
        output.open("wb") as file,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=file, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], output: Path, probe: Callable[[], T]) -> T:
    """Ask until the answer is true; return it."""
    until = time.monotonic() + START_SECONDS
    while not (answer := probe()):
        if process.poll() is not None or time.monotonic() > until:
            raise NotStarted(process.returncode, output.read_text(errors="replace"))
        time.sleep(0.01)
    return answer


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def _arguments(flags: dict[str, object]) -> list[str]:
    texts = {name: str(v).lower() if isinstance(v, bool) else v for name, v in flags.items()}
    return [f"--{name}={value}" for name, value in texts.items()]
