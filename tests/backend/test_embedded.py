"""What the embedded backend makes of directories that change under it; loading is counted, not done."""

import asyncio
import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqserve.service import errors
from seqserve.service.backend import embedded, session
from seqserve.service.backend.base import State
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.contract.digest import DEEPEST, file_hashes
from seqserve.service.contract.manifest import FILE_NAME
from tests.core.fakes import sequence_manifest

MANIFEST = f"assets/{FILE_NAME}"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were loaded, one after the other."""
    loaded: list[Path] = []

    def load(folder: Path) -> session.SavedModel:
        loaded.append(folder)
        return session.SavedModel(None, {})

    monkeypatch.setattr(session, "load", load)
    return loaded


def make(folder: Path, content: str = "graph") -> Path:
    """Write a version, as exported."""
    for name in ("saved_model.pb", "variables/variables.index", "assets/words.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / MANIFEST).write_text(json.dumps({**sequence_manifest(), "files": file_hashes(folder)}))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two versions of `shop`."""
    for number in (1, 2):
        make(tmp_path / "models" / "shop" / str(number))
    return tmp_path / "models"


async def look(backend: EmbeddedBackend, model: str = "shop") -> dict[int, str]:
    """Look as the catalog does; returns how the versions stand, or why they fail."""
    await backend.models()
    return {s.version: s.error.reason if s.error else s.state.value for s in await backend.versions(model)}


async def test_versions_in_memory_outlast_the_root(root: Path, loads: list[Path]) -> None:
    """While it is away they can be called; when it is back they are the same, and are not loaded again."""
    backend = EmbeddedBackend(root)
    before = await backend.versions("shop")
    away = shutil.move(root, root.with_name("away"))
    for call in (backend.models, lambda: backend.versions("shop")):
        with pytest.raises(errors.BackendUnavailable, match="No such file or directory"):
            await call()
    with pytest.raises(errors.ManifestMissing, match="no signature"):  # not VersionNotFound
        await backend.manifest("shop", 2)
    shutil.move(away, root)
    assert await backend.versions("shop") == before
    assert len(loads) == 2
    await backend.close()


async def test_links_that_move_to_the_same_files_change_nothing(root: Path, loads: list[Path]) -> None:
    """As git-sync does at each commit: other times, another place. What has changed is loaded."""
    link = root.with_name("current")
    link.symlink_to(root)
    backend = EmbeddedBackend(link)
    before = await backend.versions("shop")
    second = root.with_name("second")
    for number in ("1", "2"):
        shutil.copytree(root / "shop" / number, second / "shop" / number, copy_function=shutil.copyfile)
    make(second / "shop" / "2", "another")
    for path in second.rglob("*"):
        os.utime(path, ns=(0, 0))
    (root.parent / "next").symlink_to(second)
    (root.parent / "next").rename(link)
    after = await backend.versions("shop")
    assert [state.state for state in after] == [State.AVAILABLE] * 2
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)
    assert loads[2:] == [link / "shop" / "2"]
    await backend.close()


