"""SavedModels run in this process, from the same directories that TensorFlow Serving reads.

Loads as TensorFlow Serving does, by graph and Session, so that what loads, fails and is refused here
is what does there. TensorFlow is imported on first use, and nowhere else in the gateway.
"""

import asyncio
import logging
import os
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors, VersionState
from seqserve.service.backend.model_config import ModelConfigFile, ModelEntry
from seqserve.service.contract.digest import check_digests, digest_of
from seqserve.service.contract.manifest import FILE_NAME, MANIFEST_SIGNATURE
from seqserve.service.contract.padding import Array

log = logging.getLogger(__name__)
MANIFEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory: a session, and each signature's tensor names."""

    session: Any
    digest: str
    signatures: dict[str, tuple[dict[str, str], dict[str, str]]]  # inputs and outputs: name to tensor name
    stamp: Hashable


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    tensorflow.get_logger().setLevel("ERROR")  # else it advises against the loader that we need
    return tensorflow


class EmbeddedBackend:
    """Serves ROOT/MODEL/VERSION directories; looks at them anew at each call of `versions`.

    Args:
        config: names models, folders, policies and labels; without it every folder of the root is a model,
            its two newest versions are kept, and there are no labels.
    """

    def __init__(
        self, root: Path, threads: int = 2, check_files: bool = True, config: ModelConfigFile | None = None
    ) -> None:
        self._root = root
        self._config = config
        self._threads = threads
        self._check_files = check_files
        self._pool = ThreadPoolExecutor(threads, "embedded")
        self._loaded: dict[tuple[str, int], Loaded] = {}
        self._failed: dict[tuple[str, int], tuple[Hashable, errors.SeqserveError]] = {}

    @property
    def slots(self) -> int:
        """A batch for each thread."""
        return self._threads

    async def models(self) -> list[str]:
        """Return the configured models, or every folder of the root that holds a numbered folder."""
        if self._config is not None:
            return sorted(self._config.entries())
        if not self._root.is_dir():
            return []
        folders = (path for path in self._root.iterdir() if path.is_dir() and path.name[0] != ".")
        return sorted(path.name for path in folders if _numbers(path))

    async def versions(self, model: str) -> list[VersionState]:
        """Load what is new, unload what is gone, and return the newest versions' states."""
        entry = self._entry(model)
        numbers = await asyncio.to_thread(_numbers, entry.folder)
        kept = entry.kept(numbers)
        states = [await self._state(entry, version) for version in kept]
        if kept and not any(state.state is State.AVAILABLE for state in states):
            # as TensorFlow Serving does: the last good version stays until another is there
            older = (n for n in numbers if n not in kept and (model, n) in self._loaded)
            last_good = next(older, None)
            if last_good is not None:
                kept = [*kept, last_good]
                states.append(await self._state(entry, last_good))
        for gone in [key for key in (*self._loaded, *self._failed) if key[0] == model and key[1] not in kept]:
            self._unload(gone)
        return states

    async def label(self, model: str, label: str) -> int:
        """Return the version that the model config file gives a label to."""
        labels = self._entry(model).labels
        if label not in labels:
            raise errors.LabelNotFound(f"model {model!r} has no label {label[:60]!r}")
        return labels[label]

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        """Return the contract files, as the version's own signature gives them."""
        loaded = self._get(model, version)
        if MANIFEST_SIGNATURE not in loaded.signatures:
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
        if spec.signature not in loaded.signatures:
            raise errors.BackendFailed(f"{spec.model} version {spec.version} has no {spec.signature!r}")
        loop = asyncio.get_running_loop()
        left = deadline - loop.time()
        if left <= 0:
            raise errors.DeadlineExceeded("the deadline passed before the batch was run")
        return await loop.run_in_executor(self._pool, _run, loaded, spec, inputs, left)

    async def close(self) -> None:
        """Wait for the runs under way, then let go of every session."""
        await asyncio.to_thread(self._pool.shutdown)
        self._loaded.clear()

    def _get(self, model: str, version: int) -> Loaded:
        loaded = self._loaded.get((model, version))
        if loaded is None:
            raise errors.VersionNotFound(f"model {model!r} has no version {version}")
        return loaded

    def _entry(self, model: str) -> ModelEntry:
        configured = self._config.entries() if self._config is not None else {}
        return configured.get(model) or ModelEntry(model, self._root / model)

    async def _state(self, entry: ModelEntry, version: int) -> VersionState:
        key, folder = (entry.name, version), entry.folder / str(version)
        stamp = await asyncio.to_thread(_stamp, folder)
        if key in self._loaded and self._loaded[key].stamp != stamp:
            self._unload(key)
        if key not in self._loaded and self._failed.get(key, (None,))[0] != stamp:
            await self._load(key, folder, stamp)
        if key in self._loaded:
            return VersionState(version, State.AVAILABLE, stamp=stamp)
        return VersionState(version, State.FAILED, self._failed[key][1], stamp)

    async def _load(self, key: tuple[str, int], folder: Path, stamp: Hashable) -> None:
        try:
            self._loaded[key] = await asyncio.to_thread(_load, folder, stamp, self._check_files)
            self._failed.pop(key, None)
        except errors.SeqserveError as error:
            log.warning("cannot load %s version %d: %s", *key, error.message)
            self._failed[key] = (stamp, error)
        except ImportError:
            told = 'TensorFlow is not installed here: pip install "seqserve[embedded]"'
            self._failed[key] = (stamp, errors.BackendFailed(told))
        except Exception:
            log.exception("loading %s version %d failed unexpectedly", *key)
            self._failed[key] = (stamp, errors.BackendFailed("the version's files cannot be read"))

    def _unload(self, key: tuple[str, int]) -> None:
        """Forget a version. Its session ends with the last run that holds it: closing would cancel them."""
        self._failed.pop(key, None)
        self._loaded.pop(key, None)


