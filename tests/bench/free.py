"""The service over a backend that costs nothing: what is left is the gateway's own work.

`python -m tests.bench.free serve …` is `seqserve serve …` but for that. Each text is answered by itself,
with attention along the diagonal; heads are answered by zeros. A batch whose callers give it more than HELD
seconds keeps its slot until its deadline, so that what comes after it waits.
"""

import asyncio
from pathlib import Path

import numpy as np

from seqserve.service import errors
from seqserve.service.backend.base import Backend, Spec, State, Tensors, VersionState
from seqserve.service.contract.manifest import FILE_NAME, Manifest, Numeric, Softmax
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.contract.padding import Array
from seqserve.service.core.types import Served
from seqserve.service.settings import Settings

HELD = 100.0
"""More than an example, and than a caller without a timeout of its own, gives a batch."""
ZERO, EYE = np.zeros(2**16, np.float32), np.eye(256, dtype=np.float32)
ONE, PLACES = np.float32(1), np.arange(256, dtype=np.int32)


class Free:
    """A backend with one slot, whose models are those under a root."""

    slots = 1
    is_reachable = True
    has_named_models = False

    def __init__(self, root: Path) -> None:
        self._folders = {version.parent.name: version for version in root.glob("*/*")}
        self._manifests: dict[str, Manifest] = {}

    async def models(self) -> list[str]:
        return list(self._folders)

    async def versions(self, model: str) -> list[VersionState]:
        return [VersionState(int(self._folders[model].name), State.AVAILABLE)]

    async def label(self, model: str, label: str) -> int:
        raise errors.LabelNotFound(f"no label {label}")

    async def manifest(self, model: str, version: int) -> dict[str, bytes]:
        assets = self._folders[model] / "assets"
        files = {str(path.relative_to(assets)): path.read_bytes() for path in assets.iterdir()}
        self._manifests[model] = parse_manifest(files[FILE_NAME])
        return files

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        left = deadline - asyncio.get_running_loop().time()
        if left > HELD:
            await asyncio.sleep(left)
        manifest = self._manifests[spec.model]
        if manifest.decode is not None:
            return _echo(next(iter(inputs.values())))
        rows, outputs = len(next(iter(inputs.values()))), manifest.signatures[spec.signature].outputs
        widths = {name: _width(head) for name, head in manifest.heads.items()}
        return {
            name: ZERO[: rows * widths[name]].reshape(rows, *[-1] * (len(tensor.axes) - 1))
            for name, tensor in outputs.items()
        }

    async def close(self) -> None:
        pass


def _echo(ids: Array) -> dict[str, Array]:
    rows, length = ids.shape
    lengths = np.count_nonzero(ids, axis=1).astype(np.int32)[:, None]
    return {
        "ids": ids[:, None],
        "lengths": lengths,
        "scores": ZERO[:rows, None],
        "coverage": np.broadcast_to(ONE, (rows, 1, length)),
        "attended": np.broadcast_to(PLACES[:length], (rows, 1, length)),
        "attention": np.broadcast_to(EYE[:length, :length], (rows, 1, length, length)),
    }


def _width(head: object) -> int:
    assert isinstance(head, Softmax | Numeric)
    return len(head.labels) if isinstance(head, Softmax) else len(head.mean)


async def _examined(served: Served, *_: object) -> None:
    """Run no example: its answer is another one here."""


if __name__ == "__main__":
    from seqserve.service import main
    from seqserve.service.cli import app
    from seqserve.service.core import examine

    def make_backend(settings: Settings, *_: object) -> Backend:
        """Return the models of the settings' root, for nothing."""
        assert settings.root is not None
        return Free(settings.root)

    main.make_backend = make_backend
    examine.run_examples = _examined
    app()
