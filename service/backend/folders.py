"""Directories of models and versions: which there are, which are served, and whether a file has changed.

Names, sizes and times are all that is read here, and no TensorFlow is needed.
"""

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from seqserve.service import errors
from seqserve.service.backend.model_config import ModelConfigFile, ModelEntry
from seqserve.service.contract.digest import version_files
from seqserve.service.contract.manifest import FILE_NAME

log = logging.getLogger(__name__)
GRAPH = "saved_model.pb"
LARGEST = 2**63 - 1
"""TensorFlow Serving's version numbers, and those of our own messages, have 64 bits."""
MOST_TOLD = 10
"""Names in one line of the log."""
REST = 50
"""How many times as long as a look took the next one is put off."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a model's folder holds: the versions by number, newest first, and why others are passed over."""

    versions: Mapping[int, Path]
    passed_over: Mapping[str, str]


def look_at(folder: Path) -> Look:
    """Return what a model's folder holds; of 7 and 007 the former is opened.

    Raises:
        OSError: it is not there, or cannot be listed.
    """
    paths: dict[int, Path] = {}
    passed_over: dict[str, str] = {}
    for entry in _listed(folder):
        if not (entry.name.isascii() and entry.name.isdecimal()):
            continue
        number = int(entry.name)
        if number > LARGEST:
            passed_over[entry.name] = f"its number is above {LARGEST}"
        elif not _is_folder(entry):
            passed_over[entry.name] = "it is no folder"
        else:
            if number in paths:
                passed_over[paths[number].name] = f"{entry.name} is version {number} too"
            paths[number] = Path(entry.path)
    return Look(dict(sorted(paths.items(), reverse=True)), passed_over)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, by name, but for what is hidden: `..data`, `.git`, what is half made."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to where this user may not look
        return False


class ModelFolders:
    """Where the models lie: as a model config file says, or else one folder each under the root.

    Without a file the two newest versions of a model are served, and there are no labels. What is passed over
    is logged once.
    """

    def __init__(self, root: Path, config: ModelConfigFile | None = None) -> None:
        self.root = root
        self.config = config
        self._names: list[str] = []  # at the last look
        self._told: dict[Path, Mapping[str, str]] = {}

    def names(self) -> list[str]:
        """Return the configured models, or every folder of the root that holds a version.

        Raises:
            BackendUnavailable: the root cannot be listed, or nothing is in it: more likely the storage has
                gone than that somebody took every model away.
        """
        if self.config is not None:
            return sorted(self.config.entries())
        try:
            if not _holds_anything(self.root):
                raise errors.BackendUnavailable(f"nothing is in the model root {self.root}")
            entries = _listed(self.root)
        except OSError as error:
            raise errors.BackendUnavailable(f"model root {self.root}: {error.strerror}") from error
        faults = {e.name: self._why_not(e) for e in entries if not e.is_file(follow_symlinks=False)}
        self._tell(self.root, {name: why for name, why in faults.items() if why})
        self._names = [name for name, why in faults.items() if not why]
        for folder in self._told.keys() - {self.root, *(self.root / name for name in self._names)}:
            del self._told[folder]
        return list(self._names)

    def _why_not(self, entry: os.DirEntry[str]) -> str:
        """Return why something is no model, empty if it is one, or was one and cannot be looked at now."""
        if not entry.name.isprintable():  # nor are surrogates, which bytes that are not UTF-8 become
            return "its name has characters that cannot be shown"
        try:
            look = look_at(Path(entry.path))
        except OSError as error:
            return "" if entry.name in self._names else f"{error.strerror}"
        inside = (f"; {name!r}: {why}" for name, why in look.passed_over.items())
        return "" if look.versions else f"no version is in it{next(inside, '')}"

    def entry(self, model: str) -> ModelEntry:
        """Return a model's folder, policy and labels; one that is not configured may lie under the root."""
        configured = self.config.entries() if self.config is not None else {}
        return configured.get(model) or ModelEntry(model, self.root / model)

    def versions(self, model: str) -> Mapping[int, Path]:
        """Return the version directories of a model by number, newest first; none where it is unknown.

        Raises:
            BackendUnavailable: its folder cannot be looked at.
        """
        if self.config is not None and model not in self.config.entries():
            return {}
        folder = self.entry(model).folder
        try:
            look = look_at(folder)
        except OSError as error:
            if _is_gone(folder):
                return {}
            raise errors.BackendUnavailable(f"{folder}: {error.strerror}") from error
        self._tell(folder, look.passed_over)
        return look.versions

    def _tell(self, folder: Path, passed_over: Mapping[str, str]) -> None:
        """Log what is passed over in a folder and was not at the last look, or for another reason."""
        before = self._told.get(folder, {})
        new = [f"{name!r}: {why}" for name, why in passed_over.items() if before.get(name) != why]
        if new:
            more = f"; and {len(new) - MOST_TOLD} more" if len(new) > MOST_TOLD else ""
            log.warning("in %s is passed over: %s%s", folder, "; ".join(new[:MOST_TOLD]), more)
        self._told[folder] = passed_over


def _holds_anything(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entries)


def _is_gone(folder: Path) -> bool:
    """Return whether a model's folder was taken away, and not what it lay in."""
    try:
        return _holds_anything(folder.parent) and not os.path.lexists(folder)
    except OSError:
        return False


def stamp_of(folder: Path) -> bytes:
    """Return a value that changes when a file of the version does: path, size, time, and who may read it.

    Raises:
        OSError: something in it cannot be looked at.
        FileChanged: folders lie too deep in it.
    """
    digest = hashlib.blake2b()
    for entry in version_files(folder):
        status = entry.stat(follow_symlinks=entry.is_file())  # a link that leads nowhere is a file too
        mode = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        digest.update(os.fsencode(f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\0{mode}\0"))
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Look:
    """What a version was like, and until when that is taken to be so if its signs are the same."""

    stamp: bytes
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

    def of(self, folder: Path) -> bytes:
        """Return the stamp of a version; raises OSError where it is not there, and as `stamp_of`."""
        folder.stat()
        begun, known, signs = self._clock(), self._looks.get(folder), _signs(folder)
        if known is not None and known.signs == signs and begun < known.until:
            return known.stamp
        stamp = stamp_of(folder)
        ended = self._clock()
        self._looks[folder] = _Look(stamp, signs, ended + REST * (ended - begun))
        return stamp

    def forget_gone(self) -> None:
        """Forget the versions that are there no more."""
        for folder in list(self._looks):  # other threads look meanwhile
            if not os.path.exists(folder):
                self._looks.pop(folder, None)


def _signs(folder: Path) -> Hashable:
    """Return what most changes of a version show in, at the cost of three looks."""
    signs = []
    for path in (folder, folder / "assets" / FILE_NAME, folder / GRAPH):
        try:
            status = path.stat()
            signs.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            signs.append((0, 0, 0))
    return tuple(signs)
