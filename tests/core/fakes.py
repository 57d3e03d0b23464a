"""A backend that is a function, two models for it, and the whole of core on top of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.contract.items import PredictBody, TranslateBody
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.contract.padding import Array, Row
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.entries import BatchKey, cells_of
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.predict import PredictCodec
from seqserve.service.core.queue import Budget
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.tasks import SEQUENCE, TASKS
from seqserve.service.core.types import Answered, Asked, BatchOptions, Call, ModelRef, Outputs, Served
from seqserve.service.metrics import Metrics

Function = Callable[[Spec, Tensors], dict[str, Array]]
BUDGET = Budget(rows=8, cells=64, queue_cells=100_000)
POISON = 666.0
NEVER = 1e6


@dataclass(slots=True)
class Clock:
    """Goes only when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Batch:
    """A call that reached the backend."""

    spec: Spec
    inputs: Tensors
    deadline: float
    started: float

    @property
    def rows(self) -> int:
        return len(self.inputs["x"])


@dataclass(slots=True)
class Published:
    """A version as the backend has it: its state, its contract files, or why it gives none."""

    state: VersionState
    files: Mapping[str, bytes] | errors.SeqserveError


class FakeBackend:
    """Answers by `function`; remembers every call, waits at gates, fails where it is told to."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.slots = 2
        self.is_reachable = True
        self.has_named_models = True
        self.unlisted: errors.SeqserveError | None = None  # what `models` raises
        self.looks = 0
        self.labels: dict[tuple[str, str], int] = {}
        self.astray: dict[tuple[str, str], errors.SeqserveError] = {}  # by label: what `label` raises
        self.asked: list[tuple[float, str]] = []  # each question about a label, and when
        self.batches: list[Batch] = []
        self.seconds = 0.0  # that a batch takes
        self.gates: dict[int, asyncio.Event] = {}  # by version
        self.failing: dict[str, Exception] = {}  # by model: what `versions` raises
        self.published: dict[str, dict[int, Published]] = {}

    def put(
        self,
        model: str,
        version: int,
        files: Mapping[str, bytes] | errors.SeqserveError,
        **state: Any,
    ) -> None:
        """Publish a version; AVAILABLE if nothing else is said."""
        said = VersionState(version, **{"state": State.AVAILABLE, **state})
        self.published.setdefault(model, {})[version] = Published(said, files)

    async def models(self) -> list[str]:
        if self.unlisted is not None:
            raise self.unlisted
        return list(self.published)

    async def versions(self, model: str) -> list[VersionState]:
        self.looks += 1
        await asyncio.sleep(0)
        if model in self.failing:
            raise self.failing[model]
        return [version.state for version in self.published.get(model, {}).values()]

    async def label(self, model: str, label: str) -> int:
        self.asked.append((asyncio.get_running_loop().time(), label))
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if (model, label) in self.astray:
            raise self.astray[model, label]
        if (model, label) not in self.labels:
            raise errors.LabelNotFound(f"no label {label}")
        return self.labels[model, label]

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        files = self.published[model][version].files
        if isinstance(files, errors.SeqserveError):
            raise files
        return dict(files)

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        self.batches.append(Batch(spec, inputs, deadline, asyncio.get_running_loop().time()))
        if spec.version in self.gates:
            await self.gates[spec.version].wait()
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return self.function(spec, inputs)

    async def close(self) -> None:
        pass


# --- a sequence model: numbers in, their weighted sum out -----------------------------------------


def totals(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Weigh each real step by its place, so that a row that was shifted or swapped with another shows.

    Fails on a batch that holds POISON, as a model that dies of one row does.
    """
    x, mask = inputs["x"], inputs["mask"]
    if (x == POISON).any():
        raise errors.BackendFailed("poisoned")
    sums = (x * mask * (1 + np.arange(x.shape[1]))).sum(axis=1) * (1 + inputs["boost"])
    size = np.stack([mask.sum(axis=1), np.full(len(x), 2.5)], axis=1)
    return {"total": sums.astype(np.float32)[:, None], "size": size.astype(np.float32)}


