"""Small models for the tests, each trained once and kept by the content of all that makes it.

They lie in `build/test-models/SOURCES/KEY/NAME/1`: a test run trains a model only where the sources, the
libraries, the configuration or the data have changed, and worker processes that want the same one wait for
the first. Delete the folder at any time.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from seqserve.models.cli import train_model
from seqserve.models.config import Config, read_config

REPOSITORY = Path(__file__).parents[1]
STORE = REPOSITORY / "build/test-models"
DOORS = ("rest", "rpc", "surfaces", "edge", "cli", "keeper", "settings", "status.py", "main.py")
"""What of `service` no training or export may import."""
LIBRARIES = ("keras", "numpy", "sentencepiece", "tensorflow")
GENERATIONS = 3
"""How many states of the sources keep their models, the latest used."""


class Kept(Protocol):
    """A model that can be made, and is kept by the content of what makes it."""

    @property
    def name(self) -> str:
        """Its folder in a model root."""

    @property
    def key(self) -> str:
        """The content of what makes it beside the sources, as a file name."""

    def make(self, root: Path) -> None:
        """Write version 1 of it to a model root."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model: its configuration, and the file or folder that it is trained on."""

    config: Config
    data: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def key(self) -> str:
        """The content of both, as a file name."""
        hashed = hashlib.sha256(self.config.model_dump_json().encode())
        update(hashed, self.data)
        return hashed.hexdigest()[:16]

    def make(self, root: Path) -> None:
        """Train it by the real command."""
        train_model(self.config, self.data, root, resume=False)
        shutil.rmtree(root / ".training")


def wanted(table: dict[str, Any], data: Path) -> Wanted:
    """Return a model by its configuration as a table."""
    return Wanted(read_config(table, "tests"), data)


Trained = Callable[..., Path]
"""Models, each Kept -> a model root of one's own with version 1 of each."""


def provide(root: Path, *models: Kept) -> Path:
    """Copy version 1 of each model to a model root, made by the real command unless it is kept."""
    generation = STORE / _sources()
    generation.mkdir(parents=True, exist_ok=True)
    os.utime(generation)
    # first what no other process is about to make
    waited = [model for model in models if not _make(model, generation, wait=False)]
    for model in waited:
        _make(model, generation, wait=True)
    _forget()
    for model in models:
        shutil.copytree(generation / model.key / model.name, root / model.name)
    return root


def _make(model: Kept, generation: Path, wait: bool) -> bool:
    """See to it that a model is there; False where another process has begun with it."""
    kept = generation / model.key
    with _locked(generation / f"{model.key}.lock", wait) as locked:
        if locked and not kept.exists():
            with tempfile.TemporaryDirectory(dir=generation) as scratch:
                model.make(Path(scratch) / "root")
                (Path(scratch) / "root").rename(kept)
        return locked


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock among processes; where it is taken and `wait` is false, yield False without it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@cache
def _sources() -> str:
    """Return a name for the sources and libraries that take part in training and export."""
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    hashed = hashlib.sha256(" ".join([platform.python_version(), platform.machine(), *versions]).encode())
    for folder in ("models", "service", "proto/seqserve/tfserving"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if path.relative_to(REPOSITORY).parts[:2] not in {("service", door) for door in DOORS}:
                hashed.update(f"{path.relative_to(REPOSITORY)}\n".encode())
                hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def update(hashed: Any, data: Path) -> None:
    """Add the content of a file, or of a folder's files."""
    for path in sorted(data.iterdir()) if data.is_dir() else [data]:
        hashed.update(f"{path.name}\n".encode())
        hashed.update(path.read_bytes())


def _forget() -> None:
    """Remove the models of sources that were not used of late."""
    kept = sorted(STORE.iterdir(), key=lambda generation: generation.stat().st_mtime, reverse=True)
    for generation in kept[GENERATIONS:]:
        shutil.rmtree(generation, ignore_errors=True)
