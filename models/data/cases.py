"""Training data: parallel texts, event logs, and their batches.

A batch is a function of (seed, epoch) alone, so a resumed run sees what an uninterrupted one would.
Used by `models.train` and `models.evaluate`; encoding is `service.contract`'s, as in serving.
"""

import csv
import datetime
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.manifest import SpecialIds

COLUMNS = ("CaseID", "ActivityID", "CompleteTimestamp")
AUTUMN_SECONDS = 3600.0
ROUNDING = 1e-9
END = "[END]"
"""The label of what follows a sequence's last event."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and its translation."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Case:
    """One complete event sequence: labels, and the time of each in seconds from the first."""

    events: tuple[str, ...]
    seconds: tuple[float, ...]


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


def _lines(folder: Path, name: str) -> list[str]:
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            packed = path.read_bytes()
            text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
            # splitlines() would also cut at characters that stand inside a line
            return [line.strip() for line in text.removesuffix("\n").split("\n")]
    raise ConfigInvalid(f"{folder}: neither {name}.gz nor {name} is there")


def read_log(path: Path) -> list[Case]:
    """Read an event log: CaseID, ActivityID, CompleteTimestamp, a case's events contiguous, in order.

    Raises:
        ConfigInvalid: the file or a column is missing, a row cannot be read, or time runs backwards.
    """
    cases: dict[str, tuple[list[str], list[float]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            rows = csv.DictReader(file)
            for row in rows:
                _read_row(row, cases, f"{path} line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigInvalid(f"{path}: {error}") from error
    if not cases:
        raise ConfigInvalid(f"{path}: no case is in it")
    found = ((events, _seconds(times, f"{path} case {key}")) for key, (events, times) in cases.items())
    return [Case(tuple(events), seconds) for events, seconds in found]


def _read_row(row: dict[str, str], cases: dict[str, tuple[list[str], list[float]]], where: str) -> None:
    for column in COLUMNS:
        if not row.get(column):
            raise ConfigInvalid(f"{where}: {column} is missing; the columns are {', '.join(COLUMNS)}")
    case, event, stamp = (row[column] for column in COLUMNS)
    try:
        time = datetime.datetime.fromisoformat(stamp)
    except ValueError as error:
        raise ConfigInvalid(f"{where}: CompleteTimestamp: {error}") from error
    events, times = cases.setdefault(case, ([], []))
    events.append(event)
    # a stamp without an offset is local time: only differences count
    times.append((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())


def _seconds(times: Sequence[float], where: str) -> tuple[float, ...]:
    """Return seconds from the first event; an hour lost in autumn stands still, more is an error."""
    seconds = np.asarray(times) - times[0]
    steady = np.maximum.accumulate(seconds)
    if (steady - seconds).max() > AUTUMN_SECONDS:
        place = int((steady - seconds).argmax())
        raise ConfigInvalid(f"{where}: event {place + 1} is earlier than one before it; order them by time")
    return tuple(steady.tolist())


def train_tokenizer(
    texts: Sequence[str], vocabulary_size: int, special: SpecialIds, character_coverage: float = 1.0
) -> bytes:
    """Train a SentencePiece unigram model on the texts; returns its file's bytes.

    Args:
        character_coverage: share of the texts' characters that get a piece, the commonest first.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,  # fewer pieces where the texts do not have that many
        character_coverage=character_coverage,
        split_digits=True,  # numbers are spelled digit by digit, so that unseen ones can be written
        pad_id=special.pad,
        unk_id=special.unknown,
        bos_id=special.start,
        eos_id=special.end,
        num_threads=1,  # the result does not depend on the machine
        minloglevel=2,
    )
    return model.getvalue()


def epoch_batches(lengths: Sequence[float], batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yield the row indices of each batch of an epoch: shuffled, rows of like length together.

    Rows are sorted within pools of 50 batches only, so batches differ from epoch to epoch.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    pool = 50 * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(np.asarray(lengths)[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    for index in random.permutation(len(batches)):
        yield batches[index]


def scale_of(values: np.ndarray) -> np.ndarray:
    """Return each column's deviation, of (rows, …), to divide by; 1 for one constant but for rounding."""
    deviation = values.std(axis=0)
    return np.where(deviation > ROUNDING * np.maximum(1.0, np.abs(values.mean(axis=0))), deviation, 1.0)


def pad_right(rows: Sequence[np.ndarray], value: float) -> np.ndarray:
    """Stack rows of different lengths into one array, padded on the right with `value`."""
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), longest, *rows[0].shape[1:]), value, rows[0].dtype)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out
