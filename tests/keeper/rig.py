"""The keeper as people run it: the real command in its own process, its log and its metrics."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqserve.service.keeper.keeper import COPY
from tests.conformance.calls import until

HOLD = 2.5
"""More than the second after which the servers of these tests look at their file again."""
PROGRAM = Path(sys.executable).with_name("seqserve")


@dataclass(frozen=True, slots=True)
class Kept:
    """A running keeper. `out`: the folder of its copy."""

    out: Path
    log: Path
    process: subprocess.Popen[bytes]

    def copied(self) -> Path:
        """Return the copy, once it is there."""
        return until(lambda: self.out / COPY, Path.exists)[-1]

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def reported(self, level: str = "WARNING") -> list[str]:
        """Return the reasons of the faults that began, or with `INFO` ended, in order of the alphabet."""
        return sorted(line["reason"] for line in self.lines() if line["level"] == level and "reason" in line)

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of its metrics."""
        seen = until(lambda: re.search(r"metrics on http://(\S+)/metrics", self.log.read_text()), bool)
        assert seen[-1] is not None
        return seen[-1][1]

    def metrics(self) -> str:
        """Return its metrics."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=5) as response:
            return response.read().decode()


@contextmanager
def keeping(config: Path, out: Path) -> Iterator[Kept]:
    """Keep a file checked until the end; it ends well on SIGTERM."""
    out.mkdir(exist_ok=True)
    command = [PROGRAM, "models-config", "keep", config, "--out", out, "--hold-seconds", str(HOLD)]
    log = out.with_suffix(".log")
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*command, "--metrics-port", "0", "--poll-seconds", "0.05"], stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield Kept(out, log, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0, log.read_text()
        finally:
            process.kill()
