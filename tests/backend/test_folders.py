"""Directories of models and versions, without TensorFlow: what is listed, and what counts as a change."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqserve.service.backend.folders import LARGEST, REST, ModelFolders, Stamps, look_at, stamp_of
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.errors import BackendUnavailable
from tests.tfserving.reload import config_file


def make(root: Path, *folders: str) -> Path:
    """Make folders under a root."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
    return root


def test_a_model_is_a_folder_that_holds_a_numbered_one(tmp_path: Path) -> None:
    """Hidden folders, files, and folders without a version are none."""
    root = make(tmp_path / "models", "b/2", "a/1", "empty", "words/one", ".hidden/1")
    (root / "notes").write_text("1")
    assert ModelFolders(root).names() == ["a", "b"]


def test_versions_are_the_folders_with_a_number_for_a_name_newest_first(tmp_path: Path) -> None:
    """By number and not by name, as TensorFlow Serving reads them; each with its own path, as 0007."""
    model = make(tmp_path / "m", "9", "10", "0007", "010", "8.aside", "-1", "x", "\u0661", ".data/12")
    (model / "11").write_text("a file")
    (model / "12").symlink_to(".data/12")
    (model / "13").symlink_to("nowhere")
    for number in (LARGEST, LARGEST + 1, 10**200):
        (model / str(number)).mkdir()
    look = look_at(model)
    wanted = {LARGEST: str(LARGEST), 12: "12", 10: "10", 9: "9", 7: "0007"}
    assert list(look.versions.items()) == [(number, model / name) for number, name in wanted.items()]
    assert look.passed_over == {
        "010": "10 is version 10 too",
        "11": "it is no folder",
        "13": "it is no folder",
        str(LARGEST + 1): f"its number is above {LARGEST}",
        str(10**200): f"its number is above {LARGEST}",
    }


@pytest.fixture
def seal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return what makes a folder one that this user may not list: modes do not keep root out."""
    scandir, sealed = os.scandir, set[str]()

    def listed(path: Any = ".") -> Any:
        if not isinstance(path, int) and os.fspath(path) in sealed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)
    return lambda path: sealed.symmetric_difference_update({os.fspath(path)})


def test_what_is_no_model_is_passed_over_and_told_once(
    tmp_path: Path, seal: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The model beside it is there at each look; what is hidden, and plain files, nobody takes for models."""
    root = make(tmp_path / "models", "shop/1", "lost+found", "empty", f"large/{2**63}", ".git/1", "line\n/1")
    (root / "README.md").write_text("text")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    os.makedirs(os.fsencode(root) + b"/caf\xe9/1")
    seal(root / "lost+found")
    folders = ModelFolders(root)
    for _ in range(3):
        assert folders.names() == ["shop"]
        assert folders.versions("shop") == {1: root / "shop/1"}
    (line,) = caplog.messages
    assert line == (
        f"in {root} is passed over: 'caf\\udce9': its name has characters that cannot be shown; "
        f"'empty': no version is in it; 'gone': No such file or directory; "
        f"'large': no version is in it; '{2**63}': its number is above {LARGEST}; "
        "'line\\n': its name has characters that cannot be shown; 'lost+found': Permission denied; "
        "'pipe': Not a directory"
    )
    (root / "shop" / "x").mkdir()
    (root / "shop" / "01").mkdir()
    folders.versions("shop")
    make(root, "empty/1", "second")
    assert folders.names() == ["empty", "shop"]
    assert caplog.messages[1:] == [
        f"in {root}/shop is passed over: '01': 1 is version 1 too",
        f"in {root} is passed over: 'second': no version is in it",
    ]


def test_very_much_that_is_no_model_is_one_short_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path, "shop/1", *(f"empty-{number:03}" for number in range(500)))
    assert ModelFolders(root).names() == ["shop"]
    (line,) = caplog.messages
    assert line.endswith("; and 490 more")
    assert line.count("no version is in it") == 10


def take_away(root: Path) -> None:
    """Rename the root."""
    root.rename(root.with_name("elsewhere"))


def unmount(root: Path) -> None:
    """Leave an empty folder where something was mounted."""
    take_away(root)
    root.mkdir()


def replace_by_file(root: Path) -> None:
    """Put a file in the root's place."""
    take_away(root)
    root.write_text("a file")


def circle(root: Path) -> None:
    """Put a link to itself in the root's place."""
    take_away(root)
    root.symlink_to(root)


@pytest.mark.parametrize(
    ("lose", "why"),
    [
        (take_away, "No such file or directory"),
        (unmount, "nothing is in the model root"),
        (replace_by_file, "Not a directory"),
        (circle, "Too many levels of symbolic links"),
    ],
)
def test_a_root_that_is_lost_is_no_root_without_models(
    tmp_path: Path, lose: Callable[[Path], None], why: str
) -> None:
    """It is named with what is wrong, at a start too; a model whose folder alone is gone has no version."""
    root = make(tmp_path / "models", "shop/1", "other/1")
    folders = ModelFolders(root)
    assert folders.names() == ["other", "shop"]
    lose(root)
    for each in (folders, ModelFolders(root)):
        with pytest.raises(BackendUnavailable, match=why) as caught:
            each.names()
        assert str(root) in caught.value.message
        with pytest.raises(BackendUnavailable, match=f"{root}/shop: "):
            each.versions("shop")


def test_a_model_that_is_taken_away_is_gone_and_one_that_cannot_be_listed_is_not(
    tmp_path: Path, seal: Callable[[Path], None]
) -> None:
    root = make(tmp_path, "shop/1", "other/1")
    folders = ModelFolders(root)
    assert folders.names() == ["other", "shop"]
    seal(root / "shop")
    assert folders.names() == ["other", "shop"]
    with pytest.raises(BackendUnavailable, match="Permission denied"):
        folders.versions("shop")
    seal(root / "shop")
    shutil.rmtree(root / "shop")
    assert folders.names() == ["other"]
    assert folders.versions("shop") == {}


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


def forbid(path: Path) -> None:
    """Change who may read a file."""
    path.chmod(0)


@pytest.mark.parametrize("change", [grow, touch, move, join, forbid, Path.unlink])
def test_a_stamp_changes_with_the_files(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Another size, time, name, mode or number of files, however deep, is another stamp; a look is not."""
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
