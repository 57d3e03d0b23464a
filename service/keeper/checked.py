"""A copy of a model config file with which TensorFlow Serving starts, and goes on following its edits.

At a start it gives up, for every model, when one version cannot be loaded, and it waits without end for a
model that has no version. In a file that it follows, such a model keeps every later edit from being taken,
and so does a label moved to a version that is not loaded (server_core.cc: WaitUntilModelsAvailable and
UpdateModelVersionLabelMap). The copy leaves out the versions that cannot be read, the models without a
version, and the labels of versions that are not served, until they can be had.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from google.protobuf import text_format

from seqserve.service.backend.model_config import ModelEntry, entry_of, parse_model_config
from seqserve.service.keeper.readable import Reader, numbered
from seqserve.tfserving.config_pb2 import ModelConfig, ModelServerConfig, ServableVersionPolicy

Reason = Literal[
    "CONFIG_INVALID",
    "FIELD_UNKNOWN",
    "NO_VERSION",
    "VERSION_UNREADABLE",
    "LABEL_NOWHERE",
    "LABEL_WAITS",
    "KEEPER_FAILED",
]
HEADER = "# A checked copy: what it lacks cannot be had, and the keeper's log says why. Edit the original.\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and stays the same fault when only the wording of `why` changes."""

    reason: Reason
    why: str = field(compare=False)
    model: str = ""
    version: str = ""
    label: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.why}"


@dataclass(frozen=True, slots=True)
class Checked:
    """The copy's text, the versions of each model that it has served, and what is wrong."""

    text: str
    versions: Mapping[str, frozenset[int]]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Model:
    """One model of the copy; none where it has no version to serve."""

    config: ModelConfig | None
    versions: frozenset[int]
    faults: tuple[Fault, ...]


def check(
    text: str, reader: Reader, root: Path | None = None, held: Mapping[str, frozenset[int]] | None = None
) -> Checked:
    """Check a file's models, versions and labels.

    Args:
        root: where the models' folders lie here; absent: at their base_path.
        held: versions by model that a running server has in memory: what becomes of their files does not
            end them before the next start.

    Raises:
        ValueError: the text is no model config file.
    """
    original = parsed(text)
    copy = ModelServerConfig()
    copy.model_config_list.SetInParent()
    versions: dict[str, frozenset[int]] = {}
    faults: list[Fault] = []
    for config in original.model_config_list.config:
        kept = _check_model(config, _folder(config, root), reader, (held or {}).get(config.name, frozenset()))
        versions[config.name] = kept.versions
        faults += kept.faults
        if kept.config is not None:
            copy.model_config_list.config.append(kept.config)
    if copy == original:
        return Checked(text, versions, tuple(faults))
    return Checked(HEADER + text_format.MessageToString(copy), versions, (*faults, *_unknown(text)))


def parsed(text: str) -> ModelServerConfig:
    """Return what a file's text says.

    Raises:
        ValueError: it is no model config file, or one that TensorFlow Serving refuses whole.
    """
    config = parse_model_config(text)
    for model in config.model_config_list.config:
        if not model.model_platform:
            raise ValueError(f'{model.name}: model_platform is empty; it has to be "tensorflow"')
    return config


def _folder(config: ModelConfig, root: Path | None) -> Path | None:
    """Return a model's folder; none where it lies in a store of objects, into which nobody looks here."""
    if "://" in config.base_path:
        return None
    return root / Path(config.base_path).name if root else Path(config.base_path)


def _check_model(config: ModelConfig, folder: Path | None, reader: Reader, held: frozenset[int]) -> _Model:
    if folder is None:
        return _Model(config, frozenset(), ())
    try:
        folders = numbered(folder)
        if not folders and _is_empty(folder.parent):
            # every model has gone at once: more likely the storage than somebody's wish
            return _unseen(config, held, f"{folder.parent} is empty or not there")
    except OSError as error:
        return _unseen(config, held, f"{error.filename}: {error.strerror}")
    entry = entry_of(config)
    good, bad = _choose(entry, folders, reader, held)
    faults = [
        Fault("VERSION_UNREADABLE", f"{entry.name} version {n} cannot be read: {why}", entry.name, str(n))
        for n, why in bad.items()
    ]
    if not good:
        return _left_out(entry.name, _why_none(folder, folders, bad), faults)
    is_usual = good == entry.kept(sorted(folders, reverse=True))
    return _copied(config, good, is_usual, faults)


def _is_empty(root: Path) -> bool:
    return not root.is_dir() or not any(root.iterdir())


def _unseen(config: ModelConfig, held: frozenset[int], why: str) -> _Model:
    """Return a model whose folder cannot be looked at: what a running server has of it stays as it is."""
    name = config.name
    if not held:
        return _left_out(name, why, [])
    fault = Fault("KEEPER_FAILED", f"{name} stays as it is: {why}", name)
    return _copied(config, sorted(held, reverse=True), False, [fault])


def _left_out(name: str, why: str, faults: list[Fault]) -> _Model:
    fault = Fault("NO_VERSION", f"{name} is left out: {why}", name)
    return _Model(None, frozenset(), (*faults, fault))


def _copied(config: ModelConfig, good: list[int], is_usual: bool, faults: list[Fault]) -> _Model:
    """Return a model that serves these versions, newest first; `is_usual`: its policy chooses the same."""
    copy = ModelConfig()
    copy.CopyFrom(config)
    if not is_usual:
        specific = ServableVersionPolicy.Specific(versions=sorted(good))
        copy.model_version_policy.CopyFrom(ServableVersionPolicy(specific=specific))
    astray = list(_astray(entry_of(config), good))
    for fault in astray:
        del copy.version_labels[fault.label]
    return _Model(copy, frozenset(good), (*faults, *astray))


def _choose(
    entry: ModelEntry, folders: Mapping[int, Path], reader: Reader, held: frozenset[int]
) -> tuple[list[int], dict[int, str]]:
    """Return the versions to serve, newest first, and why each that was passed over cannot be read."""
    good: list[int] = []
    bad: dict[int, str] = {}
    numbers = sorted(folders, reverse=True)
    for number in numbers if entry.latest is not None else entry.kept(numbers):
        if len(good) == entry.latest:
            break
        if why := reader.why_not(folders[number]):
            bad[number] = why
        if not why or number in held:
            good.append(number)
    return good, bad


def _why_none(folder: Path, folders: Mapping[int, Path], bad: Mapping[int, str]) -> str:
    if bad:
        return "none of its versions can be read"
    if folders:
        return f"its policy keeps none of the versions in {folder}"
    return f"{folder} has no version" if folder.is_dir() else f"{folder} is not there"


def _astray(entry: ModelEntry, good: list[int]) -> Iterator[Fault]:
    """Yield a fault for each label of a version that is not served."""
    for label, number in entry.labels.items():
        if number not in good:
            why = f"{entry.name}: label {label!r} is left out: version {number} is not among {sorted(good)}"
            yield Fault("LABEL_NOWHERE", why, entry.name, str(number), label)


def _unknown(text: str) -> Iterator[Fault]:
    """Yield a fault where the text has a field that is not known here: only an unchanged copy has it."""
    try:
        text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        yield Fault("FIELD_UNKNOWN", f"the copy lacks a field that is not known here: {error}")
