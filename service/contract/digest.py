"""A version's digest: its manifest lists the SHA-256 of every other file, and its own stands for them all.

A version may be broken or hostile: only regular files are opened, none that the manifest does not list, and
none that is larger than what reads it whole can bear.
"""

import hashlib
import io
import os
import re
import stat
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from seqserve.service import errors
from seqserve.service.contract.bounds import ASSET_BYTES, MANIFEST_BYTES, in_one_line
from seqserve.service.contract.manifest import FILE_NAME, Manifest
from seqserve.service.contract.manifest_file import parse_manifest

MANIFEST = f"assets/{FILE_NAME}"
CHANGED = "is not the file that was exported"
WEIGHTS = re.compile(r"variables/[^/]+\.data-\d+-of-\d+")
"""What is read piece by piece, and may be as large as it is."""
CHUNK = 2**20
DEEPEST = 50
"""Folders of a version in one another: each is a frame more on the stack of who walks through them."""


def sha256(data: bytes) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_of(manifest_bytes: bytes) -> str:
    """Return the digest of a version: its manifest lists all other files' hashes, so it covers them all."""
    return f"sha256:{sha256(manifest_bytes)}"


def changed_files(manifest: Manifest, hashes: Mapping[str, str]) -> Iterable[str]:
    """Yield the files whose hash is not the manifest's, that are missing, or that it does not list."""
    for path in sorted({*manifest.files, *hashes}):
        if manifest.files.get(path) != hashes.get(path):
            yield path


def version_files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield all that is no folder in a version's directory, if it is there, however deep.

    Folders that are links are followed, each folder once. Kubernetes' `..data`, and what it leads to, is
    passed over: the links beside it have the names that count.

    Raises:
        FileChanged: there are more than DEEPEST folders in one another.
        OSError: one cannot be looked at.
    """
    if os.path.isdir(folder):
        yield from _files(os.fspath(folder), set(), DEEPEST)


def _files(folder: str, seen: set[tuple[int, int]], levels: int) -> Iterator[os.DirEntry[str]]:
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        # folders before links to them, so that the same name counts at every look
        found = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in found:
        if entry.name.startswith(".."):
            continue
        if entry.is_dir():
            if not levels:
                raise errors.FileChanged(f"folders lie too deep: more than {DEEPEST} in one another")
            yield from _files(entry.path, seen, levels - 1)
        else:
            yield entry


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but its manifest, by relative path."""
    return _hashes(folder, _paths(folder))


def _hashes(folder: Path, paths: Collection[str], ends: threading.Event | None = None) -> dict[str, str]:
    return {path: _file_hash(folder, path, ends) for path in sorted(paths) if path != MANIFEST}


def _paths(folder: Path) -> set[str]:
    return {Path(entry.path).relative_to(folder).as_posix() for entry in version_files(folder)}


def _file_hash(folder: Path, path: str, ends: threading.Event | None) -> str:
    hashed = hashlib.sha256()
    with open_regular(folder / path, path) as file:
        while chunk := file.read(CHUNK):  # not all of it in memory
            if ends is not None and ends.is_set():
                raise errors.Draining(f"{path} was being read when the service ended")
            hashed.update(chunk)
    return hashed.hexdigest()


def open_regular(path: Path, name: str) -> io.BufferedReader:
    """Open a file for reading, if it is one: a pipe would wait for its writer, a device may have no end.

    Raises:
        FileChanged: it is something else; `name` is what the message calls it.
        OSError: it cannot be opened.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise errors.FileChanged(f"{name} is no regular file")


def read_manifest(folder: Path) -> bytes:
    """Return the bytes of a version's manifest.

    Raises:
        ManifestMissing: there is none.
        ManifestInvalid: it is larger than a manifest may be.
        FileChanged: it is no regular file.
    """
    try:
        return read_whole(folder, MANIFEST, MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise errors.ManifestMissing(f"{folder.name}: {MANIFEST} is not there") from None


def read_whole(folder: Path, path: str, limit: int) -> bytes:
    """Return a file's bytes.

    Raises:
        ManifestInvalid: there are more than `limit`.
        FileChanged: it is no regular file.
        OSError: it cannot be read.
    """
    with open_regular(folder / path, path) as file:
        _check_size(path, os.fstat(file.fileno()).st_size, limit)
        data = file.read(limit + 1)
    _check_size(path, len(data), limit)  # it may have grown since
    return data


def check_sizes(folder: Path) -> None:
    """Check the files that a loader or a graph reads whole: all but the weights.

    Raises:
        ManifestInvalid: a file is too large.
        FileChanged: something is neither a folder nor a regular file, or folders lie too deep.
    """
    for entry in version_files(folder):
        name = Path(entry.path).relative_to(folder).as_posix()
        if not entry.is_file():
            raise errors.FileChanged(f"{_shown(name)} is no regular file")
        if not WEIGHTS.fullmatch(name):
            _check_size(_shown(name), entry.stat().st_size, ASSET_BYTES)


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise errors.ManifestInvalid(f"{name}: {size} bytes are above the limit of {limit}")


def check_digests(folder: Path, ends: threading.Event | None = None) -> str:
    """Compare every file of a version with the hash that its manifest lists; return the version's digest.

    Hidden files that it does not list are passed over, unread.

    Args:
        ends: ends it, once it is set: reading all of a large version takes long.

    Raises:
        Draining: it was ended.
        ManifestMissing: there is no manifest.
        FileChanged: a file is missing, added, or not the one that was exported; or folders lie too deep.
        ManifestInvalid: a file is larger than may be read.
    """
    data = read_manifest(folder)
    manifest = parse_manifest(data)
    paths = _paths(folder) - {MANIFEST}
    found = {path for path in paths if path in manifest.files or not _is_hidden(path)}
    for path in sorted(found ^ manifest.files.keys()):
        why = "it is not listed" if path in found else "it is missing"
        raise errors.FileChanged(f"{_shown(path)} {CHANGED}: {why}")
    check_sizes(folder)
    for path in changed_files(manifest, _hashes(folder, found, ends)):
        raise errors.FileChanged(f"{path} {CHANGED}")
    return digest_of(data)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _shown(path: str) -> str:
    """Return a path as a message can hold it: a name need not be UTF-8."""
    return in_one_line(path.encode(errors="backslashreplace").decode())
