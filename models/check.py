"""Certify a version before it ships: padding is invisible, goldens hold, no op that only one device has.

`python -m models check` and `models.export` call `check_version`. What leaks is measured, not guessed
from layer names: a row's outputs must be the same alone, padded to any bucket, beside any neighbours.
"""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from models.config import ConfigInvalid
from service import errors
from service.backend.base import Backend, Spec, State
from service.backend.embedded import EmbeddedBackend
from service.backend.tfserving import TfServingBackend
from service.contract.digest import check_digests, digest_of
from service.contract.manifest import (
    FILE_NAME,
    PREDICT_SIGNATURE,
    STEP_SIGNATURE,
    Manifest,
    Signature,
    Tensor,
)
from service.contract.padding import Array, Row, pad_batch, real_steps
from service.core.catalog import make_served
from service.core.golden import body_of, run_examples
from service.core.items import ItemRunner
from service.core.queue import Budget
from service.core.scheduler import Scheduler
from service.core.types import BatchOptions, Outputs, Served
from service.errors import FailedPrecondition
from service.metrics import Metrics

TOLERANCE = 1e-5
SECONDS = 120.0


class PaddingLeak(FailedPrecondition):
    """An output of the model depends on padding or on neighbours; the message names it."""

    reason = "PADDING_LEAK"


class StepDiffers(FailedPrecondition):
    """Advanced event by event, a sequence is answered otherwise than whole; the message names the output."""

    reason = "STEP_DIFFERS"


class DeviceOnlyOp(FailedPrecondition):
    """The graph holds an op that does not run on every device; the message names it."""

    reason = "DEVICE_ONLY_OP"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One version behind the very code that will serve it."""

    backend: Backend
    runner: ItemRunner
    served: Served
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Server:
    """A running TensorFlow Serving, HOST:PORT, and what it computes on: `cpu` or `gpu`."""

    address: str
    device: str = "cpu"


@asynccontextmanager
async def pipeline(
    folder: Path, check_files: bool = True, server: Server | None = None
) -> AsyncIterator[Pipeline]:
    """Load one version directory, NAME/VERSION, and nothing beside it; or call a server's copy of it.

    Raises:
        ManifestMissing, ManifestInvalid, FileChanged, BackendFailed; VersionNotFound, BackendUnavailable.
    """
    folder, name, version = name_and_version(folder)
    metrics = Metrics(CollectorRegistry())
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / name).mkdir()
        (Path(root) / name / folder.name).symlink_to(folder)
        backend: Backend = EmbeddedBackend(Path(root), threads=1, check_files=check_files)
        if server is not None:
            backend = TfServingBackend([server.address], lambda: [name], metrics)
        budget = Budget(rows=64, cells=8192, queue_cells=2**40)
        async with Scheduler(backend, budget, metrics, backend_timeout=SECONDS) as scheduler:
            try:
                await _available(backend, name, version)
                served = make_served(name, version, await backend.manifest(name, version))
                tolerance = TOLERANCE
                if server is not None:
                    _check_same(folder, served, server)
                    tolerance = served.manifest.tolerance.gpu if server.device == "gpu" else TOLERANCE
                yield Pipeline(backend, ItemRunner(scheduler, metrics), served, tolerance)
            finally:
                await backend.close()


async def _available(backend: Backend, name: str, version: int) -> None:
    """Wait until the version can be called; raises why it never will be."""
    await backend.models()
    until = asyncio.get_running_loop().time() + SECONDS
    while True:
        state = next((s for s in await backend.versions(name) if s.version == version), None)
        if state is None:
            raise errors.VersionNotFound(f"model {name!r} has no version {version} there")
        if state.error is not None:
            raise state.error
        if state.state is State.AVAILABLE:
            return
        if asyncio.get_running_loop().time() > until:
            raise errors.NotReady(f"{name} version {version} is not loaded after {SECONDS:g} s")
        await asyncio.sleep(0.2)


def _check_same(folder: Path, served: Served, server: Server) -> None:
    mine = digest_of((folder / "assets" / FILE_NAME).read_bytes())
    if served.digest != mine:
        where = f"{served.model} version {served.version} at {server.address}"
        raise errors.FileChanged(f"{where} has digest {served.digest}, the directory {mine}")


def name_and_version(folder: Path) -> tuple[Path, str, int]:
    """Read a version directory's path, …/NAME/NUMBER; returns it absolute, and both.

    Raises:
        ConfigInvalid: it is no such directory.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.name.isdecimal() or not folder.is_dir():
        raise ConfigInvalid(f"{folder} is not a version directory: MODEL/NUMBER is wanted")
    return folder, folder.parent.name, int(folder.name)


