"""Peer: Ray Serve with its serve.batch. Started by the harness, see the package.

By hand: padding, and splitting the answers by request again; `max_ongoing_requests`, whose default
of 5 would be the largest batch.
"""

import os
import secrets
import signal
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray leaves one in the home folder
import ray
from ray import serve
from starlette.requests import Request

from tests.bench.peers import ANSWER, REQUEST, Task
from tests.bench.peers.arguments import arguments, task_of

WAIT_SECONDS = 0.01
OBJECT_STORE_BYTES = 100_000_000


@serve.deployment(num_replicas=1, max_ongoing_requests=4096)
class Peer:
    """One model behind every path."""

    def __init__(self, folder: Path, task: Task, batch: int) -> None:
        from tests.bench.peers.model import load

        self._task = task
        self._model = load(folder, batch)
        self.answer.set_max_batch_size(batch)

    async def __call__(self, request: Request) -> dict[str, Any]:
        if request.method == "GET":
            return {"status": "ok"}
        body = await request.json()
        return {ANSWER[self._task]: await self.answer(body[REQUEST[self._task]])}

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=WAIT_SECONDS)
    async def answer(self, requests: list[list[Any]]) -> list[list[str]]:
        return self._model.answer_all(requests)


if __name__ == "__main__":
    given = arguments()
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": given.port})
    serve.run(Peer.bind(given.folder.resolve(), task_of(given.folder), given.batch))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
