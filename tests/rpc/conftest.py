"""A real gRPC server over a real gateway, whose backend is a callable."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
import sentencepiece
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.contract.padding import Array
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.queue import Budget
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.types import Answered, Asked, Call, ModelRef, Task
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.metrics import Metrics
from seqserve.service.rpc.health import PATIENCE
from seqserve.service.rpc.server import RpcServer
from seqserve.service.settings import Settings
from seqserve.v1 import model_pb2_grpc, sequence_pb2_grpc, translation_pb2_grpc
from tests.edge.fakes import open_entrance

SEQUENCE: dict[str, Any] = {
    "task": "sequence",
    "name": "tickets",
    "version": 1,
    "signatures": {
        "serving_default": {
            "inputs": {
                "activity": {"dtype": "int32", "axes": ["batch", "time"], "pad_value": 0},
                "minutes": {"dtype": "float32", "axes": ["batch", "time"], "pad_value": 0.0},
                "amount": {"dtype": "float32", "axes": ["batch", "time", "unit"], "pad_value": 0.0},
                "seed": {"dtype": "int64", "axes": ["batch"]},
                "mask": {"dtype": "bool", "axes": ["batch", "time"]},
            },
            "outputs": {
                "next": {"dtype": "float32", "axes": ["batch", "label"]},
                "wait": {"dtype": "float32", "axes": ["batch", "level"]},
            },
        }
    },
    "mask": {"input": "mask"},
    "options": {"seed": {"option": "seed", "default": 0, "minimum": 0, "maximum": 100}},
    "features": {
        "activity": {"kind": "categories", "labels": ["Assign", "Wait", "7"]},
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
    "heads": {
        "next": {"kind": "softmax", "labels": ["Assign", "Wait", "7"], "scores": "probabilities"},
        "wait": {"kind": "numeric", "unit": "minutes", "quantiles": [0.05, 0.5, 0.95]},
    },
    "limits": {"sequence_steps": 8},
    "buckets": [4, 8],
    "examples": [
        {
            "request": {
                "sequences": [{"activity": ["Assign"], "minutes": [0], "amount": [[0, 0]]}],
                "heads": ["next"],
            },
            "items": [
                {
                    "heads": {
                        "next": {
                            "label": "Assign",
                            "probability": 0.6,
                            "top": [{"label": "Assign", "probability": 0.6}],
                        }
                    },
                    "warnings": [],
                }
            ],
        }
    ],
}
TRANSLATION: dict[str, Any] = {
    "task": "translation",
    "name": "echo",
    "version": 1,
    "signatures": {
        "greedy": {
            "inputs": {"source": {"dtype": "int32", "axes": ["batch", "time"], "pad_value": 0}},
            "outputs": {
                "ids": {"dtype": "int32", "axes": ["batch", "beam", "time"]},
                "lengths": {"dtype": "int32", "axes": ["batch", "beam"]},
                "scores": {"dtype": "float32", "axes": ["batch", "beam"]},
                "attention": {"dtype": "float32", "axes": ["batch", "beam", "time", "source"]},
            },
        }
    },
    "features": {"source": {"kind": "tokens", "tokenizer": "text.model"}},
    "decode": {"signatures": {"greedy": "greedy"}, "default_length": 16, "max_length": 16},
    "limits": {"text_characters": 40, "text_pieces": 32},
    "buckets": [32],
    "examples": [{"request": {"texts": ["a"]}, "items": [{"text": "a", "score": -0.5, "warnings": []}]}],
}


def _answer(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Say of a sequence how sure its first label is, and of a text the text itself."""
    if spec.signature == "serving_default":
        first = inputs["activity"][:, 0]
        others = 0.2 - 0.1 * np.eye(3, dtype=np.float32)[first]  # 0.1 where the label is, 0.2 elsewhere
        rows = others + 0.5 * np.eye(3, dtype=np.float32)[first]
        return {"next": rows, "wait": np.tile(np.float32([1, 2, 4]), (len(first), 1))}
    ids = inputs["source"]  # (batch, time)
    rows, time = ids.shape
    attention = np.tile(np.eye(time, dtype=np.float32), (rows, 1, 1, 1))
    lengths = (ids != 0).sum(axis=1, dtype=np.int32)[:, None]
    scores = np.full((rows, 1), -0.5, np.float32)
    return {"ids": ids[:, None], "lengths": lengths, "scores": scores, "attention": attention}


@dataclass
class FakeBackend:
    """Versions with their files or their refusal, and a callable. A closed gate holds every batch."""

    contents: dict[str, dict[int, dict[str, bytes] | errors.SeqserveError | None]]
    answer: Callable[[Spec, Tensors], dict[str, Array]] = _answer
    slots: int = 2
    is_reachable: bool = True
    has_named_models: bool = False
    batches: list[Tensors] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def models(self) -> list[str]:
        return list(self.contents)

    async def versions(self, model: str) -> list[VersionState]:
        return [_state(number, held) for number, held in self.contents.get(model, {}).items()]

    async def label(self, model: str, label: str) -> int:
        raise errors.LabelNotFound(f"no label {label}")

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        files = self.contents[model][version]
        assert isinstance(files, dict)
        return files

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        self.batches.append(inputs)
        self.deadlines.append(deadline)
        self.entered.set()
        await self.gate.wait()
        return self.answer(spec, inputs)

    async def close(self) -> None:
        pass