async def test_a_version_is_loaded_once_all_of_it_is_there(
    root: Path, loads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Copied by halves of files, the manifest first: refused at each look, while the others go on."""
    backend = EmbeddedBackend(root)
    await look(backend)
    source, target = make(root.with_name("source"), "new"), root / "shop" / "0003"
    reasons = {"FILE_CHANGED", "MANIFEST_MISSING", "MANIFEST_INVALID"}
    for name in (MANIFEST, *file_hashes(source)):
        for half in halves(source / name):
            stands = await look(backend)
            assert {stands.get(3, "FILE_CHANGED"), stands[2]} <= {*reasons, "AVAILABLE"}
            assert len(loads) == 2
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with (target / name).open("ab") as file:
                file.write(half)
    async with asyncio.timeout(10):
        while await look(backend) != {3: "AVAILABLE", 2: "AVAILABLE"}:
            pass  # all files are looked at anew only after a while
    assert loads[2:] == [target]
    assert not caplog.messages  # what is refused is the catalog's to tell
    await backend.close()


def halves(path: Path) -> tuple[bytes, bytes]:
    """Return a file in two parts."""
    data = path.read_bytes()
    return data[: len(data) // 2], data[len(data) // 2 :]


def pipe(version: Path) -> None:
    """Put a pipe in the manifest's place."""
    (version / MANIFEST).unlink()
    os.mkfifo(version / MANIFEST)


def sparse(version: Path) -> None:
    """Make the manifest 4 GB long."""
    os.truncate(version / MANIFEST, 4 * 2**30)


def hide(version: Path) -> None:
    """Link a folder to itself: it cannot be listed."""
    shutil.rmtree(version)
    version.symlink_to(version)


def sink(version: Path) -> None:
    """Put folders in one another, deeper than who walks through them may go."""
    for _ in range(DEEPEST + 1):
        version /= "a"
        version.mkdir()


@pytest.mark.parametrize(
    ("spoil", "stands"),
    [(pipe, {2: "FILE_CHANGED"}), (sink, {2: "FILE_CHANGED"}), (sparse, {2: "MANIFEST_INVALID"}), (hide, {})],
)
async def test_a_bad_version_harms_no_other_and_stays_the_same(
    root: Path, loads: list[Path], spoil: Callable[[Path], None], stands: dict[int, str]
) -> None:
    """Also where its files change and the fault does not: nothing new is to be told then."""
    spoil(root / "shop" / "2")
    backend = EmbeddedBackend(root)
    before = await backend.versions("shop")
    for number in range(3):
        assert await look(backend) == {**stands, 1: "AVAILABLE"}
        with contextlib.suppress(OSError):  # the link to itself
            os.utime(root / "shop" / "2" / "saved_model.pb", ns=(number, number))
        after = await backend.versions("shop")
        assert [(each.state, each.stamp) for each in after] == [(each.state, each.stamp) for each in before]
    assert loads == [root / "shop" / "1"]
    await backend.close()


async def test_a_start_with_nothing_good_among_those_it_keeps_takes_the_next_older(
    root: Path, loads: list[Path]
) -> None:
    """As a service does that saw the bad ones come; once a good one is there, the older one goes."""
    for number in (3, 4, 5):
        pipe(make(root / "shop" / str(number)))
    backend = EmbeddedBackend(root)
    bad = dict.fromkeys((5, 4, 3), "FILE_CHANGED")
    for _ in range(2):
        assert await look(backend) == {**bad, 2: "AVAILABLE"}
    make(root / "shop" / "6")
    assert await look(backend) == {6: "AVAILABLE", 5: "FILE_CHANGED"}
    assert [folder.name for folder in loads] == ["2", "6"]
    await backend.close()


async def test_files_out_of_sight_are_no_other_files(
    root: Path, loads: list[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded of them stays, and is told once; what is not is refused until they can be read."""
    backend = EmbeddedBackend(root)
    await look(backend)
    make(root / "shop" / "3")
    seen = embedded.Stamps.of

    def of(stamps: Any, folder: Path) -> bytes:
        if folder.name in ("2", "3"):
            raise PermissionError(13, "Permission denied", str(folder / "variables"))
        return seen(stamps, folder)

    with monkeypatch.context() as patch:
        patch.setattr(embedded.Stamps, "of", of)
        patch.setattr(embedded, "check_digests", lambda folder, _: of(None, folder))
        for _ in range(3):
            assert await look(backend) == {3: "BACKEND_FAILED", 2: "AVAILABLE"}
    assert caplog.messages == [
        "shop version 2 stays as it was loaded: 2/variables: Permission denied",
    ]
    assert await look(backend) == {3: "AVAILABLE", 2: "AVAILABLE"}
    assert [folder.name for folder in loads] == ["2", "1", "3"]
    await backend.close()


async def test_files_on_the_move_leave_what_is_loaded(
    root: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they change again while a change is looked into; what they become is seen at the next look."""
    backend = EmbeddedBackend(root)
    before = await backend.versions("shop")
    graph = root / "shop" / "2" / "saved_model.pb"

    def changing(folder: Path, _: object) -> str:
        graph.write_text(graph.read_text() + "more")
        raise errors.FileChanged("in the middle of it")

    graph.write_text("other")
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "check_digests", changing)
        assert await backend.versions("shop") == before
    assert await look(backend) == {2: "FILE_CHANGED", 1: "AVAILABLE"}
    make(root / "shop" / "2")
    assert await look(backend) == {2: "AVAILABLE", 1: "AVAILABLE"}
    await backend.close()


async def test_no_file_is_read_on_the_loop(
    root: Path, loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the model config file: slow storage under it would hold up every call that is being answered."""
    path = root / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "shop" base_path: "{root}/shop" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 2 } } }'
    )
    backend = EmbeddedBackend(root, config=ModelConfigFile(path))
    entries, threads = ModelConfigFile.entries, set[str]()

    def entries_of(file: ModelConfigFile) -> Any:
        threads.add(threading.current_thread().name)
        return entries(file)

    monkeypatch.setattr(ModelConfigFile, "entries", entries_of)
    assert await look(backend) == {2: "AVAILABLE"}
    assert await backend.label("shop", "stable") == 2
    assert threads
    assert all(name.startswith("files") for name in threads)
    await backend.close()


async def test_a_model_that_is_taken_away_is_let_go(root: Path, loads: list[Path]) -> None:
    """Its Sessions too, although nobody asks for its versions any more."""
    make(root / "other" / "1")
    backend = EmbeddedBackend(root)
    for model in ("shop", "other"):
        await look(backend, model)
    shutil.rmtree(root / "other")
    assert await backend.models() == ["shop"]
    with pytest.raises(errors.VersionNotFound):
        await backend.manifest("other", 1)
    with pytest.raises(errors.ManifestMissing):
        await backend.manifest("shop", 1)
    await backend.close()
