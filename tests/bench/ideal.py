"""The model without a gateway: how fast it can be (the ideal), what its batches take, what a call takes.

`tests.bench` runs these in a process on the server's core, which keeps what is loaded between calls.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.service.backend.base import Spec
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.contract.padding import Row, bucket_of, pad_batch
from seqserve.service.core.examine import make_served
from seqserve.service.core.golden import body_of
from seqserve.service.core.types import Served
from tests.bench.ceiling import SIZES, Table

ROWS = 64
STEPS = 4
"""Decoding steps between two timings: fewer than any output has."""
REPEATS, MOST_SECONDS = 15, 0.1
"""Timings of one kind of batch: so many, or as many as the time allows (three at least)."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a pass over the items: seconds, and the steps in and (translation) out of each."""

    seconds: float
    sources: list[int]
    targets: list[int]


class Raw:
    """A SavedModel in a Session, with rows encoded beforehand."""

    def __init__(self, folder: Path, items: Sequence[Any]) -> None:
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        self.served = served(folder)
        self.manifest = self.served.manifest
        request = "texts" if self.manifest.task == "translation" else "sequences"
        plan = self.served.codec.plan(body_of(self.served, {request: list(items)}))
        self.rows = [plan.encode(item).row for item in plan.items]
        self.signature, self._options = plan.signature, plan.batch_options
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        called = meta.signature_def[self.signature]
        self._feeds = {name: info.name for name, info in called.inputs.items()}
        self._fetches = {name: info.name for name, info in called.outputs.items()}

    def inputs(self, rows: Sequence[Row], length: int | None = None) -> dict[str, np.ndarray]:
        """Pad rows to the longest, or to a length."""
        length = length or max(row.length for row in rows)
        signature = self.manifest.signatures[self.signature]
        return pad_batch(rows, length, signature, self.manifest, self._options)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        feeds = {self._feeds[name]: value for name, value in inputs.items()}
        outputs: dict[str, np.ndarray] = self._session.run(self._fetches, feeds)
        return outputs


def served(folder: Path) -> Served:
    """Return what encodes for a version."""
    files = {path.name: path.read_bytes() for path in (folder / "assets").iterdir()}
    return make_served(folder.parent.name, int(folder.name), files)


@cache
def _raw(folder: Path, items: tuple[str, ...]) -> Raw:
    import json

    return Raw(folder, [json.loads(item) for item in items])


def ideal(folder: Path, items: tuple[str, ...]) -> Run:
    """Run all items in batches of 64, sorted by length: what the model does when nothing is in its way."""
    raw = _raw(folder, items)
    order = sorted(range(len(raw.rows)), key=lambda place: raw.rows[place].length)
    targets = [0] * len(order)
    began = time.perf_counter()
    for at in range(0, len(order), ROWS):
        places = order[at : at + ROWS]
        outputs = raw.run(raw.inputs([raw.rows[place] for place in places]))
        if "lengths" in outputs:
            for place, length in zip(places, outputs["lengths"][:, 0].tolist(), strict=True):
                targets[place] = length
    return Run(time.perf_counter() - began, [row.length for row in raw.rows], targets)


def requests(folder: Path, items: tuple[str, ...], seconds: float) -> float:
    """Return rows a second of batches of the 64 items that a request of 64 has: each sorted, in one batch."""
    raw = _raw(folder, items)
    groups = [raw.rows[at : at + ROWS] for at in range(0, len(raw.rows) - ROWS + 1, ROWS)]
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        group = sorted(groups[done % len(groups)], key=lambda row: row.length)
        raw.run(raw.inputs(group))
        done += 1
    return done * ROWS / (time.perf_counter() - began)


def table(folder: Path, items: tuple[str, ...], targets: Sequence[int]) -> Table:
    """Time batches of so many rows of so many steps: encoding, and one step of decoding.

    Rows are repeated, so that all are of one length, and none ends before the last step that is timed.
    """
    raw = _raw(folder, items)
    decodes = raw.manifest.decode is not None
    known = [
        row.length for row, target in zip(raw.rows, targets, strict=True) if target > STEPS or not decodes
    ]
    lengths = sorted({int(np.percentile(known, q)) for q in (0, 50, 100)})
    first, step = [], []
    for length in lengths:
        row = next(
            row
            for row, target in zip(raw.rows, targets, strict=True)
            if row.length == length and (target > STEPS or not decodes)
        )
        batches = [raw.inputs([row] * size) for size in SIZES]
        if not decodes:
            first.append([_timed(raw, batch) for batch in batches])
            step.append([0.0] * len(SIZES))
            continue
        short = [_timed(raw, _bounded(batch, 1)) for batch in batches]
        long = [_timed(raw, _bounded(batch, 1 + STEPS)) for batch in batches]
        step.append([max(0.0, (b - a) / STEPS) for a, b in zip(short, long, strict=True)])
        first.append([a - s for a, s in zip(short, step[-1], strict=True)])
    return Table(lengths, first, step)


def _bounded(inputs: dict[str, np.ndarray], steps: int) -> dict[str, np.ndarray]:
    return {**inputs, "max_length": np.full_like(inputs["max_length"], steps)}


def _timed(raw: Raw, inputs: dict[str, np.ndarray]) -> float:
    """Return the median seconds of a batch."""
    raw.run(inputs)
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < REPEATS and sum(taken) < MOST_SECONDS):
        began = time.perf_counter()
        raw.run(inputs)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


@cache
def _backend(folder: Path) -> tuple[asyncio.Runner, EmbeddedBackend]:
    """Load a version as the service does."""
    runner = asyncio.Runner()
    backend = EmbeddedBackend(folder.parents[1])
    runner.run(backend.versions(folder.parent.name))
    return runner, backend


def calls(folder: Path, items: tuple[str, ...], places: Sequence[int]) -> list[float]:
    """Return the seconds of a backend call for each of some items, one after another."""
    raw = _raw(folder, items)
    runner, backend = _backend(folder)
    spec = Spec(raw.served.model, raw.served.version, raw.signature, raw.served.digest)
    batches = [raw.inputs([raw.rows[place]], _padded(raw, raw.rows[place])) for place in places]

    async def ask() -> list[float]:
        taken, deadline = [], asyncio.get_running_loop().time() + 60
        for batch in batches:
            began = time.perf_counter()
            await backend.predict(spec, batch, deadline)
            taken.append(time.perf_counter() - began)
        return taken

    return runner.run(ask())


def _padded(raw: Raw, row: Row) -> int:
    return bucket_of(row.length, raw.manifest.buckets)


def task_of(folder: Path) -> str:
    """Return a version's task."""
    return parse_manifest((folder / "assets" / FILE_NAME).read_bytes()).task


def bare(folder: Path) -> tuple[float, float]:
    """Return seconds and MiB of a fresh process that imports TensorFlow and loads the SavedModel."""
    from tests.bench.processes import resident_mib

    began = time.perf_counter()
    import os

    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    return time.perf_counter() - began, resident_mib(os.getpid())
