"""The backend suite: what every backend promises. Each runs it; here is the embedded one."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from service import errors
from service.backend.base import Backend, Spec, State
from service.backend.embedded import EmbeddedBackend
from service.contract.manifest import FILE_NAME, dump_manifest, parse_manifest

SERVING = "serving_default"


@pytest.fixture
def models(root: Path, tmp_path: Path) -> Path:
    """A root of this test's own: `shop` version 1."""
    shutil.copytree(root / "shop" / "1", tmp_path / "shop" / "1")
    return tmp_path


@pytest.fixture(params=["embedded"])
async def backend(request: pytest.FixtureRequest, models: Path) -> AsyncIterator[Backend]:
    """Each backend over the same root."""
    made = {"embedded": lambda: EmbeddedBackend(models)}[request.param]()
    yield made
    await made.close()


def batch(*lengths: int) -> dict[str, np.ndarray]:
    """Rows of `shop`, padded on the right."""
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]
    events = np.where(real, 1 + np.arange(max(lengths)) % 3, 0).astype(np.int32)
    return {"event": events, "minutes": np.where(real, 0.5, 0).astype(np.float32)}


def soon(seconds: float = 20.0) -> float:
    """An absolute deadline."""
    return asyncio.get_running_loop().time() + seconds


async def states(backend: Backend) -> dict[int, State]:
    """The versions of `shop`."""
    return {state.version: state.state for state in await backend.versions("shop")}


async def test_it_lists_what_there_is(backend: Backend) -> None:
    """Models are named, versions available, an unknown model has none."""
    assert await backend.models() == ["shop"]
    assert await states(backend) == {1: State.AVAILABLE}
    assert await backend.versions("nope") == []


async def test_a_row_is_the_same_alone_and_in_a_batch(backend: Backend) -> None:
    """Outputs come back by name, one row for each that was sent, whoever sits beside."""
    await backend.versions("shop")
    spec = Spec("shop", 1, SERVING)
    together = await backend.predict(spec, batch(3, 7, 1), soon())
    assert {name: value.shape for name, value in together.items()} == {
        "next_event": (3, 9),
        "minutes_to_next": (3,),
        "minutes_to_end": (3,),
    }
    alone = await backend.predict(spec, batch(3), soon())
    for name, value in alone.items():
        np.testing.assert_allclose(together[name][0], value[0], rtol=1e-5, atol=1e-5)


async def test_the_contract_comes_from_the_version_itself(backend: Backend, models: Path) -> None:
    """The manifest signature gives the bytes that lie in its assets."""
    await backend.versions("shop")
    files = await backend.manifest("shop", 1)
    assert files == {FILE_NAME: (models / "shop/1/assets" / FILE_NAME).read_bytes()}


@pytest.mark.parametrize(
    ("spec", "inputs", "error"),
    [
        (Spec("nope", 1, SERVING), batch(2), errors.VersionNotFound),
        (Spec("shop", 9, SERVING), batch(2), errors.VersionNotFound),
        (Spec("shop", 1, "zzz"), batch(2), errors.BackendFailed),
        (Spec("shop", 1, SERVING), {"event": batch(2)["event"]}, errors.BackendFailed),
        (Spec("shop", 1, SERVING), {**batch(2), "more": np.zeros(1)}, errors.BackendFailed),
        (
            Spec("shop", 1, SERVING),
            {**batch(2), "event": np.full((1, 2), 99, np.int32)},
            errors.BackendFailed,
        ),
        (
            Spec("shop", 1, SERVING),
            {**batch(2), "minutes": np.zeros((1, 5), np.float32)},
            errors.BackendFailed,
        ),
    ],
)
async def test_mistakes_are_ours_and_name_no_node(
    backend: Backend, spec: Spec, inputs: dict[str, Any], error: type[errors.SeqserveError]
) -> None:
    """Every fault of a call is one of our errors; what TensorFlow says of its graph stays in the log."""
    await backend.versions("shop")
    with pytest.raises(error) as caught:
        await backend.predict(spec, inputs, soon())
    assert "{{node" not in caught.value.message
    assert "StatefulPartitionedCall" not in caught.value.message
    assert (await backend.predict(Spec("shop", 1, SERVING), batch(2), soon()))["next_event"].shape == (1, 9)


