"""Directories of models and versions: which there are, which are served, and whether a file has changed.

Names, sizes and times are all that is read here, and no TensorFlow is needed.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from seqserve.service.backend.model_config import ModelConfigFile, ModelEntry
from seqserve.service.contract.digest import version_files


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Where the models lie: as a model config file says, or else one folder each under the root.

    Without a file the two newest versions of a model are served, and there are no labels.
    """

    root: Path
    config: ModelConfigFile | None = None

    def names(self) -> list[str]:
        """Return the configured models, or every folder of the root that holds a numbered folder."""
        if self.config is not None:
            return sorted(self.config.entries())
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if path.is_dir() and path.name[0] != ".")
        return sorted(path.name for path in folders if version_folders(path))

    def entry(self, model: str) -> ModelEntry:
        """Return a model's folder, policy and labels; one that is not configured may lie under the root."""
        configured = self.config.entries() if self.config is not None else {}
        return configured.get(model) or ModelEntry(model, self.root / model)


def version_folders(folder: Path) -> dict[int, Path]:
    """Return the version directories in a model's folder by number, newest first; of 7 and 007 the former."""
    if not folder.is_dir():
        return {}
    paths = (path for path in sorted(folder.iterdir()) if path.name.isdecimal() and path.is_dir())
    return dict(sorted({int(path.name): path for path in paths}.items(), reverse=True))


def stamp_of(folder: Path) -> Hashable:
    """Return a value that changes when a file of the version does: each path, size and time."""
    stats = ((path.relative_to(folder), path.stat()) for path in version_files(folder))
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
