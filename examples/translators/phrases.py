"""What the four translators here share: the phrases they learn, their options, the file of their answers.

The phrases are the demo's whole dates that name their month, as `Feb 15, 1983` or `Sunday, April 1, 2012`,
each with its German. Words are all they need: other phrases have numbers that no list of words holds.
"""

import argparse
import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from seqserve.models.data.phrases import drawn_pairs

HELD_OUT = 200
SEED = 1
_DATE = re.compile(r"([A-Z][a-z]+, )?[A-Z][a-z]+ \d{1,2}, \d{4}")


class Phrase(NamedTuple):
    """A text and its translation."""

    source: str
    target: str


class Translation(NamedTuple):
    """What a greedy loop gives for one text."""

    text: str
    ids: list[int]  # as chosen, the end included where it came within the limit
    scores: list[float]  # log p of each


class Options(NamedTuple):
    """What the command line of each script says."""

    out: Path
    pairs: int
    epochs: int


def read_phrases(split: Literal["train", "validation"], count: int, longest: int = 100) -> list[Phrase]:
    """Return `count` phrases; `longest`: characters that a source may have."""
    pairs = (Phrase(pair.source, pair.target) for pair in drawn_pairs(split, SEED))
    wanted = (pair for pair in pairs if _DATE.fullmatch(pair.source) and len(pair.source) <= longest)
    return list(islice(wanted, count))


def read_options(page: str, arguments: Sequence[str] | None, out: str, pairs: int, epochs: int) -> Options:
    """Parse the command line; the rest are defaults."""
    parser = argparse.ArgumentParser(description=page.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder to write")
    parser.add_argument("--pairs", type=int, default=pairs, help="phrases to train on")
    parser.add_argument("--epochs", type=int, default=epochs)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    return Options(given.out, given.pairs, given.epochs)


def write_expected(folder: Path, sources: Sequence[str], translations: Sequence[str]) -> None:
    """Write expected.jsonl, a JSON object a line: what the model's own loop gives for each text."""
    lines = (
        json.dumps({"source": source, "translation": translation}, ensure_ascii=False) + "\n"
        for source, translation in zip(sources, translations, strict=True)
    )
    (folder / "expected.jsonl").write_text("".join(lines), "utf-8")


def share_right(translations: Sequence[str], wanted: Sequence[str]) -> float:
    """Return the share of translations that are exactly the wanted text."""
    return sum(a == b for a, b in zip(translations, wanted, strict=True)) / len(wanted)