def total(values: list[float], boost: float = 0.0) -> float:
    """Return what `totals` answers one row with."""
    return (1 + boost) * sum(value * (place + 1) for place, value in enumerate(values))


def sequence_manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest that `totals` keeps, as a dict."""
    axes = ["batch", "time"]
    return {
        "task": "sequence",
        "name": "totals",
        "version": 1,
        "signatures": {
            PREDICT_SIGNATURE: {
                "inputs": {
                    "x": {"dtype": "float32", "axes": axes, "pad_value": 0.0},
                    "mask": {"dtype": "bool", "axes": axes},
                    "boost": {"dtype": "float32", "axes": []},
                },
                "outputs": {
                    "total": {"dtype": "float32", "axes": ["batch", "unit"]},
                    "size": {"dtype": "float32", "axes": ["batch", "label"]},
                },
            }
        },
        "mask": {"input": "mask"},
        "options": {"boost": {"option": "seed", "default": 0, "minimum": 0, "maximum": 9}},
        "features": {"x": {"kind": "numbers", "mean": [0], "scale": [1]}},
        "heads": {
            "total": {"kind": "numeric", "unit": "points"},
            "size": {"kind": "softmax", "labels": ["long", "short"], "scores": "logits"},
        },
        "limits": {"sequence_steps": 16},
        "buckets": [4, 8, 16],
        "examples": [example([1.0], 1.0)],
        **changes,
    }


def example(values: list[float], answer: float) -> dict[str, Any]:
    """Return a golden example of head `total` alone."""
    request = {"sequences": [{"x": values}], "heads": ["total"]}
    heads = {"total": {"value": answer, "unit": "points", "intervals": []}}
    return {"request": request, "items": [{"heads": heads, "warnings": []}]}


def as_files(manifest: dict[str, Any], **others: bytes) -> dict[str, bytes]:
    """Return contract files as a backend gives them."""
    return {"manifest.json": json.dumps(manifest).encode(), **others}


def parsed(manifest: dict[str, Any]) -> Manifest:
    """Return the manifest that the dict is."""
    return parse_manifest(as_files(manifest)["manifest.json"])


def served(version: int = 1, **changes: Any) -> Served:
    """Return a version that `totals` keeps, without a catalog."""
    manifest = parsed(sequence_manifest(**changes))
    return Served("totals", version, "sha256:0", manifest, SEQUENCE, PredictCodec(manifest))


def row(values: list[float]) -> Row:
    """Return the row of a sequence."""
    return Row({"x": np.array(values, np.float32)}, len(values))


# --- a translation model: what comes in goes out --------------------------------------------------


def echo(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer each text with itself, in one beam, each piece attending to itself."""
    ids = inputs["source"]
    rows, length = ids.shape
    lengths = (ids != 0).sum(axis=1, keepdims=True, dtype=np.int32)
    attention = np.broadcast_to(np.eye(length, dtype=np.float32), (rows, 1, length, length))
    scores = -lengths.astype(np.float32)
    return {"ids": ids[:, None], "lengths": lengths, "scores": scores, "attention": attention}


