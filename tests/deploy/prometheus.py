"""A real Prometheus in a process of its own, with the shipped configuration, and its answers."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy.board import DEPLOY, read_yaml
from tests.deploy.load import ended

START_SECONDS = 15.0
READY = b"Server is ready to receive web requests"


@dataclass(frozen=True, slots=True)
class Series:
    """One answer: its labels and its points, (seconds, value), none of them NaN or infinite."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A client of a running one."""

    http: httpx.AsyncClient

    async def now(self, expr: str) -> list[Series]:
        """Answer as a stat or a table asks."""
        answer = await self._get("query", query=expr)
        return _series((entry["metric"], [entry["value"]]) for entry in answer["result"])

    async def since(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Answer as a graph asks."""
        answer = await self._get("query_range", query=expr, start=start, end=end, step=step)
        return _series((entry["metric"], entry["values"]) for entry in answer["result"])

    async def alerts(self) -> dict[str, str]:
        """Return each alert that is pending or firing, with its state."""
        answer = await self._get("alerts")
        return {alert["labels"]["alertname"]: alert["state"] for alert in answer["alerts"]}

    async def _get(self, path: str, **params: Any) -> Any:
        response = await self.http.get(f"/api/v1/{path}", params=params)
        assert response.status_code == 200, response.text
        return response.json()["data"]


def _series(answer: Any) -> list[Series]:
    read = (
        Series(labels, [(float(at), float(value)) for at, value in points if isfinite(float(value))])
        for labels, points in answer
    )
    return [series for series in read if series.points]


@asynccontextmanager
async def prometheus(folder: Path, targets: dict[str, str], interval: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus on a free port until the end.

    Args:
        folder: for its configuration and its data.
        targets: HOST:PORT of each job, in place of those shipped.
    """
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configured(targets, interval)))
    shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
    address = f"127.0.0.1:{_free_port()}"
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await _until_ready(process)
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as http:
            yield Prometheus(http)
    finally:
        await ended(process)


def configured(targets: dict[str, str], interval: str) -> dict[str, Any]:
    """Return the shipped configuration with other targets and a shorter interval."""
    config: dict[str, Any] = read_yaml("prometheus/prometheus.yml")
    config["global"] = dict.fromkeys(config["global"], interval)
    for job in config["scrape_configs"]:
        (static,) = job["static_configs"]
        static["targets"] = [targets[job["job_name"]]]
    return config


async def _until_ready(process: asyncio.subprocess.Process) -> None:
    """Wait for the log line; the few lines that follow it find room in the pipe."""
    assert process.stderr is not None
    said = []
    async with asyncio.timeout(START_SECONDS):
        while line := await process.stderr.readline():
            said.append(line.decode())
            if READY in line:
                return
    raise AssertionError(f"Prometheus did not start: {''.join(said)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
