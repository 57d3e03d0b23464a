"""The shipped configuration in a real Prometheus, and the board's queries, answered while callers call."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.deploy.board import DEPLOY, Panel, read_board, replaced
from tests.deploy.load import service
from tests.deploy.prometheus import Prometheus, Series, prometheus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus, which .ci/run installs"),
]
INTERVAL, WINDOW = "300ms", "3s"
SECONDS = 60.0  # at most: a few are enough on a quiet machine
SHOWN: dict[str, set[str]] = {
    "Models ready": {"en-de", "shop", "golden"},
    "Versions that can be called": {"en-de", "shop", "1"},
    "Refused versions": {"golden", "GOLDEN_FAILED", "bare", "MANIFEST_MISSING", "MANIFEST_INVALID"},
    "Left out by the keeper": {"flipped", "1", "VERSION_UNREADABLE", "NO_VERSION"},
    "Requests per second": {"en-de", "shop", "_other", "translate", "predict"},
    "Latency by stage (mean)": {"validate", "encode", "queue", "pad", "backend", "decode"},
    "Errors by reason": {"EMPTY_TEXT", "MODEL_NOT_FOUND", "WRONG_TASK", "NOT_READY", "NEGATIVE_ELAPSED"},
    "Rejected items, limits": {"QUEUE_FULL", "max_queue_cells"},
    "Warnings in answers": {"en-de", "TRUNCATED"},
    "Backend calls by code": {"OK"},
    "TensorFlow Serving's requests": {"en-de", "shop", "OK"},
    "In flight": {"rest", "grpc"},
    "Rows in a batch": {"en-de", "shop"},
    "Padding waste": {"en-de", "shop"},
}
"""Label values that a panel must show after the calls below."""


async def missing(prom: Prometheus, panel: Panel) -> set[str]:
    """Return what a panel does not show yet: a query's letter (its legend counts), or a label value."""
    answers = {target.ref: await prom.now(replaced(target.expr, WINDOW)) for target in panel.targets}
    legends = {t.ref: [t.named(series.labels) for series in answers[t.ref]] for t in panel.targets}
    unanswered = {ref for ref, named in legends.items() if not named or "{{" in "".join(named)}
    return unanswered | SHOWN.get(panel.title, set()) - values(answers.values())


def values(answers: Iterable[list[Series]]) -> set[str]:
    """Return the label values of all answers."""
    return {value for answer in answers for series in answer for value in series.labels.values()}


async def test_every_panel_is_answered(refused_too: Path, tmp_path: Path) -> None:
    """Each query of the board returns data, with the models, reasons and stages that there were."""
    panels, lacks = read_board().asking, {"": {""}}
    async with (
        service(refused_too, tmp_path) as callers,
        prometheus(tmp_path, callers.targets, INTERVAL) as prom,
    ):
        end = asyncio.get_running_loop().time() + SECONDS
        while lacks and asyncio.get_running_loop().time() < end:
            await callers.calm()
            await callers.faulty()
            await callers.burst()
            shown = {panel.title: await missing(prom, panel) for panel in panels}
            lacks = {title: things for title, things in shown.items() if things}
        assert lacks == {}
        assert (await prom.alerts())["VersionRefused"] == "pending"


def test_alerts_go_off_when_they_should() -> None:
    """promtool runs alerts.yml beside this page, where each alert has its cases."""
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.yml"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_files_are_valid() -> None:
    """promtool accepts the configuration as it is shipped, and the alerts that it names."""
    command = ["promtool", "check", "config", str(DEPLOY / "prometheus/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 rules found" in done.stdout
