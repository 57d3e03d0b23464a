"""Peer: FastAPI, the model called once a request, on the event loop: on one core threads only add switches.

Started by the harness, see the package; `keras_eager` shares its endpoints.
"""

from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from tests.bench.peers.arguments import arguments
from tests.bench.peers.model import load


class Texts(BaseModel):
    """A request to a translation model."""

    texts: list[str]


class Sequences(BaseModel):
    """A request to a model of events."""

    sequences: list[dict[str, list[Any]]]


def make_app(answer: Callable[[Sequence[Any]], list[str]]) -> FastAPI:
    """Return the endpoints around a loaded model."""
    app = FastAPI()

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/translate")
    async def translate(body: Texts) -> dict[str, list[str]]:
        return {"translations": answer(body.texts)}

    @app.post("/predict")
    async def predict(body: Sequences) -> dict[str, list[str]]:
        return {"labels": answer(body.sequences)}

    return app


def serve(app: FastAPI, port: int) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    given = arguments()
    serve(make_app(load(given.folder, given.batch).answer), given.port)