def check_version(folder: Path, server: Server | None = None) -> list[str]:
    """Certify a version directory; returns a line for each thing that was checked.

    Args:
        server: have its copy of the version compute instead of this process.

    Raises:
        FileChanged, ManifestInvalid, DeviceOnlyOp, PaddingLeak, StepDiffers, GoldenFailed: what is wrong.
        VersionNotFound, BackendUnavailable: the server cannot be asked.
    """
    return asyncio.run(_check(folder, server))


async def _check(folder: Path, server: Server | None) -> list[str]:
    check_digests(folder)
    check_ops(folder)
    device = server.device if server is not None else "cpu"
    where = [f"{server.address} has this very version, by its digest"] if server is not None else []
    async with pipeline(folder, server=server) as loaded:
        manifest = loaded.served.manifest
        if manifest.batching == "single":
            padding = ["padding leaks: rows go alone, at their exact length (batching: single)"]
        else:  # before the goldens: a leak spoils them too, and is the better thing to be told
            padding = [await check_padding(loaded, name) for name in manifest.serving_signatures]
        steps = [await check_step(loaded)] if STEP_SIGNATURE in manifest.signatures else []
        deadline = asyncio.get_running_loop().time() + SECONDS
        await run_examples(loaded.served, loaded.runner, deadline, device)
    return [
        f"{len(manifest.files)} files are as exported",
        *where,
        "no op needs one kind of device",
        *padding,
        *steps,
        f"{len(manifest.examples)} golden examples hold",
    ]


def check_ops(folder: Path) -> None:
    """Refuse cuDNN ops, and XLA ops or functions marked to be compiled: stock servers run neither.

    Raises:
        DeviceOnlyOp: naming node and op.
    """
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for node in _nodes(saved):
        compiled = node.attr["_XlaMustCompile"].b if "_XlaMustCompile" in node.attr else False
        if "cudnn" in node.op.lower() or node.op.startswith("Xla") or compiled:
            raise DeviceOnlyOp(f"{node.name!r} is a {node.op}{' marked for XLA' if compiled else ''}")


def _nodes(saved: SavedModel) -> Iterator[NodeDef]:
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def


async def check_padding(loaded: Pipeline, name: str) -> str:
    """Compare each row alone and unpadded with itself padded, anywhere among neighbours, beside garbage.

    With one bucket, a fixed time axis, "alone" is padded to it already: neighbours and garbage are tested.

    Raises:
        PaddingLeak: naming the output, the case and by how much.
    """
    kinds: Counter[str] = Counter()
    groups = _rows(loaded.served, name)
    for options, rows in groups.items():
        kinds += await _check_rows(loaded, _Call(name, options), rows)
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    count = sum(map(len, groups.values()))
    held = f", held to the GPU's tolerance of {loaded.tolerance:g}" if loaded.tolerance != TOLERANCE else ""
    buckets = loaded.served.manifest.buckets
    if len(buckets) == 1:
        return (
            f"signature {name!r}: neighbours change nothing for {count} rows ({shown} times{held}); "
            f"every row has the one length {buckets[0]}, so it is not compared with itself unpadded"
        )
    return f"signature {name!r}: padding is invisible for {count} rows ({shown} times{held})"


@dataclass(frozen=True, slots=True)
class _Call:
    """What rows of one batch have in common."""

    signature: str
    options: BatchOptions


