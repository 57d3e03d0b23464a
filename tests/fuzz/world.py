"""A whole service over models that are functions: the service is tried, and no input costs a model."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import numpy as np
import sentencepiece

from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.padding import Array
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call, ModelRef, Principal
from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from tests.core.fakes import FakeBackend, as_files, echo, sequence_manifest, totals, translation_manifest
from tests.core.sessions.fakes import visits, visits_manifest
from tests.fuzz.inputs import SESSION

ECHO, TOTALS, TICKETS, VISITS = "echo", "totals", "tickets", "visits"
LABELS = ["Assign", "Wait", "7"]


def beams(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer as `echo` does, with as many beams as are asked for."""
    size = int(inputs.get("beam_size", np.int32(1)))
    return {name: np.repeat(output, size, axis=1) for name, output in echo(spec, inputs).items()}


def answer(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer as the model that is asked does."""
    return FUNCTIONS[spec.model](spec, inputs)


def tickets(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer every row alike."""
    rows = len(inputs["activity"])
    return {
        "next": np.tile(np.float32([0.5, 0.25, 0.25]), (rows, 1)),
        "wait": np.tile(np.float32([1, 2, 4]), (rows, 1)),
    }


def tickets_manifest() -> dict[str, Any]:
    """Return the manifest of a model that takes a feature of each kind."""
    sequence = {"activity": ["Assign"], "minutes": [0], "amount": [[0, 0]]}
    top = [{"label": "Assign", "probability": 0.5}]
    heads = {"next": {"label": "Assign", "probability": 0.5, "top": top}}
    axes = ["batch", "time"]
    return sequence_manifest(
        name=TICKETS,
        signatures={
            "serving_default": {
                "inputs": {
                    "activity": {"dtype": "int32", "axes": axes, "pad_value": 0},
                    "minutes": {"dtype": "float32", "axes": axes, "pad_value": 0.0},
                    "amount": {"dtype": "float32", "axes": [*axes, "unit"], "pad_value": 0.0},
                    "mask": {"dtype": "bool", "axes": axes},
                },
                "outputs": {
                    "next": {"dtype": "float32", "axes": ["batch", "label"]},
                    "wait": {"dtype": "float32", "axes": ["batch", "level"]},
                },
            }
        },
        options={},
        features={
            "activity": {"kind": "categories", "labels": LABELS},
            "minutes": {"kind": "elapsed", "unit": "minutes"},
            "amount": {
                "kind": "numbers",
                "width": 2,
                "mean": [0, 0],
                "scale": [1, 1],
                "columns": ["net", "tax"],
                "units": ["EUR", "EUR"],
            },
        },
        heads={
            "next": {"kind": "softmax", "labels": LABELS, "scores": "probabilities"},
            "wait": {"kind": "numeric", "unit": "minutes", "quantiles": [0.05, 0.5, 0.95]},
        },
        examples=[
            {
                "request": {"sequences": [sequence], "heads": ["next"]},
                "items": [{"heads": heads, "warnings": []}],
            }
        ],
    )


@cache
def pieces() -> bytes:
    """Return a small SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(("two dogs run fast", "a cat sits on the mat") * 20),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


FUNCTIONS = {ECHO: beams, TOTALS: totals, TICKETS: tickets, VISITS: visits}


def backend() -> FakeBackend:
    """Return a backend with the four models."""
    made = FakeBackend(answer)
    made.put(ECHO, 1, as_files(translation_manifest(), **{"en.model": pieces()}))
    made.put(TOTALS, 1, as_files(sequence_manifest()))
    made.put(TICKETS, 1, as_files(tickets_manifest()))
    made.put(VISITS, 1, as_files(visits_manifest()))
    return made


@asynccontextmanager
async def service(**settings: Any) -> AsyncIterator[Running]:
    """Run both doors on free ports of the loopback address."""
    made = backend()
    async with running(Settings(rest_port=0, grpc_port=0, poll_seconds=600, **settings), made) as started:
        await live(started.gateway)
        forgetting = asyncio.create_task(_forget(made))
        try:
            yield started
        finally:
            forgetting.cancel()


async def live(gateway: Gateway) -> None:
    """Make the session that inputs are for, by its own id."""
    asked = Call("rest", asyncio.get_running_loop().time() + 60, principal=Principal("127.0.0.1"))
    made = await gateway.create_session(ModelRef(VISITS), asked)
    await gateway._sessions._put(made.later(id=SESSION), None)


async def _forget(made: FakeBackend) -> None:
    """Drop the batches that the backend remembers, which a million inputs would make many."""
    while True:
        await asyncio.sleep(0.5)
        made.batches.clear()


def manifests() -> list[bytes]:
    """Return the manifests, as the files they are."""
    tables = (translation_manifest(), sequence_manifest(), tickets_manifest(), visits_manifest())
    return [json.dumps(table).encode() for table in tables]
