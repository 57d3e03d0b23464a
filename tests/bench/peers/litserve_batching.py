"""Peer: LitServe with its dynamic batching. Started by the harness, see the package.

By hand: `batch` and `unbatch`, because its own join only what has one shape; the items of several requests
are padded together and split again by request.
"""

import argparse
import signal
from typing import Any

import litserve

from tests.bench.peers import ANSWER, PEERS, REQUEST, Task

WAIT_SECONDS = 0.01


class Api(litserve.LitAPI):
    """One model behind the path of its task."""

    def __init__(self, given: argparse.Namespace, task: Task) -> None:
        path = PEERS["litserve_batching"].path(task)
        super().__init__(max_batch_size=given.batch, batch_timeout=WAIT_SECONDS, api_path=path)
        self._given, self._task = given, task

    def setup(self, device: str) -> None:
        from tests.bench.peers.model import load  # TensorFlow only here, in the process that runs the model

        self._model = load(self._given.folder, self._given.batch)

    def decode_request(self, request: dict[str, list[Any]]) -> list[Any]:
        return request[REQUEST[self._task]]

    def batch(self, inputs: list[list[Any]]) -> list[list[Any]]:
        return inputs

    def predict(self, x: list[list[Any]]) -> list[list[str]]:
        return self._model.answer_all(x)

    def unbatch(self, output: list[list[str]]) -> list[list[str]]:
        return output

    def encode_response(self, output: list[str]) -> dict[str, list[str]]:
        return {ANSWER[self._task]: output}


if __name__ == "__main__":
    from tests.bench.peers.arguments import arguments, task_of

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else its helpers outlive it
    given = arguments()
    api = Api(given, task_of(given.folder))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run("127.0.0.1", given.port, num_api_servers=1, log_level="warning", generate_client_file=False)
