"""TensorFlow Serving's model config file: one file names the models for the server and for the gateway.

Format and meaning: https://www.tensorflow.org/tfx/serving/serving_config.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from google.protobuf import text_format

from seqserve.service.followed import Followed
from seqserve.tfserving.config_pb2 import ModelConfig, ModelServerConfig


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: where its versions lie, which of them are kept, and the labels that versions have."""

    name: str
    folder: Path
    latest: int | None = 2  # how many of the newest; None: all, or those of `specific`
    specific: frozenset[int] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    def kept(self, numbers: Sequence[int]) -> list[int]:
        """Return those of the version numbers, newest first, that the policy keeps."""
        if self.specific is not None:
            return [number for number in numbers if number in self.specific]
        return list(numbers[: self.latest])


class ModelConfigFile:
    """The file, read again whenever it changes; a change that cannot be read is logged, and has no effect."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises ValueError, naming the file, where that fails."""
        read = partial(read_model_config, path)
        self._entries = Followed("the model config file", [path], read, look_seconds=0)

    def entries(self) -> dict[str, ModelEntry]:
        """Return the models by name."""
        return self._entries.value()


def read_model_config(path: Path) -> dict[str, ModelEntry]:
    """Return the models that a file names.

    Raises:
        ValueError: it cannot be read, or does not name each model once, with an absolute path or a URI.
    """
    try:
        config = parse_model_config(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"model config file {path}: {error}") from error
    return {model.name: entry_of(model) for model in config.model_config_list.config}


def parse_model_config(text: str) -> ModelServerConfig:
    """Return what a file's text says; fields that are not known here are passed over.

    Raises:
        ValueError: it is no such text, or does not name each model once, with an absolute path or a URI.
    """
    try:
        config = text_format.Parse(text, ModelServerConfig(), allow_unknown_field=True)
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error
    names: set[str] = set()
    for model in config.model_config_list.config:
        if not model.name or model.name in names:
            raise ValueError(f"name {model.name!r} is empty or there twice")
        if not model.base_path.startswith("/") and "://" not in model.base_path:
            raise ValueError(f"{model.name}: base_path is no absolute path or URI")
        names.add(model.name)
    if not names:
        raise ValueError("model_config_list names no model")
    return config


def entry_of(model: ModelConfig) -> ModelEntry:
    """Return a model of the file."""
    policy, labels = model.model_version_policy, dict(model.version_labels)
    kind = policy.WhichOneof("policy_choice")
    latest = None if kind in ("all", "specific") else max(1, policy.latest.num_versions)
    specific = frozenset(policy.specific.versions) if kind == "specific" else None
    return ModelEntry(model.name, Path(model.base_path), latest, specific, labels)
