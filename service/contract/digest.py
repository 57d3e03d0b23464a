"""A version's digest: its manifest lists the SHA-256 of every other file, and its own stands for them all."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from seqserve.service import errors
from seqserve.service.contract.bounds import ASSET_BYTES, MANIFEST_BYTES
from seqserve.service.contract.manifest import FILE_NAME, Manifest
from seqserve.service.contract.manifest_file import parse_manifest


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
    """Yield every file of a version's directory, if it is there; folders that are links are passed over."""
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from version_files(entry.path)
            elif entry.is_file():
                yield entry


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but its manifest, by relative path."""
    manifest = f"assets/{FILE_NAME}"
    paths = sorted(Path(entry.path).relative_to(folder).as_posix() for entry in version_files(folder))
    return {path: _file_hash(folder / path) for path in paths if path != manifest}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:  # not all of it in memory
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> bytes:
    """Return the bytes of a version's manifest.

    Raises:
        ManifestMissing: there is none.
        ManifestInvalid: it is larger than a manifest may be.
    """
    path = folder / "assets" / FILE_NAME
    if not path.exists():
        raise errors.ManifestMissing(f"{folder.name}: assets/{FILE_NAME} is not there")
    _check_size(f"assets/{FILE_NAME}", path.stat().st_size, MANIFEST_BYTES)
    return path.read_bytes()


def check_assets(folder: Path) -> None:
    """Check the sizes of what a graph reads whole to give its contract.

    Raises:
        ManifestInvalid: a file in assets/ is too large.
    """
    for entry in version_files(folder / "assets"):
        _check_size(Path(entry.path).relative_to(folder).as_posix(), entry.stat().st_size, ASSET_BYTES)


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise errors.ManifestInvalid(f"{name}: {size} bytes are above the limit of {limit}")


def check_digests(folder: Path) -> None:
    """Compare every file of a version with the hash that its manifest lists.

    Raises:
        ManifestMissing: there is no manifest.
        FileChanged: a file is missing, added, or not the one that was exported.
    """
    manifest = parse_manifest(read_manifest(folder))
    for name in changed_files(manifest, file_hashes(folder)):
        raise errors.FileChanged(f"{name} is not the file that was exported")