def _state(number: int, held: dict[str, bytes] | errors.SeqserveError | None) -> VersionState:
    if held is None:
        return VersionState(number, State.LOADING)
    if isinstance(held, errors.SeqserveError):
        return VersionState(number, State.FAILED, held)
    return VersionState(number, State.AVAILABLE)


class WatchedGateway(Gateway):
    """Tells how each request ended: None where it was answered."""

    ended: asyncio.Queue[BaseException | None]

    async def answer(self, task: Task, ref: ModelRef, asked: Asked, call: Call) -> Answered:
        try:
            answered = await super().answer(task, ref, asked, call)
        except BaseException as error:
            self.ended.put_nowait(error)
            raise
        self.ended.put_nowait(None)
        return answered


class WatchedGauge:
    """Stands for a gauge without labels, and lets a test wait for a value."""

    def __init__(self) -> None:
        self._values: asyncio.Queue[float] = asyncio.Queue()

    def set(self, value: float) -> None:
        self._values.put_nowait(value)

    def forget(self) -> None:
        """Take what was set so far for not set."""
        self._values = asyncio.Queue()

    async def becomes(self, value: float) -> None:
        """Return when the value has been set, now or since the last call."""
        while await self._values.get() != value:
            pass


@dataclass
class World:
    """Everything that a test looks at."""

    backend: FakeBackend
    catalog: Catalog
    gateway: WatchedGateway
    server: RpcServer
    channel: grpc.aio.Channel
    queued: WatchedGauge
    port: int
    in_flight: BytesInFlight

    def __post_init__(self) -> None:
        self.translation: Any = translation_pb2_grpc.TranslationServiceStub(self.channel)
        self.sequence: Any = sequence_pb2_grpc.SequenceServiceStub(self.channel)
        self.model: Any = model_pb2_grpc.ModelServiceStub(self.channel)


Start = Callable[..., Awaitable[World]]


@pytest.fixture(scope="session")
def sequence_files() -> dict[str, bytes]:
    """Return the contract files of a sequence model."""
    return {"manifest.json": json.dumps(SEQUENCE).encode()}


@pytest.fixture(scope="session")
def translation_files() -> dict[str, bytes]:
    """Return the contract files of a model that gives every text back."""
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
    return {"manifest.json": json.dumps(TRANSLATION).encode(), "text.model": model.getvalue()}


@pytest.fixture
async def start(
    sequence_files: dict[str, bytes], translation_files: dict[str, bytes]
) -> AsyncIterator[Start]:
    """Return what starts a server with two models and an open gate; keyword arguments are settings."""
    async with AsyncExitStack() as stack:

        async def started(*, watcher_patience: float = PATIENCE, **given: Any) -> World:
            backend = FakeBackend({"echo": {1: translation_files}, "tickets": {1: sequence_files}})
            backend.gate.set()
            return await _world(stack, backend, Settings(grpc_port=0, **given), watcher_patience)

        yield started


async def _world(
    stack: AsyncExitStack, backend: FakeBackend, settings: Settings, patience: float = PATIENCE
) -> World:
    metrics, queued = Metrics(CollectorRegistry()), WatchedGauge()
    metrics.queue_cells = queued  # type: ignore[assignment]
    budget = Budget(settings.max_batch_rows, settings.max_batch_cells, settings.max_queue_cells)
    backend.slots = settings.slots or 2
    scheduler = Scheduler(backend, budget, metrics, backend_timeout=settings.backend_timeout)
    await stack.enter_async_context(scheduler)
    stack.callback(backend.gate.set)  # what a test has held is let go, so that the scheduler can end
    runner = ItemRunner(scheduler, metrics)
    catalog = Catalog(backend, runner, metrics)
    gateway = WatchedGateway(catalog, runner, metrics, settings.max_items)
    gateway.ended = asyncio.Queue()
    in_flight = BytesInFlight(settings.body_bytes_in_flight)
    server = RpcServer(gateway, settings, open_entrance(), in_flight, watcher_patience=patience)
    catalog.on_change = server.publish
    await catalog.refresh()
    for kept in (backend.batches, backend.deadlines, backend.entered, queued):  # the golden examples'
        kept.forget() if isinstance(kept, WatchedGauge) else kept.clear()
    port = await server.start()
    stack.push_async_callback(server.stop, 0)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    stack.push_async_callback(channel.close)
    return World(backend, catalog, gateway, server, channel, queued, port, in_flight)
