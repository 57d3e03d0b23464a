"""A version's digest: its manifest lists the SHA-256 of every other file, and its own stands for them all."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from seqserve.service import errors
from seqserve.service.contract.manifest import FILE_NAME, Manifest, parse_manifest


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


def version_files(folder: Path) -> list[Path]:
    """Return every file of a version's directory, in order of path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version but its manifest, by relative path."""
    manifest = folder / "assets" / FILE_NAME
    files = (path for path in version_files(folder) if path != manifest)
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in files}


def check_digests(folder: Path) -> None:
    """Compare every file of a version with the hash that its manifest lists.

    Raises:
        ManifestMissing: there is no manifest.
        FileChanged: a file is missing, added, or not the one that was exported.
    """
    path = folder / "assets" / FILE_NAME
    if not path.exists():
        raise errors.ManifestMissing(f"{folder.name}: assets/{FILE_NAME} is not there")
    for name in changed_files(parse_manifest(path.read_bytes()), file_hashes(folder)):
        raise errors.FileChanged(f"{name} is not the file that was exported")
