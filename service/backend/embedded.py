"""SavedModels run in this process, from the same directories that TensorFlow Serving reads.

What there is comes from `folders`, what runs it from `session`; here versions are loaded and unloaded.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import ParamSpec, TypeVar

from seqserve.service import errors
from seqserve.service.backend import session
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.backend.folders import ModelFolders, Stamps
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.backend.short_runs import MOST_SECONDS, ShortRuns
from seqserve.service.backend.threads import Threads
from seqserve.service.contract.digest import check_digests, check_sizes, digest_of, read_manifest
from seqserve.service.contract.manifest import MANIFEST_SIGNATURE
from seqserve.service.contract.padding import Array

log = logging.getLogger(__name__)
MANIFEST_SECONDS = 30.0
FILE_THREADS = 64
"""Models whose files are looked at at once: a large one, or slow storage, is not waited for by the others."""
P = ParamSpec("P")
Result = TypeVar("Result")
Outputs = dict[str, Array]
Key = tuple[str, int]
"""A model's name and a version's number."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory: what its directory was like at the last look (`stamp`), and when it was loaded."""

    model: session.SavedModel
    digest: str
    stamp: bytes | str
    content: bytes | str
    short: ShortRuns = field(default_factory=ShortRuns)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a version could not be loaded, and what its directory was like then."""

    error: errors.SeqserveError
    stamp: bytes | str


class EmbeddedBackend:
    """Serves ROOT/MODEL/VERSION directories; looks at them anew at each call of `versions`.

    Args:
        config: names models, folders, policies and labels; without it every folder of the root is a model,
            its two newest versions are kept, and there are no labels.
    """

    def __init__(
        self,
        root: Path,
        threads: int = 2,
        check_files: bool = True,
        config: ModelConfigFile | None = None,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._folders = ModelFolders(root, config)
        self._threads = threads
        self._check_files = check_files
        self._runs = Threads(threads, "embedded")
        self._files = ThreadPoolExecutor(FILE_THREADS, "files")
        self._ends = threading.Event()
        self._versions: dict[Key, Loaded | Failed] = {}
        self._stamps = Stamps()
        self._clock = clock
        self._under_way = 0  # runs in threads that somebody waits for

    @property
    def slots(self) -> int:
        """A batch for each thread."""
        return self._threads

    @property
    def is_reachable(self) -> bool:
        """True: it is this process."""
        return True

    @property
    def has_named_models(self) -> bool:
        """Whether there is a config file."""
        return self._folders.config is not None

    async def models(self) -> list[str]:
        """Return the names of the models that the directories or the config file give; unload all others."""
        names = await self._on_files(self._folders.names)
        await self._forget([key for key in self._versions if key[0] not in names])
        return names

    async def versions(self, model: str) -> list[VersionState]:
        """Load what is new, unload what is gone, and return the states of the versions that are kept."""
        folders = await self._on_files(self._folders.versions, model)
        entry = await self._on_files(self._folders.entry, model)
        kept = entry.kept(list(folders))
        states = [await self._state((model, version), folders[version]) for version in kept]
        for number in (number for number in folders if kept and number not in kept):
            if any(state.state is State.AVAILABLE for state in states):
                break
            # the last good version stays until another is there, as in TensorFlow Serving, and over a restart
            if entry.specific is None or isinstance(self._versions.get((model, number)), Loaded):
                states.append(await self._state((model, number), folders[number]))
        listed = {state.version for state in states}
        await self._forget([key for key in self._versions if key[0] == model and key[1] not in listed])
        return states

    async def label(self, model: str, label: str) -> int:
        """Return the version that the model config file gives a label to."""
        labels = (await self._on_files(self._folders.entry, model)).labels
        if label not in labels:
            raise errors.LabelNotFound(f"model {model!r} has no label {label[:60]!r}")
        if (model, labels[label]) not in self._versions:
            where = f"label {label!r} of model {model!r}"
            raise errors.VersionNotFound(f"{where} points to version {labels[label]}, which is not loaded")
        return labels[label]

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files, as the version's own signature gives them."""
        loaded = self._get(model, version)
        if MANIFEST_SIGNATURE not in loaded.model.signatures:
            raise errors.ManifestMissing(f"{model} version {version} has no signature {MANIFEST_SIGNATURE!r}")
        spec = Spec(model, version, MANIFEST_SIGNATURE, loaded.digest)
        deadline = asyncio.get_running_loop().time() + MANIFEST_SECONDS
        outputs = await self.predict(spec, {}, deadline)
        return {n.decode(): c for n, c in zip(outputs["names"], outputs["contents"], strict=True)}

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> Outputs:
        """Run one batch: here if it is alone and short, else in a thread; TensorFlow ends it in time."""
        loaded = self._get(spec.model, spec.version)
        if loaded.digest != spec.digest:
            raise errors.VersionNotFound(f"{spec.model} version {spec.version} is another one by now")
        if spec.signature not in loaded.model.signatures:
            raise errors.BackendFailed(f"{spec.model} version {spec.version} has no {spec.signature!r}")
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise errors.DeadlineExceeded("the deadline passed before the batch was run")
        began = self._clock()
        if not self._under_way and loaded.short.expects(spec.signature, inputs):
            try:
                return loaded.model.run(spec, inputs, min(left, MOST_SECONDS))
            except errors.DeadlineExceeded:
                left -= self._clock() - began
                if left <= 0:
                    raise
            finally:
                loaded.short.observe(spec.signature, inputs, self._clock() - began)
        return await self._in_thread(loaded, spec, inputs, left)

    async def _in_thread(self, loaded: Loaded, spec: Spec, inputs: Tensors, seconds: float) -> Outputs:
        began = self._clock()
        self._under_way += 1
        try:
            outputs: Outputs = await self._runs.run(loaded.model.run, spec, inputs, seconds)
        finally:
            self._under_way -= 1
        loaded.short.observe(spec.signature, inputs, self._clock() - began)
        return outputs

    async def close(self) -> None:
        """Wait for the runs under way, then let go of every session."""
        self._ends.set()
        self._files.shutdown(wait=False, cancel_futures=True)
        await self._runs.close()
        self._versions.clear()

    def _get(self, model: str, version: int) -> Loaded:
        loaded = self._versions.get((model, version))
        if not isinstance(loaded, Loaded):
            raise errors.VersionNotFound(f"model {model!r} has no version {version}")
        return loaded

    async def _forget(self, gone: list[Key]) -> None:
        for key in gone:
            del self._versions[key]
        if gone:
            await self._on_files(self._stamps.forget_gone)

    async def _state(self, key: Key, folder: Path) -> VersionState:
        known = self._versions.get(key)
        stamp = await self._on_files(self._stamp, folder)
        if known is None or known.stamp != stamp:
            known = self._versions[key] = await self._renewed(key, folder, stamp, known)
        if isinstance(known, Failed):
            return VersionState(key[1], State.FAILED, known.error, known.error.message)
        return VersionState(key[1], State.AVAILABLE, stamp=known.content)

    def _stamp(self, folder: Path) -> bytes | str:
        """Return a version's stamp; of one that cannot be looked at, why."""
        try:
            return self._stamps.of(folder)
        except OSError as error:
            return f"{_within(folder, error.filename)}: {error.strerror}"
        except errors.FileChanged as error:
            return f"{folder.name}: {error.message}"

    async def _renewed(
        self, key: Key, folder: Path, stamp: bytes | str, known: Loaded | Failed | None
    ) -> Loaded | Failed:
        """Return a version whose files have changed, as it is now; in memory it outlasts hidden files."""
        old = known if isinstance(known, Loaded) else None
        if old is not None and isinstance(stamp, str):
            log.warning("%s version %d stays as it was loaded: %s", *key, stamp)
            return replace(old, stamp=stamp)
        try:
            return await self._load(folder, stamp, old)
        except errors.SeqserveError as error:
            fault = error
        except OSError as error:
            fault = errors.BackendFailed(f"{_within(folder, error.filename)}: {error.strerror}")
        except Exception:
            log.exception("loading %s version %d failed unexpectedly", *key)
            fault = errors.BackendFailed("the version's files cannot be read")
        if old is not None and await self._on_files(self._stamp, folder) != stamp:
            return old  # its files are on the move: the next look sees what becomes of them
        return Failed(fault, stamp)

    async def _load(self, folder: Path, stamp: bytes | str, old: Loaded | None) -> Loaded:
        """Load a version; the old one stays where its files have changed in nothing but their looks."""
        if self._check_files:
            digest = await self._on_files(check_digests, folder, self._ends)
            if old is not None and old.digest == digest:
                return replace(old, stamp=stamp)
        else:
            await self._on_files(check_sizes, folder)
            digest = await self._on_files(_digest, folder)
        return Loaded(await asyncio.to_thread(session.load, folder), digest, stamp, stamp)

    async def _on_files(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run what looks at files in a thread of its own: none is touched on the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._files, partial(function, *args, **kwargs))


def _digest(folder: Path) -> str:
    """Return a version's digest; empty where it has no manifest."""
    try:
        return digest_of(read_manifest(folder))
    except errors.ManifestMissing:
        return ""


def _within(folder: Path, path: object) -> str:
    """Return where in a version a path lies."""
    return os.path.relpath(str(path), folder.parent) if path else folder.name
