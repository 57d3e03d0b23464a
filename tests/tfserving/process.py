"""Starts the test server for a test, and ends it. Used by the conformance suite and the backends' tests."""

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60.0
GREETING = "serving gRPC on "


@dataclass(frozen=True, slots=True)
class Server:
    """A running one: where it listens, each as host:port, and its process."""

    address: str
    rest: str
    process: subprocess.Popen[str]


@contextmanager
def serving(config: Path | None = None, **flags: object) -> Iterator[Server]:
    """Start it on free ports of 127.0.0.1; end it, and nothing else, at the end.

    Args:
        config: --model_config_file; else give model_name and model_base_path.
        flags: more of them. Polling is fast, health is on, and labels may name versions not yet there,
            unless said otherwise.
    """
    given: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 0,
        "rest_api_port": 0,
        "file_system_poll_wait_seconds": 0.05,
        "enable_grpc_healthcheck_service": True,
        "allow_version_labels_for_unavailable_models": True,
        **({"model_config_file": config} if config else {}),
        **flags,
    }
    command = [
        sys.executable,
        "-m",
        "tests.tfserving",
        *(f"--{name}={value}" for name, value in given.items()),
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            address, rest = _addresses(process, errors)
            yield Server(address, rest, process)
        finally:
            process.kill()


def _addresses(process: subprocess.Popen[str], errors: IO[str]) -> tuple[str, str]:
    """Wait for the line that it prints once it listens."""
    assert process.stdout is not None
    until = time.monotonic() + START_SECONDS
    while (left := until - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        line = process.stdout.readline()
        if line.startswith(GREETING):
            address, rest = line.removeprefix(GREETING).strip().split(", REST on ")
            return address, rest
        if not line:
            break
    errors.seek(0)
    raise RuntimeError(f"the test server did not start:\n{errors.read()[-4000:]}")
