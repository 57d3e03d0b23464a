"""A version's files: which are looked at, which are refused unread, and how much of one is read."""

import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from seqserve.service.contract import digest
from seqserve.service.contract.digest import check_digests, digest_of, file_hashes, read_manifest
from seqserve.service.errors import Draining, FileChanged, ManifestInvalid, SeqserveError

SPARSE = 4 * 2**30


@pytest.fixture
def version(tmp_path: Path, plain_manifest: Callable[[str], dict[str, Any]]) -> Path:
    """A version of a few small files, as its manifest lists them."""
    folder = tmp_path / "m" / "1"
    files = ("saved_model.pb", "variables/variables.index", "variables/deep/data", "assets/words.txt")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    table = {**plain_manifest("sequence"), "files": file_hashes(folder)}
    (folder / "assets/manifest.json").write_text(json.dumps(table))
    check_digests(folder)
    return folder


def link_as_kubernetes(folder: Path) -> None:
    """Put what a version holds where a mounted volume has it: ..data/NAME behind a link NAME."""
    (folder / "..2026_11_29").mkdir()
    for path in [path for path in folder.iterdir() if not path.name.startswith("..")]:
        path.rename(folder / "..2026_11_29" / path.name)
        path.symlink_to(Path("..data") / path.name)
    (folder / "..data").symlink_to("..2026_11_29")


def hide_more(folder: Path) -> None:
    """Leave what file managers and mounts leave."""
    (folder / ".DS_Store").write_text("more")
    (folder / "assets" / ".nfs0001").write_text("more")


def link_elsewhere(folder: Path) -> None:
    """Keep the files in a store of their own, as content-addressed ones are."""
    (folder / "assets").rename(folder.parent / "blobs")
    (folder / "assets").symlink_to(folder.parent / "blobs")


def circle(folder: Path) -> None:
    """Link a folder into itself, twice, so that the ways double at each level."""
    for name in ("a", "b"):
        (folder / "variables" / name).symlink_to("..")


@pytest.mark.parametrize("change", [link_as_kubernetes, hide_more, link_elsewhere, circle])
def test_the_same_files_in_another_way_are_the_same_version(
    version: Path, change: Callable[[Path], None]
) -> None:
    change(version)
    check_digests(version)


def pipe(path: str) -> Callable[[Path], None]:
    """Return what puts a pipe, which nobody writes to, in a file's place."""

    def change(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        os.mkfifo(folder / path)

    return change


def sparse(path: str) -> Callable[[Path], None]:
    """Return what makes a file 4 GB long, of which the disk has nothing."""

    def change(folder: Path) -> None:
        with (folder / path).open("ab") as file:
            file.truncate(SPARSE)

    return change


def device(folder: Path) -> None:
    """Put a file without end in a file's place."""
    (folder / "assets/words.txt").unlink()
    (folder / "assets/words.txt").symlink_to("/dev/zero")


def not_utf8(folder: Path) -> None:
    """Add a file whose name is no text."""
    Path(os.fsdecode(os.fsencode(folder) + b"/assets/caf\xe9\n")).touch()


def nowhere(folder: Path) -> None:
    """Add a link that leads nowhere."""
    (folder / "assets/gone").symlink_to("none")


def deep(folder: Path) -> None:
    """Put a file below more folders than who walks through them has a stack for."""
    for _ in range(digest.DEEPEST + 1):
        folder /= "a"
        folder.mkdir()
    (folder / "b").touch()


SPOILT: Mapping[str, tuple[Callable[[Path], None], type[SeqserveError], str]] = {
    "a pipe as manifest": (pipe("assets/manifest.json"), FileChanged, "manifest.json is no regular file"),
    "a pipe as graph": (pipe("saved_model.pb"), FileChanged, "saved_model.pb is no regular file"),
    "a pipe that the loader would open": (pipe("fingerprint.pb"), FileChanged, "fingerprint.pb"),
    "a device": (device, FileChanged, "assets/words.txt is no regular file"),
    "a large manifest": (sparse("assets/manifest.json"), ManifestInvalid, f"manifest.json: {SPARSE} bytes"),
    "a large graph": (sparse("saved_model.pb"), ManifestInvalid, f"saved_model.pb: {SPARSE} bytes"),
    "a large tokenizer": (sparse("assets/words.txt"), ManifestInvalid, f"words.txt: {SPARSE} bytes"),
    "a large index": (
        sparse("variables/variables.index"),
        ManifestInvalid,
        f"variables.index: {SPARSE} bytes",
    ),
    "a large file more": (
        sparse("variables/more.data-0-of-1"),
        FileChanged,
        "more.* is .*: it is not listed",
    ),
    "a name that is no text": (not_utf8, FileChanged, r"assets/caf\\udce9\\n is not"),
    "folders in folders": (deep, FileChanged, "folders lie too deep"),
    "a link to nowhere": (nowhere, FileChanged, "assets/gone is"),
    "a file less": (
        lambda v: (v / "assets/words.txt").unlink(),
        FileChanged,
        "words.txt is .*: it is missing",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), SPOILT.values(), ids=SPOILT)
def test_what_is_spoilt_is_refused_before_any_of_it_is_hashed(
    version: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    error: type[SeqserveError],
    message: str,
) -> None:
    """Nothing waits for a pipe's writer, and of 4 GB not one is read."""
    change(version)
    monkeypatch.delattr(digest, "_file_hash")
    with pytest.raises(error, match=message) as caught:
        check_digests(version)
    caught.value.message.encode()


def test_reading_much_ends_when_the_service_does(version: Path) -> None:
    """A thread that hashes gigabytes would hold up the exit; it stops at the next piece."""
    ends = threading.Event()
    assert check_digests(version, ends) == digest_of(read_manifest(version))
    ends.set()
    with pytest.raises(Draining, match="was being read when the service ended"):
        check_digests(version, ends)


def test_what_changed_within_its_size_is_found_by_its_hash(version: Path) -> None:
    (version / "assets/words.txt").write_text("assets/WORDS.txt")
    with pytest.raises(FileChanged, match=r"assets/words\.txt is not the file that was exported$"):
        check_digests(version)


def test_no_file_stays_open_after_what_is_refused(version: Path) -> None:
    (version / "assets/manifest.json").unlink()
    (version / "assets/manifest.json").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(FileChanged, match="no regular file"):
            read_manifest(version)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        digest.read_whole(version, "none", 1)
