"""Directories of models and versions: which there are, which are served, and whether a file has changed.

Names, sizes and times are all that is read here, and no TensorFlow is needed.
"""

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from seqserve.service.backend.model_config import ModelConfigFile, ModelEntry
from seqserve.service.contract.digest import version_files
from seqserve.service.contract.manifest import FILE_NAME

GRAPH = "saved_model.pb"
REST = 50
"""How many times as long as a look took the next one is put off."""


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where the models lie: as a model config file says, or else one folder each under the root.

    Without a file the two newest versions of a model are served, and there are no labels.
    """

    root: Path
    config: ModelConfigFile | None = None

    def names(self) -> list[str]:
        """Return the configured models, or every folder of the root that holds a numbered folder."""
        if self.config is not None:
            return sorted(self.config.entries())
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if path.is_dir() and path.name[0] != ".")
        return sorted(path.name for path in folders if version_folders(path))

    def entry(self, model: str) -> ModelEntry:
        """Return a model's folder, policy and labels; one that is not configured may lie under the root."""
        configured = self.config.entries() if self.config is not None else {}
        return configured.get(model) or ModelEntry(model, self.root / model)


def version_folders(folder: Path) -> dict[int, Path]:
    """Return the version directories in a model's folder by number, newest first; of 7 and 007 the former."""
    if not folder.is_dir():
        return {}
    paths = (path for path in sorted(folder.iterdir()) if path.name.isdecimal() and path.is_dir())
    return dict(sorted({int(path.name): path for path in paths}.items(), reverse=True))


def stamp_of(folder: Path) -> Hashable:
    """Return a value that changes when a file of the version does: each path, size and time."""
    stats = sorted((entry.path, entry.stat()) for entry in version_files(folder))
    digest = hashlib.blake2b()
    for path, stat in stats:
        digest.update(os.fsencode(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Look:
    """What a version was like, and until when that is taken to be so if its signs are the same."""

    stamp: Hashable
    signs: Hashable
    until: float


class Stamps:
    """The stamps of versions, asked for again and again.

    All files of a version are looked at anew only when `REST` times the seconds that a look took have
    passed, or its folder, its manifest or its graph has changed: however many files there are, looking takes
    a fiftieth of a core.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._looks: dict[Path, _Look] = {}

    def of(self, folder: Path) -> Hashable:
        """Return the stamp of a version."""
        begun, known, signs = self._clock(), self._looks.get(folder), _signs(folder)
        if known is not None and known.signs == signs and begun < known.until:
            return known.stamp
        stamp = stamp_of(folder)
        ended = self._clock()
        self._looks[folder] = _Look(stamp, signs, ended + REST * (ended - begun))
        return stamp

    def forget_gone(self) -> None:
        """Forget the versions that are there no more."""
        self._looks = {folder: look for folder, look in self._looks.items() if folder.exists()}


def _signs(folder: Path) -> Hashable:
    """Return what most changes of a version show in, at the cost of three looks."""
    signs = []
    for path in (folder, folder / "assets" / FILE_NAME, folder / GRAPH):
        try:
            stat = path.stat()
            signs.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            signs.append((0, 0, 0))
    return tuple(signs)
