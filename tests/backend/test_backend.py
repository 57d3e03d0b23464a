"""The backend suite: what every backend promises, `embedded` and `tfserving` with a model server."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.backend.base import Backend, Spec, State
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.backend.tfserving import TfServingBackend
from seqserve.service.contract.digest import digest_of
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import dump_manifest, parse_manifest
from seqserve.service.main import make_backend
from seqserve.service.metrics import Metrics
from seqserve.service.settings import Settings
from tests.tfserving.reload import ModelServer, config_file

SERVING = "serving_default"


@pytest.fixture
def models(root: Path, tmp_path: Path) -> Path:
    """A root of this test's own: `shop` version 1."""
    shutil.copytree(root / "shop" / "1", tmp_path / "shop" / "1")
    return tmp_path


@pytest.fixture(params=["embedded", "tfserving"])
async def backend(request: pytest.FixtureRequest, models: Path) -> AsyncIterator[Backend]:
    """Each backend over the same root."""
    made: Backend
    if request.param == "embedded":
        made = EmbeddedBackend(models)
    else:
        server: ModelServer = request.getfixturevalue("model_server")
        server.serve(config_file({"shop": models / "shop"}))
        made = TfServingBackend([server.address], lambda: ["shop"], Metrics(CollectorRegistry()))
    await made.models()
    yield made
    await made.close()


@pytest.fixture
def spec(models: Path) -> Callable[..., Spec]:
    """What is called, by the digest of the version that the root has."""
    digest = digest_of((models / "shop/1/assets" / FILE_NAME).read_bytes())

    def make(model: str = "shop", version: int = 1, signature: str = SERVING) -> Spec:
        return Spec(model, version, signature, digest)

    return make


def put(models: Path, number: str) -> None:
    """Publish version 1 under another number, whole."""
    shutil.copytree(models / "shop" / "1", models / f"{number}.aside")
    (models / f"{number}.aside").rename(models / "shop" / number)


async def become(backend: Backend, wanted: dict[int, State]) -> None:
    """Look until the versions are in these states: a model server follows the disk in its own time."""
    async with asyncio.timeout(20):
        while await states(backend) != wanted:
            pass


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


async def test_a_row_is_the_same_alone_and_in_a_batch(backend: Backend, spec: Callable[..., Spec]) -> None:
    """Outputs come back by name, one row for each that was sent, whoever sits beside."""
    await backend.versions("shop")
    together = await backend.predict(spec(), batch(3, 7, 1), soon())
    assert {name: value.shape for name, value in together.items()} == {
        "next_event": (3, 9),
        "minutes_to_next": (3,),
        "minutes_to_end": (3,),
    }
    alone = await backend.predict(spec(), batch(3), soon())
    for name, value in alone.items():
        np.testing.assert_allclose(together[name][0], value[0], rtol=1e-5, atol=1e-5)


async def test_the_contract_comes_from_the_version_itself(backend: Backend, models: Path) -> None:
    """The manifest signature gives the bytes that lie in its assets."""
    await backend.versions("shop")
    files = await backend.manifest("shop", 1)
    assert files == {FILE_NAME: (models / "shop/1/assets" / FILE_NAME).read_bytes()}


async def test_event_by_event_equals_the_whole_sequence(
    backend: Backend, models: Path, spec: Callable[..., Spec]
) -> None:
    """`step`, from a state of zeros, gives after each event what the sequence so far gives at once."""
    await backend.versions("shop")
    manifest = parse_manifest((models / "shop/1/assets" / FILE_NAME).read_bytes())
    shapes = manifest.signatures["step"].state
    assert shapes == {"hidden": (12,), "memory": (12,)}
    state = {name: np.zeros((2, *shape), np.float32) for name, shape in shapes.items()}
    rows = {"event": np.array([[1, 3, 2, 5], [4, 4, 6, 1]], np.int32)}
    rows["minutes"] = np.array([[0, 0.5, 3, 0.1], [0, 2, 0.2, 1]], np.float32)
    for place in range(4):
        event = {name: values[:, place] for name, values in rows.items()}
        got = await backend.predict(spec(signature="step"), {**event, **state}, soon())
        state = {name: got.pop(name) for name in state}
        so_far = {name: values[:, : place + 1] for name, values in rows.items()}
        whole = await backend.predict(spec(), so_far, soon())
        assert got.keys() == whole.keys()
        for name, wanted in whole.items():
            np.testing.assert_allclose(got[name], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "inputs", "error"),
    [
        (("nope",), batch(2), errors.VersionNotFound),
        (("shop", 9), batch(2), errors.VersionNotFound),
        (("shop", 1, "zzz"), batch(2), errors.BackendFailed),
        ((), {"event": batch(2)["event"]}, errors.BackendFailed),
        ((), {**batch(2), "more": np.zeros(1)}, errors.BackendFailed),
        (
            (),
            {**batch(2), "event": np.full((1, 2), 99, np.int32)},
            errors.BackendFailed,
        ),
        (
            (),
            {**batch(2), "minutes": np.zeros((1, 5), np.float32)},
            errors.BackendFailed,
        ),
    ],
)
async def test_mistakes_are_ours_and_name_no_node(
    backend: Backend,
    spec: Callable[..., Spec],
    place: tuple[Any, ...],
    inputs: dict[str, Any],
    error: type[errors.SeqserveError],
) -> None:
    """Every fault of a call is one of our errors; what TensorFlow says of its graph stays in the log."""
    for model in ("shop", "nope"):
        await backend.versions(model)
    with pytest.raises(error) as caught:
        await backend.predict(spec(*place), inputs, soon())
    assert "{{node" not in caught.value.message
    assert "StatefulPartitionedCall" not in caught.value.message
    assert (await backend.predict(spec(), batch(2), soon()))["next_event"].shape == (1, 9)


