"""One version behind the very code that serves it: in this process, or at a running server."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from seqserve.models.config import ConfigInvalid
from seqserve.service import errors
from seqserve.service.backend.base import Backend, Spec, State
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.tfserving import TfServingBackend
from seqserve.service.contract.digest import digest_of
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.padding import Array
from seqserve.service.core.examine import make_served
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.queue import Budget
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.types import Outputs, Served
from seqserve.service.metrics import Metrics

TOLERANCE = 1e-5
SECONDS = 120.0


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
    """Wait until the version can be called; raise the reason if it never will be."""
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
        await asyncio.sleep(0.05)


def _check_same(folder: Path, served: Served, server: Server) -> None:
    mine = digest_of((folder / "assets" / FILE_NAME).read_bytes())
    if served.digest != mine:
        where = f"{served.model} version {served.version} at {server.address}"
        raise errors.FileChanged(f"{where} has digest {served.digest}, the directory {mine}")


def name_and_version(folder: Path) -> tuple[Path, str, int]:
    """Read a version directory's path, …/NAME/NUMBER; returns it absolute, and both.

    Raises:
        ConfigInvalid: it is not a version directory.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.name.isdecimal() or not folder.is_dir():
        why = "is not a version directory" if folder.exists() else "does not exist"
        raise ConfigInvalid(f"{folder} {why}: MODEL/NUMBER is expected")
    return folder, folder.parent.name, int(folder.name)


async def predict(loaded: Pipeline, signature: str, inputs: Mapping[str, Array], rows: int) -> list[Outputs]:
    """Run one batch; returns each row's outputs."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    spec = Spec(loaded.served.model, loaded.served.version, signature, loaded.served.digest)
    outputs = await loaded.backend.predict(spec, inputs, deadline)
    return [{key: value[at] for key, value in outputs.items()} for at in range(rows)]