def translation_manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest that `echo` keeps, as a dict."""
    beams = ["batch", "beam"]
    outputs = {
        "ids": {"dtype": "int32", "axes": [*beams, "time"]},
        "lengths": {"dtype": "int32", "axes": beams},
        "scores": {"dtype": "float32", "axes": beams},
        "attention": {"dtype": "float32", "axes": [*beams, "time", "source"]},
    }
    source = {"source": {"dtype": "int32", "axes": ["batch", "time"], "pad_value": 0}}
    size = {"beam_size": {"dtype": "int32", "axes": []}}
    seed = {"seed": {"dtype": "int64", "axes": ["batch"]}}
    return {
        "task": "translation",
        "name": "echo",
        "version": 1,
        "signatures": {
            "greedy": {"inputs": source, "outputs": outputs},
            "beam": {"inputs": {**source, **size}, "outputs": outputs},
            "sample": {"inputs": {**source, **seed}, "outputs": outputs},
        },
        "options": {
            "beam_size": {"option": "beam_size", "default": 1, "minimum": 1, "maximum": 4},
            "seed": {"option": "seed", "default": 0, "minimum": 0, "maximum": 99},
        },
        "features": {"source": {"kind": "tokens", "tokenizer": "en.model"}},
        "decode": {
            "signatures": {"greedy": "greedy", "beam": "beam", "sample": "sample"},
            "max_beams": 4,
            "default_length": 32,
            "max_length": 32,
        },
        "limits": {"text_characters": 100, "text_pieces": 32},
        "buckets": [8, 16, 32],
        "examples": [{"request": {"texts": ["a"]}, "items": [{"text": "a", "score": -3.0, "warnings": []}]}],
        **changes,
    }


# --- core on top ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Core:
    """Everything between the transports and the backend."""

    backend: FakeBackend
    metrics: Metrics
    scheduler: Scheduler
    runner: ItemRunner
    catalog: Catalog
    gateway: Gateway
    changes: list[None] = field(default_factory=list)  # one for each on_change

    async def ask(self, ref: ModelRef, body: PredictBody | TranslateBody, call: Call) -> Answered:
        """Ask what the body is for."""
        task = next(task for task in TASKS.values() if task.body is type(body))
        asked = Asked(len(getattr(body, task.body_member)), lambda: body)
        return await self.gateway.answer(task, ref, asked, call)


def call(seconds: float = NEVER, transport: str = "rest") -> Call:
    """Return a call that is worth answering for so long from now."""
    return Call(transport, asyncio.get_running_loop().time() + seconds)


@asynccontextmanager
async def running(
    function: Function = totals,
    budget: Budget = BUDGET,
    slots: int = 2,
    backend_timeout: float = NEVER,
    max_items: int = 64,
    max_request_cells: int = 100_000,
    shares: Shares = Shares(),  # noqa: B008  # it is frozen
) -> AsyncIterator[Core]:
    """Run core over a fake backend and the loop's clock; at the end nothing waits and no task is left."""
    before, clock = asyncio.all_tasks(), asyncio.get_running_loop().time
    backend, metrics = FakeBackend(function), Metrics(CollectorRegistry())
    backend.slots = slots
    scheduler = Scheduler(backend, budget, metrics, backend_timeout=backend_timeout, clock=clock)
    async with scheduler:
        runner = ItemRunner(scheduler, metrics, clock, max_request_cells=max_request_cells)
        catalog = Catalog(backend, runner, metrics)
        gateway = Gateway(catalog, runner, metrics, max_items, clock, limits=Limits(shares, clock))
        core = Core(backend, metrics, scheduler, runner, catalog, gateway)
        catalog.on_change = lambda: core.changes.append(None)
        yield core
    await settle()
    assert asyncio.all_tasks() == before
    assert series(metrics, "queue_cells") == {(): 0}


async def one_row(
    scheduler: Scheduler, who: Served, options: BatchOptions, given: Row, deadline: float
) -> Outputs:
    """Ask for one row, as a request of its own."""
    key = BatchKey(who, PREDICT_SIGNATURE, options)
    with scheduler.calling(key, deadline) as caller:
        scheduler.submit(caller, {0: given}, [cells_of(given, key)])
        (entry,) = await caller.settled()
    if isinstance(entry.outcome, errors.SeqserveError):
        raise entry.outcome
    assert entry.outcome is not None
    return entry.outcome


async def settle() -> None:
    """Let every task go as far as it can; the clock moves by next to nothing."""
    await asyncio.sleep(1e-6)


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return a sample's values by its label values, in the order of its declaration."""
    values = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == f"seqserve_{name}":
                values[tuple(sample.labels.values())] = sample.value
    return values