async def test_a_deadline_that_has_passed_runs_nothing(backend: Backend) -> None:
    """The call ends with DEADLINE_EXCEEDED."""
    await backend.versions("shop")
    with pytest.raises(errors.DeadlineExceeded):
        await backend.predict(Spec("shop", 1, SERVING), batch(2), soon(-1))


async def test_versions_come_and_go(backend: Backend, models: Path) -> None:
    """A new directory is loaded, the two newest are kept, one that is removed is unloaded."""
    await backend.versions("shop")
    for number in ("2", "3"):
        shutil.copytree(models / "shop" / "1", models / "shop" / number)
    assert await states(backend) == {3: State.AVAILABLE, 2: State.AVAILABLE}
    with pytest.raises(errors.VersionNotFound):
        await backend.predict(Spec("shop", 1, SERVING), batch(2), soon())
    shutil.rmtree(models / "shop" / "3")
    assert await states(backend) == {2: State.AVAILABLE, 1: State.AVAILABLE}


async def test_a_version_unloaded_under_a_running_call_ends_it_well(backend: Backend, models: Path) -> None:
    """A call under way is answered; one that comes later is VERSION_NOT_FOUND."""
    await backend.versions("shop")
    calls = [
        asyncio.ensure_future(backend.predict(Spec("shop", 1, SERVING), batch(9), soon())) for _ in range(20)
    ]
    await asyncio.sleep(0)
    shutil.rmtree(models / "shop" / "1")
    await backend.versions("shop")
    assert all("next_event" in outputs for outputs in await asyncio.gather(*calls))
    with pytest.raises(errors.VersionNotFound):
        await backend.predict(Spec("shop", 1, SERVING), batch(9), soon())


def flip(version: Path) -> None:
    """Change one byte of the graph."""
    data = bytearray((version / "saved_model.pb").read_bytes())
    data[len(data) // 2] ^= 1
    (version / "saved_model.pb").write_bytes(data)


def hide(version: Path) -> None:
    """Take the manifest away."""
    (version / "assets" / FILE_NAME).unlink()


def unload(version: Path) -> None:
    """Break the graph and make the digests match, so that only loading can tell."""
    (version / "saved_model.pb").write_bytes(b"\x0a\x00")
    from service.contract.digest import file_hashes

    path = version / "assets" / FILE_NAME
    manifest = parse_manifest(path.read_bytes())
    path.write_bytes(dump_manifest(manifest.model_copy(update={"files": file_hashes(version)})))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(flip, "FILE_CHANGED"), (hide, "MANIFEST_MISSING"), (unload, "BACKEND_FAILED")],
)
async def test_a_damaged_version_fails_and_is_tried_again_once_it_changes(
    models: Path, root: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """It is FAILED with its reason, its neighbour serves on, and mended files are looked at anew."""
    shutil.copytree(models / "shop" / "1", models / "shop" / "2")
    damage(models / "shop" / "2")
    backend = EmbeddedBackend(models)
    newest, older = await backend.versions("shop")
    assert (newest.version, newest.state, older.state) == (2, State.FAILED, State.AVAILABLE)
    assert newest.error is not None
    assert newest.error.reason == reason
    shutil.rmtree(models / "shop" / "2")
    shutil.copytree(root / "shop" / "1", models / "shop" / "2")
    assert await states(backend) == {2: State.AVAILABLE, 1: State.AVAILABLE}
    await backend.close()


async def test_a_run_is_stopped_at_its_deadline(tmp_path: Path) -> None:
    """An endless graph ends with DEADLINE_EXCEEDED, and the thread that ran it is free again."""

    class Endless(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.while_loop(lambda y: tf.reduce_all(y > -1), lambda y: (y + 1 - 1,), (x,))[0]}

    module = Endless()
    tf.saved_model.save(module, str(tmp_path / "endless" / "1"), {SERVING: module.call})
    backend = EmbeddedBackend(tmp_path, threads=1, check_files=False)
    await backend.versions("endless")
    for _ in range(2):
        with pytest.raises(errors.DeadlineExceeded):
            await backend.predict(Spec("endless", 1, SERVING), {"x": np.ones(1, np.float32)}, soon(0.2))
    await backend.close()
