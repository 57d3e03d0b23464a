"""Peer: BentoML with its adaptive batching. Started by the harness, see the package.

It joins the lists of several requests and cuts the answers off by their lengths; padding is by hand. Its
command imports this module in a process of its own, so folder and batch travel by the environment.
"""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

BATCH = int(os.environ.get("PEER_BATCH", "64"))


@bentoml.service(
    workers=1, traffic={"timeout": 600}, logging={"access": {"enabled": False}}, metrics={"enabled": False}
)
class Peer:
    """The model behind both paths."""

    def __init__(self) -> None:
        from tests.bench.peers.model import load

        self._model = load(Path(os.environ["PEER_FOLDER"]), BATCH)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def translate(self, texts: list[str]) -> list[str]:
        return self._model.answer(texts)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def predict(self, sequences: list[dict[str, list[Any]]]) -> list[str]:
        return self._model.answer(sequences)


if __name__ == "__main__":
    from tests.bench.peers.arguments import arguments

    given = arguments()
    variables = {"PEER_FOLDER": str(given.folder), "PEER_BATCH": str(given.batch)}
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(Path("build/bentoml").resolve())}
    command = ["-m", "bentoml", "serve", "tests.bench.peers.bentoml_batching:Peer"]
    listen = ["--host", "127.0.0.1", "--port", str(given.port)]
    os.execve(sys.executable, [sys.executable, *command, *listen], {**os.environ, **variables, **quiet})
