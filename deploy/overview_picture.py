"""`make overview-picture`: docs/overview.png, the Overview board's queries answered during a test load.

Needs Debian's prometheus. The gateway and Prometheus are real; the test server (tests/tfserving) stands in
TensorFlow Serving's place, and matplotlib draws in Grafana's.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from seqserve.service.contract.manifest import FILE_NAME
from tests.deploy.board import Board, Target, read_board, replaced
from tests.deploy.drawing import Answers, Mark, draw
from tests.deploy.load import Callers, service
from tests.deploy.prometheus import Prometheus, prometheus

INTERVAL, WINDOW, STEP = "1s", "5s", 1.0
FIRST_SECONDS = 3.0
"""Seconds left out at the start: rates need two scrapes."""


@dataclass
class Story:
    """What happens during the load, and when each part began."""

    callers: Callers
    models: Path
    marks: list[Mark] = field(default_factory=list)

    async def play(self) -> None:
        """Play every part."""
        await self._part("quiet", 15, self._quiet)
        await self._part("busy", 20, self._busy)
        await self._part("burst beyond the queue", 12, self._burst)
        self._publish("en-de", recorded=None)
        await self._part("en-de 2 published", 14, self._busy)
        self._publish("shop", recorded="checkout")
        await self._part("shop 2 published, refused", 14, self._busy)
        await self._part("quiet", 10, self._quiet)

    async def _part(self, name: str, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        self.marks.append(Mark(time.time(), name))
        print(f"{name}: {seconds} s", flush=True)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await act()

    async def _quiet(self) -> None:
        await self.callers.calm()
        await asyncio.sleep(0.7)

    async def _busy(self) -> None:
        await asyncio.gather(*(self.callers.calm(2) for _ in range(2)), self.callers.faulty())
        await asyncio.sleep(0.05)

    async def _burst(self) -> None:
        await asyncio.gather(self.callers.burst(), self.callers.calm(2), self.callers.faulty())
        await asyncio.sleep(0.3)

    def _publish(self, name: str, recorded: str | None) -> None:
        """Make version 2 a copy of version 1, whole at once; `recorded`: with a label it will not answer."""
        made = self.models.parent / f"{name}.made"
        shutil.copytree(self.models / name / "1", made)
        if recorded is not None:
            path = made / "assets" / FILE_NAME
            manifest = json.loads(path.read_bytes())
            head = manifest["examples"][0]["items"][0]["heads"]
            next(answer for answer in head.values() if "label" in answer)["label"] = recorded
            path.write_text(json.dumps(manifest))
        made.rename(self.models / name / "2")


async def answered(prom: Prometheus, board: Board, start: float, end: float) -> Answers:
    """Ask every query of the board, over the whole time or as it is now."""

    async def ask(target: Target) -> list[tuple[str, dict[str, str], list[tuple[float, float]]]]:
        expr = replaced(target.expr, WINDOW)
        answer = await (prom.now(expr) if target.instant else prom.since(expr, start, end, STEP))
        return [(target.named(series.labels), series.labels, series.points) for series in answer]

    return {
        panel.title: [series for target in panel.targets for series in await ask(target)]
        for panel in board.asking
    }


async def make(root: Path, out: Path, folder: Path) -> None:
    """Run the load on a copy of the models and draw what Prometheus answers."""
    models = folder / "models"
    for name in ("en-de", "shop"):
        shutil.copytree(root / name / "1", models / name / "1")
    board = read_board()
    async with service(models, folder) as callers, prometheus(folder, callers.targets, INTERVAL) as prom:
        story = Story(callers, models)
        await story.play()
        start, end = story.marks[0].at + FIRST_SECONDS, time.time()
        answers = await answered(prom, board, start, end)
    draw(board, answers, story.marks, out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.overview_picture", description=__doc__)
    parser.add_argument(
        "--root", type=Path, default=Path("build/models"), help="where en-de/1 and shop/1 lie"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/overview.png"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(given.root.resolve(), given.out, Path(folder)))
    print(f"{given.out}: {given.out.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