async def test_a_deadline_that_has_passed_runs_nothing(backend: Backend, spec: Callable[..., Spec]) -> None:
    """The call ends with DEADLINE_EXCEEDED."""
    await backend.versions("shop")
    with pytest.raises(errors.DeadlineExceeded):
        await backend.predict(spec(), batch(2), soon(-1))


async def test_versions_come_and_go(backend: Backend, models: Path, spec: Callable[..., Spec]) -> None:
    """A new directory is loaded, the two newest are kept, one that is removed is unloaded."""
    await backend.versions("shop")
    for number in ("2", "3"):
        put(models, number)
    await become(backend, {3: State.AVAILABLE, 2: State.AVAILABLE})
    assert "next_event" in await backend.predict(spec(version=3), batch(2), soon())
    with pytest.raises(errors.VersionNotFound):
        await backend.predict(spec(), batch(2), soon())
    shutil.rmtree(models / "shop" / "3")
    await become(backend, {2: State.AVAILABLE, 1: State.AVAILABLE})


async def test_content_that_did_not_encode_the_rows_is_not_called(
    backend: Backend, spec: Callable[..., Spec]
) -> None:
    """The digest decides, not the number: rows of another content end with VERSION_NOT_FOUND."""
    await backend.versions("shop")
    other = replace(spec(), digest="sha256:another")
    with pytest.raises(errors.VersionNotFound):
        await backend.predict(other, batch(2), soon())


async def test_a_version_unloaded_under_running_calls_ends_them_well(
    backend: Backend, models: Path, spec: Callable[..., Spec]
) -> None:
    """A call is answered or, where it came too late, VERSION_NOT_FOUND; never anything else."""
    await backend.versions("shop")
    calls = [asyncio.ensure_future(backend.predict(spec(), batch(9), soon())) for _ in range(20)]
    await asyncio.sleep(0)
    shutil.rmtree(models / "shop" / "1")
    await become(backend, {})
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert any(not isinstance(end, Exception) for end in ends)
    assert {type(end) for end in ends if isinstance(end, Exception)} <= {errors.VersionNotFound}
    with pytest.raises(errors.VersionNotFound):
        await backend.predict(spec(), batch(9), soon())


def flip(version: Path) -> None:
    """Change one byte of the graph."""
    data = bytearray((version / "saved_model.pb").read_bytes())
    data[len(data) // 2] ^= 1
    (version / "saved_model.pb").write_bytes(data)


def hide(version: Path) -> None:
    """Take the manifest away."""
    (version / "assets" / FILE_NAME).unlink()


def unload(version: Path) -> None:
    """Break the graph and make the digests match, so that only loading it shows the damage."""
    (version / "saved_model.pb").write_bytes(b"\x0a\x00")
    from seqserve.service.contract.digest import file_hashes

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
            await backend.predict(Spec("endless", 1, SERVING, ""), {"x": np.ones(1, np.float32)}, soon(0.2))
    await backend.close()


async def test_a_model_config_file_names_models_policies_and_labels(models: Path, tmp_path: Path) -> None:
    """Of the folder only what the file says is served; a change of the file is followed, a broken one not."""
    for number in ("2", "3"):
        put(models, number)
    path = tmp_path / "models.config"
    labels = {"stable": 2, "old": 1}
    path.write_text(str(config_file({"tickets": models / "shop"}, labels=labels)))
    backend = EmbeddedBackend(tmp_path / "nowhere", config=ModelConfigFile(path))
    assert await backend.models() == ["tickets"]
    assert [s.version for s in await backend.versions("tickets")] == [3, 2]
    assert await backend.label("tickets", "stable") == 2
    with pytest.raises(errors.VersionNotFound, match="'old' of model 'tickets' points to version 1"):
        await backend.label("tickets", "old")
    with pytest.raises(errors.LabelNotFound):
        await backend.label("tickets", "canary")
    path.write_text("model_config_list { config { ")
    assert await backend.models() == ["tickets"]
    specific = "model_version_policy { specific { versions: 1 } }"
    entry = f'name: "only" base_path: "{models / "shop"}" {specific}'
    path.write_text(f"model_config_list {{ config {{ {entry} }} }}")
    assert await backend.models() == ["only"]
    assert [s.version for s in await backend.versions("only")] == [1]
    assert await backend.versions("shop") == []
    await backend.close()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("model_config_list {", "1:"),
        ("", "names no model"),
        ('model_config_list { config { base_path: "/m" } }', "name ''"),
        ('model_config_list { config { name: "m" base_path: "m" } }', "m: base_path"),
        (
            'model_config_list { config { name: "m" base_path: "/" } config { name: "m" base_path: "/" } }',
            "twice",
        ),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, fault: str) -> None:
    """The start ends with the file, and what is wrong with it."""
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        ModelConfigFile(path)
    assert fault in str(caught.value)
    with pytest.raises(ValueError, match="none"):
        ModelConfigFile(tmp_path / "none")


@pytest.mark.parametrize(
    ("given", "wanted"), [({}, 16), ({"device": "gpu"}, 2), ({"device": "gpu", "slots": 1}, 1)]
)
def test_batches_at_once_are_as_many_as_cores_and_few_on_a_gpu(
    given: dict[str, Any], wanted: int, tmp_path: Path
) -> None:
    settings = Settings(root=tmp_path, **given)
    backend = make_backend(settings, Metrics(CollectorRegistry()), count_cores=lambda: 16)
    assert backend.slots == wanted