async def _check_rows(loaded: Pipeline, call: _Call, rows: Sequence[Row]) -> Counter[str]:
    """Check rows that may share a batch; returns how often each kind of case was tried."""
    manifest = loaded.served.manifest
    alone = [await _alone(loaded, call, row) for row in rows]
    kinds: Counter[str] = Counter()
    for case in _cases(rows, manifest):
        batch = [rows[place] for place in case.places]
        outputs = await _outputs(loaded, call, batch, case.length, case.garbage)
        for place, got in zip(case.places, outputs, strict=True):
            how = f"{case.kind} at length {case.length}"
            _compare(loaded, call.signature, rows[place], alone[place], got, how)
            kinds[case.kind] += 1
    return kinds


@dataclass(frozen=True, slots=True)
class Case:
    """One way to send rows, given by their places: what it is called, how long, with garbage or not."""

    kind: str
    places: tuple[int, ...]
    length: int
    garbage: bool = False


def _cases(rows: Sequence[Row], manifest: Manifest) -> Iterator[Case]:
    """Yield every way that is tested; among neighbours each row stands first, last and in between."""
    for bucket in manifest.buckets:
        fitting = tuple(place for place, row in enumerate(rows) if row.length <= bucket)
        for place in fitting:
            if len(manifest.buckets) > 1:
                yield Case("padded", (place,), bucket)
            if manifest.mask_input is not None:
                yield Case("with garbage in the padding", (place,), bucket, garbage=True)
        for turn in range(len(fitting)) if len(fitting) > 1 else ():
            yield Case("among neighbours", (*fitting[turn:], *fitting[:turn]), bucket)


