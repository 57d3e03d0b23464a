"""Which versions cannot be read, by what is seen without TensorFlow."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from seqserve.service.keeper.bundle import MAGIC, data_sizes
from seqserve.service.keeper.readable import Reader, numbered, why_unreadable
from tests.conformance.modules import write_version
from tests.keeper.made import spoil, version

DATA, INDEX = "variables/variables.data-00000-of-00001", "variables/variables.index"
GRAPH, WARMUP, MANIFEST = "saved_model.pb", "assets.extra/tf_serving_warmup_requests", "assets/manifest.json"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version as TensorFlow writes it, with variables and a warm-up record."""
    return write_version(tmp_path_factory.mktemp("written") / "demo", 1, warmup="serving_default")


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(written, tmp_path / "demo" / "1")


def list_files(folder: Path) -> None:
    """Give a version a manifest."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    (folder / "assets").mkdir(exist_ok=True)
    table = {"files": {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items()}}
    (folder / MANIFEST).write_text(json.dumps(table))


def test_a_whole_version_can_be_read(copy: Path) -> None:
    """As TensorFlow wrote it, with and without a manifest; the index says exactly how long its data are."""
    assert why_unreadable(copy) == ""
    assert data_sizes(copy / INDEX) == {Path(DATA).name: (copy / DATA).stat().st_size}
    list_files(copy)
    assert why_unreadable(copy) == ""


@pytest.mark.parametrize("file", [GRAPH, DATA, INDEX, WARMUP])
def test_a_file_cut_anywhere_is_seen(copy: Path, file: str) -> None:
    """Whatever part of it is there, the reason names the file; an empty file of warm-ups is a whole one."""
    data = (copy / file).read_bytes()
    for length in {*range(1, len(data), max(1, len(data) // 60)), len(data) - 1}:
        (copy / file).write_bytes(data[:length])
        assert file in why_unreadable(copy), length


@pytest.mark.parametrize("file", [GRAPH, DATA, INDEX])
def test_a_file_that_is_missing_or_empty_is_seen(copy: Path, file: str) -> None:
    """As after a copy that stopped; without its index, the data are not read at all."""
    (copy / file).write_bytes(b"")
    assert file in why_unreadable(copy)
    (copy / file).unlink()
    assert file in why_unreadable(copy)


@pytest.mark.parametrize("file", [GRAPH, DATA, INDEX, WARMUP, "fingerprint.pb", MANIFEST])
def test_a_manifest_covers_every_file(copy: Path, file: str) -> None:
    """One byte less, in any file that it lists or in itself; a file beside them does no harm."""
    list_files(copy)
    (copy / "batching_params.pbtxt").write_text("")
    assert why_unreadable(copy) == ""
    (copy / file).write_bytes((copy / file).read_bytes()[:-1])
    assert file in why_unreadable(copy)


def test_a_manifest_that_is_nested_too_deeply_is_no_end_of_the_reader(copy: Path) -> None:
    """Nor is anything else that reading a version stumbles over; the others can be read on."""
    (copy / "assets").mkdir(exist_ok=True)
    (copy / MANIFEST).write_text("[" * 100_000)
    assert "reading it fails: RecursionError" in Reader().why_not(copy)


@pytest.mark.parametrize("count", [0, 2**60])
def test_an_index_names_as_many_data_files_as_can_be(tmp_path: Path, count: int) -> None:
    """A number that no index has is not counted up to."""
    (tmp_path / "variables.index").write_bytes(index_of(count))
    with pytest.raises(ValueError, match=f"it names {count} data files"):
        data_sizes(tmp_path / "variables.index")


def index_of(shards: int) -> bytes:
    """Return a checkpoint's index that has a header alone."""
    header = b"\x08" + varint(shards)
    data = block(b"", header)
    top = block(b"z", bytes([0, len(data)]))
    footer = bytes([0, 0, len(data) + 5, len(top)])
    return data + bytes(5) + top + bytes(5) + footer.ljust(40, b"\0") + MAGIC


def block(key: bytes, value: bytes) -> bytes:
    """Return a block of one entry, and where its only restart is."""
    return bytes([0, len(key), len(value)]) + key + value + bytes(4) + (1).to_bytes(4, "little")


def varint(value: int) -> bytes:
    """Write a number as protobuf does."""
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def nothing(folder: Path) -> None:
    """Leave a folder empty."""
    shutil.rmtree(folder)
    folder.mkdir()


def a_file(folder: Path) -> None:
    """Put a file in the folder's place."""
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize(
    ("change", "why"),
    [(nothing, "saved_model.pb is missing"), (a_file, "1 is no folder")],
    ids=["empty", "file"],
)
def test_what_is_no_version_is_said(tmp_path: Path, change: Callable[[Path], None], why: str) -> None:
    """TensorFlow Serving takes anything that is named by a number for a version, and fails on it."""
    folder = version(tmp_path, "demo", 1)
    change(folder)
    assert why_unreadable(folder) == why


def test_numbers_are_read_as_the_server_reads_them(tmp_path: Path) -> None:
    """Leading zeros, blanks around it and files count, other names do not."""
    for name in ("007", "3", "v4", ".5", "5.aside", "6 "):
        version(tmp_path, "demo", name)
    (tmp_path / "demo" / "9").write_text("")
    assert {number: path.name for number, path in numbered(tmp_path / "demo").items()} == {
        3: "3",
        6: "6 ",
        7: "007",
        9: "9",
    }
    assert numbered(tmp_path / "nope") == {}


def test_a_change_is_read_again(tmp_path: Path) -> None:
    """What was whole is read again once it changes, and once it is mended; a folder that went is no error."""
    folder, reader = version(tmp_path, "demo", 1), Reader()
    assert reader.why_not(folder) == ""
    spoil(folder)
    assert reader.why_not(folder) != ""
    version(tmp_path, "demo", 1)
    assert reader.why_not(folder) == ""
    shutil.rmtree(folder)
    reader.forget_gone()
    assert reader.why_not(folder) == "1 is no folder"
