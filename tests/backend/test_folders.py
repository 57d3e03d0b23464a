"""Directories of models and versions, without TensorFlow: what is listed, and what counts as a change."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seqserve.service.backend.folders import REST, ModelFolders, Stamps, stamp_of, version_folders
from seqserve.service.backend.model_config import ModelConfigFile
from tests.tfserving.reload import config_file


def make(root: Path, *folders: str) -> Path:
    """Make folders under a root."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


def test_a_model_is_a_folder_that_holds_a_numbered_one(tmp_path: Path) -> None:
    """Hidden folders, files, and folders without a version are none; a root that is not there has none."""
    root = make(tmp_path / "models", "b/2", "a/1", "empty", "words/one", ".hidden/1")
    (root / "notes").write_text("1")
    assert ModelFolders(root).names() == ["a", "b"]
    assert ModelFolders(tmp_path / "nowhere").names() == []


def test_versions_are_the_folders_with_a_number_for_a_name_newest_first(tmp_path: Path) -> None:
    """By number and not by name; each with its own path, so that 007 is opened where it lies."""
    model = make(tmp_path / "m", "9", "10", "007", "010", "8.aside", "-1", "x")
    (model / "11").write_text("a file")
    assert version_folders(model) == {10: model / "10", 9: model / "9", 7: model / "007"}
    assert version_folders(tmp_path / "nowhere") == {}


def test_a_config_file_decides_which_models_there_are(tmp_path: Path) -> None:
    """Their folders and labels too; a name that it does not have still stands for a folder of the root."""
    root = make(tmp_path / "models", "shop/1")
    path = tmp_path / "models.config"
    path.write_text(str(config_file({"tickets": root / "shop"}, labels={"stable": 1})))
    folders = ModelFolders(tmp_path, ModelConfigFile(path))
    assert folders.names() == ["tickets"]
    entry = folders.entry("tickets")
    assert (entry.folder, entry.labels) == (root / "shop", {"stable": 1})
    assert folders.entry("other").folder == tmp_path / "other"


def grow(path: Path) -> None:
    """Change a file's size."""
    path.write_text("longer")


def touch(path: Path) -> None:
    """Change a file's time."""
    os.utime(path, ns=(0, 1))


def move(path: Path) -> None:
    """Change a file's name."""
    path.rename(path.with_name("other"))


def join(path: Path) -> None:
    """Put another file beside it."""
    path.with_name("new").write_text("")


@pytest.mark.parametrize("change", [grow, touch, move, join, Path.unlink])
def test_a_stamp_changes_with_the_files(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Another size, time, name or number of files, however deep, is another stamp; a look alone is not."""
    path = make(tmp_path, "1/variables/deep") / "1/variables/deep/data"
    path.write_text("data")
    os.utime(path, ns=(0, 0))
    before = stamp_of(tmp_path / "1")
    assert stamp_of(tmp_path / "1") == before
    change(path)
    assert stamp_of(tmp_path / "1") != before


def test_many_files_are_looked_at_the_more_rarely_the_longer_it_takes(tmp_path: Path) -> None:
    """A look of two seconds is good for a hundred, unless the version's folder, manifest or graph changes."""
    folder = make(tmp_path, "1/assets/deep") / "1"
    data, graph = folder / "assets/deep/data", folder / "saved_model.pb"
    data.write_text("data")
    again = 2 + 2 * REST
    times = iter((0, 2, again - 1, again, again + 2, again + 3, again + 4))
    stamps = Stamps(lambda: next(times))
    first = stamps.of(folder)
    grow(data)
    assert stamps.of(folder) == first
    second = stamps.of(folder)
    assert second == stamp_of(folder) != first
    graph.write_text("graph")
    assert stamps.of(folder) == stamp_of(folder) != second
    assert next(times, None) is None
