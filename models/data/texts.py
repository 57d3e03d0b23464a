"""Parallel texts: files in two languages whose lines say the same."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from seqserve.models.config import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation."""

    source: str
    target: str


def read_pairs(folder: Path, split: str, source: str, target: str) -> list[Pair]:
    """Read SPLIT.SOURCE and SPLIT.TARGET, line by line, gzipped or not.

    Raises:
        ConfigInvalid: a file is missing, or the two have different numbers of lines.
    """
    texts = [_lines(folder, f"{split}.{language}") for language in (source, target)]
    if len(texts[0]) != len(texts[1]):
        raise ConfigInvalid(
            f"{folder}: {split} has {len(texts[0])} {source} and {len(texts[1])} {target} lines"
        )
    return [Pair(*pair) for pair in zip(*texts, strict=True)]


def read_columns(file: Path) -> list[Pair]:
    """Read a source, a tab and its translation a line, gzipped or not; what follows another tab is no text.

    Raises:
        ConfigInvalid: there is no such file, or a line that is not empty has no tab.
    """
    pairs = []
    for number, line in enumerate(_lines_of(file), 1):
        source, tab, rest = line.partition("\t")
        if not tab and line:
            raise ConfigInvalid(f"{file} line {number}: a source, a tab and its translation are expected")
        if tab:
            pairs.append(Pair(source.strip(), rest.partition("\t")[0].strip()))
    return pairs


def _lines(folder: Path, name: str) -> list[str]:
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            return _lines_of(path)
    raise ConfigInvalid(f"{folder}: neither {name}.gz nor {name} exists")


def _lines_of(path: Path) -> list[str]:
    try:
        packed = path.read_bytes()
        text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigInvalid(f"{path}: it cannot be read or unpacked: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: {error}; save it as UTF-8") from error
    # splitlines() would also cut at characters that stand inside a line
    return [line.strip() for line in text.removesuffix("\n").split("\n")]
