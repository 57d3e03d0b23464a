"""A Keras file looked into before Keras opens it: who saved it, whether code lies in it, what it unpacks to.

A reader of Keras may run stored code, and fills memory with whatever a small file unpacks to.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py

from seqserve.models.config import ConfigInvalid

MOST_BYTES = 4 * 2**30
"""What all parts of a file may unpack to."""
MOST_CONFIG_BYTES = 64 * 2**20
CODE = ("lambda", "raw")
"""Kinds of functions that Keras 2 stores as code."""


def keras_version(path: Path) -> str:
    """Return the version of Keras that saved a file; empty where it does not say, or is no such file.

    Raises:
        ConfigInvalid: code is stored in it, it refers to other files, or its parts unpack to too much.
    """
    versions = [""]
    # a file may be both, and which one is read depends on its name and on the reader
    if zipfile.is_zipfile(path):
        versions.append(_look_into_zip(path))
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            versions.append(_look_into_h5(path, file))
    return versions[-1]


def _look_into_zip(path: Path) -> str:
    version = ""
    with zipfile.ZipFile(path) as archive:
        _check_size(path, sum(part.file_size for part in archive.infolist()))
        for part in archive.infolist():
            if part.filename == "config.json":
                _check_config(path, _json(path, archive, part))
            elif part.filename == "metadata.json":
                metadata = _json(path, archive, part)
                version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
            elif part.filename.endswith((".h5", ".hdf5")):
                with _weights(path, archive, part) as file:
                    _look_into_h5(path, file)
    return version


def _json(path: Path, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> Any:
    if part.file_size > MOST_CONFIG_BYTES:
        raise ConfigInvalid(
            f"{path}: its {part.filename} unpacks to {part.file_size} bytes, more than {MOST_CONFIG_BYTES}"
        )
    try:
        return json.loads(archive.read(part))
    except (ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ConfigInvalid(f"{path}: its {part.filename} cannot be read: {error}") from error


def _weights(path: Path, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> h5py.File:
    try:
        return h5py.File(io.BytesIO(archive.read(part)))
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigInvalid(f"{path}: its {part.filename} cannot be read: {error}") from error


def _look_into_h5(path: Path, file: h5py.File) -> str:
    _check_links(path, file)
    sizes = [dataset.nbytes for dataset in _datasets(path, file)]
    _check_size(path, sum(sizes))
    stored = _text(file.attrs.get("model_config"))
    if stored:
        try:
            _check_config(path, json.loads(stored))
        except (ValueError, RecursionError) as error:
            raise ConfigInvalid(f"{path}: its model_config cannot be read: {error}") from error
    return _text(file.attrs.get("keras_version"))


def _check_links(path: Path, file: h5py.File) -> None:
    links: dict[str, Any] = {}
    file.visititems_links(lambda name, link: links.update({name: link}))  # which may not raise
    for name, link in links.items():
        if not isinstance(link, h5py.HardLink):
            raise ConfigInvalid(f"{path}: {name!r} is a link to another place, as Keras never writes")


def _datasets(path: Path, file: h5py.File) -> list[h5py.Dataset]:
    """Return every dataset; one whose values lie in another file is refused."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, entry: found.append(entry) if isinstance(entry, h5py.Dataset) else None)
    for dataset in found:
        if dataset.external or dataset.is_virtual:
            raise ConfigInvalid(
                f"{path}: {dataset.name!r} has its values elsewhere, which Keras does not write"
            )
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise ConfigInvalid(
            f"{path}: its parts unpack to {size / 2**30:.1f} GiB, more than {MOST_BYTES / 2**30:g} GiB; a "
            "SavedModel has no such limit"
        )


def _check_config(path: Path, config: Any) -> None:
    """Refuse a layer whose code is stored, at any depth."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        name, part = waiting.pop()
        if isinstance(part, dict):
            inner = part.get("config")
            name = str(inner.get("name") or name) if isinstance(inner, dict) else name
            if _is_code(part):
                raise ConfigInvalid(
                    f"{path}: layer {name!r} is a Lambda whose code is stored in the file, and never run. "
                    "Make the Lambda a layer class and give --import FILE.py that defines it"
                )
            waiting += [(name, value) for value in part.values()]
        elif isinstance(part, list):
            waiting += [(name, value) for value in part]


def _is_code(part: dict[str, Any]) -> bool:
    if part.get("class_name") == "__lambda__":
        return True
    kinds = (part.get(key) for key in ("function_type", "output_shape_type", "mask_type"))
    return any(kind in CODE for kind in kinds)