def _numbers(folder: Path) -> list[int]:
    """Return the version numbers in a model's folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()), reverse=True)


def _stamp(folder: Path) -> Hashable:
    """Return what changes when a file of the version does."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(p.relative_to(folder)), s.st_size, s.st_mtime_ns) for p in files for s in [p.stat()])


def _load(folder: Path, stamp: Hashable, check_files: bool) -> Loaded:
    if check_files:
        check_digests(folder)
    tf = _tensorflow()
    session = tf.compat.v1.Session(graph=tf.Graph())
    try:
        with session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
        session.close()
        log.warning("loading %s", folder, exc_info=True)
        raise errors.BackendFailed(f"{folder.name}: the SavedModel cannot be loaded") from error
    signatures = {
        key: ({k: v.name for k, v in s.inputs.items()}, {k: v.name for k, v in s.outputs.items()})
        for key, s in meta.signature_def.items()
    }
    path = folder / "assets" / FILE_NAME
    digest = digest_of(path.read_bytes()) if path.exists() else ""
    return Loaded(session, digest, signatures, stamp)


def _run(loaded: Loaded, spec: Spec, inputs: Tensors, seconds: float) -> dict[str, Array]:
    tf = _tensorflow()
    feeds, fetches = loaded.signatures[spec.signature]
    if set(inputs) != set(feeds):
        raise errors.BackendFailed(f"{spec.signature!r} takes {sorted(feeds)}, not {sorted(inputs)}")
    options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(seconds * 1000)))
    try:
        outputs = loaded.session.run(fetches, {feeds[k]: v for k, v in inputs.items()}, options=options)
    except Exception as error:
        raise _translated(tf, error, spec) from error
    return {name: np.asarray(value) for name, value in outputs.items()}


def _translated(tf: Any, error: Exception, spec: Spec) -> errors.SeqserveError:
    """Return ours for TensorFlow's, without its message: that names nodes of the graph."""
    where = f"{spec.model} version {spec.version}"
    if isinstance(error, tf.errors.DeadlineExceededError):
        return errors.DeadlineExceeded(f"{where} did not answer in time")
    if isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)):
        return errors.BackendUnavailable(f"{where} has no room to compute", retry_after=1.0)
    log.warning("%s failed", where, exc_info=error)
    return errors.BackendFailed(f"{where} failed on this input")
