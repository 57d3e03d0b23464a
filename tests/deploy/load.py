"""Callers of every kind, at both doors of a service: what the board is to show."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx

from tests.deploy.board import DEPLOY
from tests.doors import SHOP, TEXT, Both, Row, event, predict, translate
from tests.keeper.rig import keeping
from tests.tfserving.process import serving
from tests.tfserving.reload import config_file

GREETING = r"REST on http://(\S+) .*gRPC on (\S+)"
START_SECONDS, STOP_SECONDS = 30.0, 10.0
QUEUE_CELLS = 1536
BURST = 192
"""Texts that are too many for such a queue, in one request."""
CALM = (
    translate(),
    translate(texts=[TEXT, "twelve", "9:05 AM", "one hundred and twelve"]),
    translate(max_length=2),
    predict(),
    predict(sequences=[SHOP, event(*["visit", "view"] * 9)]),
)
FAULTY = (
    translate(texts=[TEXT, "", "x" * 300]),
    translate(model="nope"),
    translate(model="shop"),
    translate(model="golden"),
    predict(sequences=[SHOP, event("visit", minutes=[-1])]),
)


@dataclass(frozen=True, slots=True)
class Callers:
    """What calls a running service. `targets`: where Prometheus finds each job."""

    both: Both
    targets: dict[str, str]

    async def calm(self, times: int = 1) -> None:
        """Ask what can be answered, `times` at once."""
        await self._ask(CALM * times)

    async def faulty(self) -> None:
        """Ask what cannot."""
        await self._ask(FAULTY)
        await self.both.rest.get("/v1/models", headers={"Grpc-Timeout": "soon"})

    async def burst(self) -> None:
        """Ask for more than the queue holds: of one request alone it takes any number."""
        await asyncio.gather(*(self.both.by_rest(translate(texts=[TEXT] * BURST)) for _ in "1234"))

    async def _ask(self, rows: tuple[Row, ...]) -> None:
        asked = [door(row) for row in rows for door in (self.both.by_rest, self.both.by_grpc)]
        await asyncio.gather(*asked)


@asynccontextmanager
async def service(models: Path, folder: Path) -> AsyncIterator[Callers]:
    """Run the test server in TensorFlow Serving's place, and the gateway's command before it.

    Args:
        models: every model below it is served.
        folder: for the model config file.
    """
    config = folder / "models.config"
    config.write_text(model_config(models))
    with (
        keeping(config, folder / "keeper") as kept,
        serving(kept.copied(), monitoring_config_file=DEPLOY / "tfserving/monitoring.config") as server,
    ):
        async with (
            gateway(server.address, config) as (rest_address, grpc_address),
            httpx.AsyncClient(base_url=f"http://{rest_address}", timeout=20) as rest,
            grpc.aio.insecure_channel(grpc_address) as channel,
        ):
            # what is started and its backend lie in another process: none of these rows touches them
            both = Both(None, None, rest, channel)  # type: ignore[arg-type]
            targets = {"seqserve": rest_address, "tfserving": server.rest, "keeper": kept.metrics_address}
            yield Callers(both, targets)


@asynccontextmanager
async def gateway(tfserving: str, config: Path) -> AsyncIterator[tuple[str, str]]:
    """Run `seqserve serve` with a short queue; yield HOST:PORT of REST and of gRPC."""
    own = {"TFSERVING": tfserving, "MODEL_CONFIG_FILE": str(config), "MAX_QUEUE_CELLS": str(QUEUE_CELLS)}
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("seqserve"),
        *("serve", "--rest-port", "0", "--grpc-port", "0"),
        env={**os.environ, **{f"SEQSERVE_{name}": value for name, value in own.items()}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while not (said := re.search(GREETING, line := (await process.stdout.readline()).decode())):
                assert line, "the gateway did not start"
        yield said[1], said[2]
    finally:
        await ended(process)


async def ended(process: asyncio.subprocess.Process) -> None:
    """End a process that was started here, by force where it does not go, and read what it still says."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.communicate(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.communicate()


def model_config(root: Path) -> str:
    """Write TensorFlow Serving's model config for every model under a root."""
    return str(config_file({folder.name: folder for folder in sorted(root.iterdir()) if folder.is_dir()}))
