"""Whether a version can be read: by what its manifest lists, or else by the files that a load reads.

TensorFlow Serving's loader (tensorflow/cc/saved_model/loader.cc, then saved_model_warmup_util.cc) fails where
the graph does not parse, where a variable lies beyond the end of its file, and where a warm-up record is cut
short. All this is seen without TensorFlow. What only a load shows, such as an operation that is unknown
there, is not.
"""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from seqserve.service.backend.folders import stamp_of
from seqserve.service.contract.digest import check_sizes
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.wire import fields
from seqserve.service.errors import SeqserveError
from seqserve.service.keeper.bundle import data_sizes

GRAPH, TEXT_GRAPH, WARMUP = "saved_model.pb", "saved_model.pbtxt", "assets.extra/tf_serving_warmup_requests"
INDEX = "variables/variables.index"
META_GRAPHS = 2  # in SavedModel
RECORD_FRAME = 16  # bytes of a TFRecord beside its data: length (8), its checksum, the data's checksum
NUMBER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)  # what its safe_strto64 takes
LARGEST = 2**63 - 1


class Reader:
    """Says of version folders why they cannot be read, and reads again only what has changed.

    Args:
        hold: seconds for which a version is still passed over once it has become whole: a server that failed
            on it loads it anew only after it has taken a configuration without it.
        clock: seconds, never going back.
    """

    def __init__(self, hold: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._clock = clock
        self._known: dict[Path, tuple[Hashable, str]] = {}
        self._spoilt: dict[Path, float] = {}

    def why_not(self, folder: Path) -> str:
        """Return why a version cannot be read or is held back, empty if it can be served."""
        now = self._clock()
        if why := self._why(folder):
            self._spoilt[folder] = now
        elif now - self._spoilt.get(folder, -math.inf) < self._hold:
            return f"it was not whole within the last {self._hold:g} s"
        return why

    def release(self) -> None:
        """Hold nothing back: a server that starts has failed on nothing yet."""
        self._spoilt.clear()

    def _why(self, folder: Path) -> str:
        try:
            stamp = stamp_of(folder)
            if self._known.get(folder, (None,))[0] != stamp:
                self._known[folder] = (stamp, why_unreadable(folder))
        except OSError as error:  # a file went while it was looked at, or may not be read
            return f"{error.filename}: {error.strerror}"
        except SeqserveError as error:
            return str(error)
        except Exception as error:  # spoilt in a way not thought of: the other versions still count
            return f"reading it fails: {error!r}"
        return self._known[folder][1]

    def forget_gone(self) -> None:
        """Forget the folders that are there no more, or cannot be looked at."""
        self._known = {folder: seen for folder, seen in self._known.items() if os.path.exists(folder)}
        self._spoilt = {folder: since for folder, since in self._spoilt.items() if os.path.exists(folder)}


def numbered(folder: Path) -> dict[int, Path]:
    """Return what TensorFlow Serving takes for a model's versions, files and `007` too, by number.

    Raises:
        OSError: the folder cannot be looked at.
    """
    if not folder.is_dir():
        return {}
    children = sorted(folder.iterdir(), key=lambda path: path.name)
    numbers = {int(child.name): child for child in children if NUMBER.fullmatch(child.name)}
    return {number: child for number, child in numbers.items() if abs(number) <= LARGEST}


def why_unreadable(folder: Path) -> str:
    """Return why a version cannot be read, empty if it can.

    Raises:
        OSError: a file cannot be opened.
    """
    if not folder.is_dir():
        return f"{folder.name} is no folder"
    try:
        check_sizes(folder)  # nothing that is opened below is a pipe, or too large to be read whole
        listed = _listed(folder / "assets" / FILE_NAME)
        return _changed(folder, listed) if listed else _cut(folder)
    except (ValueError, SeqserveError) as error:
        return str(error)


def _listed(manifest: Path) -> dict[str, str]:
    """Return the hashes that a manifest lists; none where there is no manifest of ours."""
    if not manifest.exists():
        return {}
    try:
        table = json.loads(manifest.read_bytes())
    except ValueError as error:
        raise ValueError(f"assets/{FILE_NAME} is cut short, or no JSON") from error
    files = table.get("files") if isinstance(table, dict) else None
    return files if isinstance(files, dict) else {}


def _changed(folder: Path, listed: dict[str, str]) -> str:
    for name, digest in sorted(listed.items()):
        if not (folder / name).is_file():
            return f"{name} is missing"
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return f"{name} is not the file that was exported"
    return ""


def _cut(folder: Path) -> str:
    if not (folder / GRAPH).exists():
        return "" if (folder / TEXT_GRAPH).exists() else f"{GRAPH} is missing"
    try:
        if not any(number == META_GRAPHS for number, _ in fields((folder / GRAPH).read_bytes())):
            return f"{GRAPH} has no graph"
    except ValueError as error:
        return f"{GRAPH}: {error}"
    return _cut_variables(folder) or _cut_records(folder / WARMUP)


def _cut_variables(folder: Path) -> str:
    index = folder / INDEX
    if not index.exists():
        beside = sorted(index.parent.glob(f"{index.stem}.data-*"))
        return f"{INDEX} is missing beside {beside[0].name}" if beside else ""
    try:
        sizes = data_sizes(index)
    except ValueError as error:
        return f"{INDEX}: {error}"
    for name, least in sizes.items():
        file = index.with_name(name)
        if not file.exists():
            return f"variables/{name} is missing"
        if (size := file.stat().st_size) < least:
            return f"variables/{name} has {size} bytes, its index asks for {least}"
    return ""


def _cut_records(file: Path) -> str:
    if not file.exists():
        return ""
    size, place = file.stat().st_size, 0
    with file.open("rb") as records:
        while place < size:
            records.seek(place)
            place += RECORD_FRAME + int.from_bytes(records.read(8), "little")
    return f"{WARMUP} is cut short" if place > size else ""
