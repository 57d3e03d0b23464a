"""What keys, limits and the access log cost a request: `python -m tests.bench.edge`.

The REST door over a backend that costs nothing, all on and all off by turns, in one process on one core, as
in `tests.bench`. Its processor time counts, with the thread's that writes the logs.
"""

import asyncio
import logging
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.edge import key_file
from seqserve.service.edge.access_log import ACCESS, AccessLog
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.keys import Line, digest_of, new_key
from seqserve.service.edge.recognizer import Recognizer
from seqserve.service.logs import GATHERING_SECONDS, JsonFormatter, LineHandler
from seqserve.service.main import make_limits
from seqserve.service.metrics import Metrics
from seqserve.service.rest.app import create_app
from seqserve.service.settings import Settings
from tests.bench.processes import cores, on_core
from tests.core.fakes import BUDGET, FakeBackend, as_files, sequence_manifest, totals

TURNS, REQUESTS, QUIET = 40, 200, 8
"""Turns, what is asked in each, and how many are compared, the quickest: the machine is not quiet."""
PATH = "/v1/models/totals:predict"
BODY = orjson.dumps({"sequences": [{"x": [1, 2, 3]}], "heads": ["total"]})


@asynccontextmanager
async def door(settings: Settings) -> AsyncIterator[ASGIApp]:
    """Yield a REST door over a gateway whose backend is a function."""
    metrics, backend = Metrics(CollectorRegistry()), FakeBackend(totals)
    backend.put("totals", 1, as_files(sequence_manifest()))
    async with Scheduler(backend, BUDGET, metrics, backend_timeout=30) as scheduler:
        runner, limits = ItemRunner(scheduler, metrics), make_limits(settings)
        catalog = Catalog(backend, runner, metrics)
        gateway = Gateway(catalog, runner, metrics, settings.max_items, limits=limits)
        await catalog.refresh()
        entrance = Entrance(Recognizer.of(settings), limits, AccessLog(settings.access_log), metrics)
        yield create_app(gateway, metrics, settings, entrance)
        await catalog.close()


async def ask(app: ASGIApp, key: str) -> None:
    """Ask once, as a server does."""
    body = iter([{"type": "http.request", "body": BODY, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in body:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200

    headers = [(b"content-type", b"application/json"), (b"x-api-key", key.encode())]
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers, "query_string": b""}
    await app({**scope, "client": ("127.0.0.1", 5000)}, receive, send)  # type: ignore[arg-type]


async def turn(app: ASGIApp, key: str) -> float:
    """Return the processor's seconds of a request, up to when its line has been written."""
    began = time.process_time()
    for _ in range(REQUESTS):
        await ask(app, key)
    await asyncio.sleep(2 * GATHERING_SECONDS)  # else what a turn logs would be written in the next
    return (time.process_time() - began) / REQUESTS


async def measured(keys: Path, key: str) -> tuple[list[float], list[float]]:
    """Return the seconds of a request, turn by turn, all off and all on."""
    every = Settings(
        keys=keys, access_log=1, principal_requests_per_second=1e9, principal_cells_per_second=1e9
    )
    off, on = [], []
    async with door(Settings()) as plain, door(every) as kept:
        for _ in range(TURNS):
            off.append(await turn(plain, key))
            on.append(await turn(kept, key))
    return off, on


def main() -> None:
    """Measure, and print what a request costs more."""
    handler, key = LineHandler(os.open(os.devnull, os.O_WRONLY)), new_key()
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    ACCESS.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        key_file.add(keys, Line(name="ann", sha256=digest_of(key), scopes=("*:*",)))
        runners = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        with on_core(cores().server), runners as runner:
            off, on = (sorted(times)[:QUIET] for times in runner.run(measured(keys, key)))
    more = [(b - a) * 1e3 for a, b in zip(off, on, strict=True)]
    print(
        f"all off {statistics.median(off) * 1e3:.3f} ms a request, all on {statistics.median(on) * 1e3:.3f}"
    )
    print(f"more: {statistics.median(more):.3f} ms ({min(more):.3f} to {max(more):.3f})")
    print(f"log lines dropped: {handler.dropped}")


if __name__ == "__main__":
    main()
