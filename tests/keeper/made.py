"""Model folders and config files for the keeper's tests; made by hand, without TensorFlow."""

import os
from collections.abc import Mapping
from pathlib import Path

GRAPH = b"\x08\x01\x12\x02\x0a\x00"
"""A SavedModel with one graph that is empty."""


def version(root: Path, model: str, number: int | str, graph: bytes = GRAPH) -> Path:
    """Write a version that can be read, unless the graph says otherwise; return its folder."""
    folder = root / model / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(graph)
    return folder


def spoil(folder: Path) -> None:
    """Cut a version's graph short."""
    file = folder / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-1])
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def config(root: Path, models: Mapping[str, str]) -> str:
    """Return a model config file; `models` has more fields by the model's name."""
    platform = 'model_platform: "tensorflow"'
    entries = (f'name: "{n}" base_path: "{root / n}" {platform} {more}' for n, more in models.items())
    return "model_config_list {\n" + "".join(f"  config {{ {entry} }}\n" for entry in entries) + "}\n"


TWO = "model_version_policy { latest { num_versions: 2 } }"


def label(name: str, number: int) -> str:
    """Return a label's field."""
    return f' version_labels {{ key: "{name}" value: {number} }}'
