"""SavedModels run in this process, from the same directories that TensorFlow Serving reads.

What there is comes from `folders`, what runs it from `session`; here versions are loaded and unloaded.
"""

import asyncio
import logging
import os
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from seqserve.service import errors
from seqserve.service.backend import session
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.backend.folders import ModelFolders, Stamps, version_folders
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.contract.digest import check_assets, check_digests, digest_of, read_manifest
from seqserve.service.contract.manifest import FILE_NAME, MANIFEST_SIGNATURE
from seqserve.service.contract.padding import Array

log = logging.getLogger(__name__)
MANIFEST_SECONDS = 30.0
Key = tuple[str, int]
"""A model's name and a version's number."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory, and what its directory was like when it was loaded."""

    model: session.SavedModel
    digest: str
    stamp: Hashable


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a version could not be loaded, and what its directory was like then."""

    error: errors.SeqserveError
    stamp: Hashable


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EmbeddedBackend:
    """Serves ROOT/MODEL/VERSION directories; looks at them anew at each call of `versions`.

    Args:
        config: names models, folders, policies and labels; without it every folder of the root is a model,
            its two newest versions are kept, and there are no labels.
    """

    def __init__(
        self, root: Path, threads: int = 2, check_files: bool = True, config: ModelConfigFile | None = None
    ) -> None:
        self._folders = ModelFolders(root, config)
        self._threads = threads
        self._check_files = check_files
        self._pool = ThreadPoolExecutor(threads, "embedded")
        self._versions: dict[Key, Loaded | Failed] = {}
        self._stamps = Stamps()

    @property
    def slots(self) -> int:
        """A batch for each thread."""
        return self._threads

    @property
    def is_reachable(self) -> bool:
        """True: it is this process."""
        return True

    async def models(self) -> list[str]:
        """Return the names of the models that the directories or the config file give."""
        return self._folders.names()

    async def versions(self, model: str) -> list[VersionState]:
        """Load what is new, unload what is gone, and return the states of the versions that are kept."""
        entry = self._folders.entry(model)
        folders = await asyncio.to_thread(version_folders, entry.folder)
        kept = entry.kept(list(folders))
        states = [await self._state((model, version), folders[version]) for version in kept]
        if kept and not any(state.state is State.AVAILABLE for state in states):
            # as TensorFlow Serving does: the last good version stays until another is there
            older = (number for number in folders if number not in kept)
            last_good = next((n for n in older if isinstance(self._versions.get((model, n)), Loaded)), None)
            if last_good is not None:
                kept = [*kept, last_good]
                states.append(await self._state((model, last_good), folders[last_good]))
        for gone in [key for key in self._versions if key[0] == model and key[1] not in kept]:
            del self._versions[gone]
            self._stamps.forget_gone()
        return states

    async def label(self, model: str, label: str) -> int:
        """Return the version that the model config file gives a label to."""
        labels = self._folders.entry(model).labels
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

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Run one batch in a thread; TensorFlow itself stops it at the deadline."""
        loaded = self._get(spec.model, spec.version)
        if loaded.digest != spec.digest:
            raise errors.VersionNotFound(f"{spec.model} version {spec.version} is another one by now")
        if spec.signature not in loaded.model.signatures:
            raise errors.BackendFailed(f"{spec.model} version {spec.version} has no {spec.signature!r}")
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= 0:
            raise errors.DeadlineExceeded("the deadline passed before the batch was run")
        return await loop.run_in_executor(self._pool, loaded.model.run, spec, inputs, left)

    async def close(self) -> None:
        """Wait for the runs under way, then let go of every session."""
        await asyncio.to_thread(self._pool.shutdown)
        self._versions.clear()

    def _get(self, model: str, version: int) -> Loaded:
        loaded = self._versions.get((model, version))
        if not isinstance(loaded, Loaded):
            raise errors.VersionNotFound(f"model {model!r} has no version {version}")
        return loaded

    async def _state(self, key: Key, folder: Path) -> VersionState:
        stamp = await asyncio.to_thread(self._stamps.of, folder)
        known = self._versions.get(key)
        if known is None or known.stamp != stamp:
            self._versions.pop(key, None)  # not to be called while the new content is loaded
            known = self._versions[key] = await self._loaded(key, folder, stamp)
        if isinstance(known, Failed):
            return VersionState(key[1], State.FAILED, known.error, stamp)
        return VersionState(key[1], State.AVAILABLE, stamp=stamp)

    async def _loaded(self, key: Key, folder: Path, stamp: Hashable) -> Loaded | Failed:
        try:
            return await asyncio.to_thread(_load, folder, stamp, self._check_files)
        except errors.SeqserveError as error:
            log.warning("cannot load %s version %d: %s", *key, error.message)
            return Failed(error, stamp)
        except Exception:
            log.exception("loading %s version %d failed unexpectedly", *key)
            return Failed(errors.BackendFailed("the version's files cannot be read"), stamp)


def _load(folder: Path, stamp: Hashable, check_files: bool) -> Loaded:
    if check_files:
        check_digests(folder)
    check_assets(folder)
    has_manifest = (folder / "assets" / FILE_NAME).exists()
    digest = digest_of(read_manifest(folder)) if has_manifest else ""
    return Loaded(session.load(folder), digest, stamp)
