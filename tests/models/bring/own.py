"""Keras models of a user's own for the tests of their export: built, exported and called."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from seqserve.models.cli import export_own
from seqserve.service.contract.manifest import FILE_NAME, Manifest
from seqserve.service.contract.manifest_file import parse_manifest
from tests.doors import Both, Row, both_doors, predict
from tests.tfserving.reload import ModelServer

LABELS = ["a", "b", "c"]
HEAD = '[heads.label]\nkind = "softmax"\nlabels = ["a", "b", "c"]\nscores = "probabilities"\n'
NUMBERS = 'name = "own"\n[features.x]\nkind = "numbers"\ncolumns = ["u", "v"]\n'
IDS = 'name = "own"\n[features.event]\nkind = "categories"\nlabels = ["a", "b", "c"]\nfirst_id = 1\n'


def classifier(*body: Any, shape: tuple[int | None, ...] = (None, 2), dtype: str = "float32") -> keras.Model:
    """A Sequential with softmax applied, its weights far from zero."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *body, layers.Dense(3, activation="softmax")])
    model.set_weights([weight * 2 for weight in model.get_weights()])
    return model


def export(model: keras.Model, contract: str, folder: Path, **options: Any) -> Path:
    """Save the model and export it as the command does, for rows of up to 40 steps if any are allowed."""
    path, toml = folder / "own.keras", folder / "own.toml"
    model.save(path)
    any_length = all(len(entry.shape) > 1 and entry.shape[1] is None for entry in model.inputs)
    toml.write_text(
        f"buckets = [8, 40]\n{contract}" if any_length and "buckets" not in contract else contract
    )
    given = {"version": None, "imports": [], "allow_leak": False, **options}
    return export_own(path, toml, folder / "models", **given)


def manifest_of(version: Path) -> Manifest:
    """Read a version's manifest."""
    return parse_manifest((version / "assets" / FILE_NAME).read_bytes())


class Asked:
    """The service of the version that was asked last: it runs on, for loading costs more than any answer."""

    def __init__(self) -> None:
        self._of: tuple[Path, ModelServer | None] | None = None
        self._runner, self._kept = asyncio.Runner(), AsyncExitStack()
        self._both: Both

    def call(self, version: Path, row: Row, server: ModelServer | None) -> list[Any]:
        """Return what each door answers, and who answered."""
        if self._of != (version, server):
            self.let_go()
            self._both = self._runner.run(self._start(version, server))
            self._of = version, server
        return self._runner.run(self._call(row))

    def let_go(self) -> None:
        """End it."""
        self._of = None
        with self._runner:
            self._runner.run(self._kept.aclose())
        self._runner, self._kept = asyncio.Runner(), AsyncExitStack()

    async def _start(self, version: Path, server: ModelServer | None) -> Both:
        return await self._kept.enter_async_context(both_doors(version.parents[1], server))

    async def _call(self, row: Row) -> list[Any]:
        return [await self._both.by_rest(row), await self._both.by_grpc(row)]


ASKED = Asked()
"""Of this process; a fixture of each folder whose tests ask ends it with their module."""


def called(version: Path, row: Row, server: ModelServer | None = None) -> list[Any]:
    """Return what each door answers, and who answered, of a version whose root changes no more."""
    return ASKED.call(version, row, server)


def answers(version: Path, rows: list[dict[str, Any]], server: ModelServer | None = None) -> list[np.ndarray]:
    """Return the first head's probabilities, in the order of its labels, for all rows at once."""
    name, head = version.parent.name, next(iter(manifest_of(version).heads))
    labels = manifest_of(version).heads[head].labels
    doors = called(version, predict(sequences=rows, model=name, top_k=3), server)
    table = []
    for items in zip(*(answer["predictions"] for answer, _ in doors), strict=True):
        tops = [{e["label"]: e["probability"] for e in item["heads"][head]["top"]} for item in items]
        assert tops[0] == pytest.approx(tops[1], abs=1e-5)
        table.append(np.array([tops[0][label] for label in labels]))
    return table


def tables(*lengths: int) -> list[np.ndarray]:
    """Rows (steps, 2)."""
    random = np.random.default_rng(5)
    return [random.normal(size=(n, 2)).round(3).astype(np.float32) for n in lengths]