def _rows(served: Served, name: str) -> dict[BatchOptions, list[Row]]:
    """Encode the golden examples, and cut the longest short, so that there are rows of several lengths.

    Rows that may share a batch, by the options that they share.
    """
    groups: dict[BatchOptions, list[Row]] = {}
    for example in served.manifest.examples:
        plan = served.codec.plan(body_of(served.manifest, example.request))
        if plan.signature == name:
            rows = [plan.encode(item).row for item in plan.items]
            groups.setdefault(plan.batch_options, []).extend(rows)
    if not groups:
        raise errors.GoldenFailed(f"examples: none calls signature {name!r}")
    inputs = served.manifest.signatures[name].inputs
    for rows in groups.values():
        longest = max(rows, key=lambda row: row.length)
        rows += [_cut(longest, n, inputs) for n in {1, longest.length // 2} if 0 < n < longest.length]
    return groups


def _cut(row: Row, length: int, tensors: Mapping[str, Tensor]) -> Row:
    values = {n: v[:length] if "time" in tensors[n].axes else v for n, v in row.inputs.items()}
    return Row(values, length)


async def _alone(loaded: Pipeline, call: _Call, row: Row) -> Outputs:
    buckets = loaded.served.manifest.buckets
    length = buckets[0] if len(buckets) == 1 else row.length
    return (await _outputs(loaded, call, [row], length))[0]


async def _outputs(
    loaded: Pipeline, call: _Call, rows: Sequence[Row], length: int, garbage: bool = False
) -> list[Outputs]:
    manifest = loaded.served.manifest
    signature = manifest.signatures[call.signature]
    inputs = pad_batch(rows, length, signature, manifest, call.options)
    if garbage:
        _spoil(inputs, rows[0], signature, manifest)
    return await _predict(loaded, call.signature, inputs, len(rows))


async def _predict(loaded: Pipeline, signature: str, inputs: Mapping[str, Array], rows: int) -> list[Outputs]:
    deadline = asyncio.get_running_loop().time() + SECONDS
    spec = Spec(loaded.served.model, loaded.served.version, signature, loaded.served.digest)
    outputs = await loaded.backend.predict(spec, inputs, deadline)
    return [{key: value[at] for key, value in outputs.items()} for at in range(rows)]


def _spoil(inputs: dict[str, Array], row: Row, signature: Signature, manifest: Manifest) -> None:
    """Put values of the (first) row itself where there is padding: legal ids, wrong place."""
    for name, tensor in signature.inputs.items():
        if "time" in tensor.axes and name != manifest.mask_input:
            cells = inputs[name][0]
            gap = slice(0, len(cells) - row.length) if manifest.padding == "left" else slice(row.length, None)
            cells[gap] = np.resize(row.inputs[name][::-1], cells[gap].shape)


def _compare(loaded: Pipeline, name: str, row: Row, alone: Outputs, got: Outputs, how: str) -> None:
    manifest = loaded.served.manifest
    ids_differ = manifest.decode is not None and not _same_ids(alone, got)
    for output, tensor in manifest.signatures[name].outputs.items():
        if ids_differ and output != "scores":
            continue  # a tie: two hypotheses whose scores are as close as the tolerance
        wanted, found = (_real(manifest, x, output, tensor.axes[1:], row) for x in (alone, got))
        off = _excess(wanted, found, loaded.tolerance)
        if off is not None:
            raise PaddingLeak(f"output {output!r} of {name!r} changes by {off:.3g} when a row is {how}")


def _same_ids(alone: Outputs, got: Outputs) -> bool:
    if not np.array_equal(alone["lengths"], got["lengths"]):
        return False
    longest = int(alone["lengths"].max())
    return np.array_equal(alone["ids"][:, :longest], got["ids"][:, :longest])


def _real(manifest: Manifest, outputs: Outputs, name: str, axes: Sequence[str], row: Row) -> Array:
    """Cut an output to what is real: decoded steps, source steps, or a sequence's own steps."""
    value = outputs[name]
    for place, axis in enumerate(axes):
        moved = np.moveaxis(value, place, 0)
        if axis == "time" and manifest.decode is not None:
            moved = moved[: int(outputs["lengths"].max())]
        elif axis in ("time", "source"):
            moved = real_steps(moved, row.length, manifest.padding)
        value = np.moveaxis(moved, 0, place)
    return value


def _excess(wanted: Array, got: Array, tolerance: float) -> float | None:
    """Return the largest difference if any is above the tolerance, else None."""
    if wanted.shape != got.shape:
        return float("inf")
    exact = wanted.astype(np.float64)
    off = np.abs(exact - got.astype(np.float64))
    allowed = tolerance + tolerance * np.abs(exact)
    return None if (off <= allowed).all() else float(off.max())


async def check_step(loaded: Pipeline) -> str:
    """Compare each row advanced event by event with itself whole: alone, and beside rows of other lengths.

    Raises:
        StepDiffers: naming the output and by how much.
    """
    groups = _rows(loaded.served, PREDICT_SIGNATURE)
    for options, rows in groups.items():
        whole = [await _alone(loaded, _Call(PREDICT_SIGNATURE, options), row) for row in rows]
        for places in ([*range(len(rows))], *([place] for place in range(len(rows)))):
            advanced = await _advance(loaded, [rows[place] for place in places])
            for place, got in zip(places, advanced, strict=True):
                how = f"after {rows[place].length} events, in a batch of {len(places)}"
                _compare_step(loaded, whole[place], got, how)
    count = sum(map(len, groups.values()))
    return f"signature {STEP_SIGNATURE!r}: event by event equals the whole for {count} rows"


async def _advance(loaded: Pipeline, rows: Sequence[Row]) -> list[Outputs]:
    """Return each row's outputs after its last event; a row leaves the batch when it has no more."""
    signature = loaded.served.manifest.signatures[STEP_SIGNATURE]
    first = {name: np.zeros(shape[-1], np.float32) for name, shape in (signature.state or {}).items()}
    reached: list[Outputs] = [first] * len(rows)
    for step in range(max(row.length for row in rows)):
        going = [place for place, row in enumerate(rows) if row.length > step]
        inputs = {
            name: np.stack([reached[n][name] if name in first else rows[n].inputs[name][step] for n in going])
            for name in signature.inputs
        }
        outputs = await _predict(loaded, STEP_SIGNATURE, inputs, len(going))
        for place, got in zip(going, outputs, strict=True):
            reached[place] = got
    return reached


def _compare_step(loaded: Pipeline, whole: Outputs, got: Outputs, how: str) -> None:
    for head in loaded.served.manifest.heads:
        off = _excess(whole[head], got[head], loaded.tolerance) if head in got else float("inf")
        if off is not None:
            raise StepDiffers(f"output {head!r} of {STEP_SIGNATURE!r} is off by {off:.3g} {how}")
