"""A user's translator served answers as its own loop does: compared, and a difference explained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from seqserve.models.bring.translation.alone import Alone
from seqserve.models.bring.translation.contract import Source, TranslationExample
from seqserve.models.bring.translation.vocabularies import MARKS
from seqserve.models.bring.words import Piece
from seqserve.models.check.pipeline import Pipeline
from seqserve.models.check.served import served_texts
from seqserve.models.config import ConfigInvalid, faults_of
from seqserve.service.errors import FailedPrecondition, SeqserveError

TIE = 1e-5
"""Of log p: two pieces so close may change places on another device."""
NOT_COMPARED = "not compared with your model's own answers: give expected in [[examples]], or --expect FILE"
TRIED, SHOWN = 6, 3
"""Differences that an explanation has to explain, and those that are shown."""


class AnswersDiffer(FailedPrecondition):
    """A served answer is not what the user's own code gives; the message shows where, and why."""

    reason = "ANSWERS_DIFFER"


@dataclass(frozen=True, slots=True)
class Expected:
    """What the user's own loop gives for a text."""

    field: str
    source: str
    translation: str


def read_expected(examples: Sequence[TranslationExample], file: Path | None) -> list[Expected]:
    """Return the examples that have a translation, and the lines of a file of JSON objects.

    Raises:
        ConfigInvalid: no such file, or a line is no `{"source": …, "translation": …}`.
    """
    given = [
        Expected(f"examples.{place}", example.source, example.expected)
        for place, example in enumerate(examples)
        if example.expected is not None
    ]
    return given if file is None else [*given, *_lines(file)]


def _lines(file: Path) -> Iterator[Expected]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"--expect {file}: {error}") from error
    for number, line in enumerate(filter(str.strip, lines), 1):
        try:
            plain = orjson.loads(line)
            example = TranslationExample(source=plain["source"], expected=plain["translation"])
        except ValidationError as error:
            raise ConfigInvalid(f"--expect {file}: line {number}: {faults_of(error)}") from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigInvalid(
                f'--expect {file}: line {number} is no {{"source": "…", "translation": "…"}}'
            ) from error
        yield Expected(f"{file.name} line {number}", example.source, str(example.expected))


async def compare(
    loaded: Pipeline, expected: Sequence[Expected], alone: Alone | None = None
) -> dict[str, Any]:
    """Answer every text through the served path, in batches, and compare.

    Args:
        alone: finds what explains a difference; None where the graph's loop is its own.

    Returns:
        How many were compared, how many are equal, and how many differ by a tie alone.

    Raises:
        AnswersDiffer: naming the first piece that differs, and what would make the answers equal.
    """
    got = await _served(loaded, expected)
    wrong = [
        (one, text)
        for one, text in zip(expected, got, strict=True)
        if text.strip() != one.translation.strip()
    ]
    if alone is not None:
        wrong = [(one, text) for one, text in wrong if not _same_pieces(alone, one)]
    if not wrong:
        return {"compared": len(expected), "equal": len(expected)}
    ties = [pair for pair in wrong if alone is not None and _is_tie(_first(alone, pair[0]))]
    wrong = [pair for pair in wrong if pair not in ties]
    if wrong:
        raise AnswersDiffer(_message(wrong, len(expected), alone))
    return {"compared": len(expected), "equal": len(expected) - len(ties), "ties": len(ties)}


async def _served(loaded: Pipeline, expected: Sequence[Expected]) -> list[str]:
    answered = await served_texts(loaded, [one.source for one in expected])
    for one, text in zip(expected, answered, strict=True):
        if isinstance(text, SeqserveError):
            raise AnswersDiffer(f"{one.field}: {one.source!r} is refused: {text.message}")
    return [text for text in answered if isinstance(text, str)]


def _same_pieces(alone: Alone, one: Expected) -> bool:
    """Say whether the text is the same as the vocabulary writes it: served, unknown words are replaced."""
    return alone.translate([one.source])[0].text.strip() == one.translation.strip()


@dataclass(frozen=True, slots=True)
class _Difference:
    """The first piece that differs: its place, and each piece with its log p."""

    place: int
    wanted: str
    wanted_log_p: float
    got: str
    got_log_p: float

    def __str__(self) -> str:
        return (
            f"piece {self.place + 1}: {self.wanted!r} is expected (log p {self.wanted_log_p:.4g}), the model "
            f"writes {self.got!r} ({self.got_log_p:.4g})"
        )


def _is_tie(first: _Difference | None) -> bool:
    return first is not None and abs(first.wanted_log_p - first.got_log_p) <= TIE


def _first(alone: Alone, one: Expected) -> _Difference | None:
    """Return the first piece that differs; None where the texts alone do."""
    end = alone.target.special.end or 0
    try:
        wanted = _pieces(alone, one.translation)
    except SeqserveError as error:
        return _Difference(0, f"{one.translation} ({error.message})", float("-inf"), "", 0.0)
    got = alone.translate([one.source])[0].ids
    pairs = zip_longest(wanted, got, fillvalue=end)
    place = next((at for at, (a, b) in enumerate(pairs) if a != b), None)
    if place is None:
        return None
    pieces = [ids[place] if place < len(ids) else end for ids in (wanted, got)]
    log_p = alone.log_p(one.source, got[:place])
    shown = [_piece(alone, piece) for piece in pieces]
    return _Difference(place, shown[0], float(log_p[pieces[0]]), shown[1], float(log_p[pieces[1]]))


def _pieces(alone: Alone, translation: str) -> list[int]:
    """Return the ids of words as the loop wrote them, which the vocabulary's own edits may change."""
    ids = {entry: number for number, entry in alone.target.entries.items()}
    words = translation.split()
    if all(word in ids for word in words):
        return [ids[word] for word in words]
    return alone.target.vocabulary.encode(translation)


def _piece(alone: Alone, piece: int) -> str:
    return "the end" if piece == alone.target.special.end else alone.target.vocabulary.decode([piece])


def _message(wrong: Sequence[tuple[Expected, str]], count: int, alone: Alone | None) -> str:
    lines = [f"{len(wrong)} of {count} translations are not those of your own loop"]
    for one, text in wrong[:SHOWN]:
        found = _first(alone, one) if alone is not None else None
        first = f"; {found}" if found is not None else ""
        lines.append(f"{one.field}: {one.source!r} gives {text!r}, {one.translation!r} is expected{first}")
    if alone is not None:
        why = _explanation(alone, [one for one, _ in wrong[:TRIED]])
        lines.append(f"They are equal with {why}" if why else "None of the usual causes makes them equal")
    return ". ".join(lines)


def _explanation(alone: Alone, wrong: Sequence[Expected]) -> str | None:
    """Return the first of the usual causes that makes all of them equal."""
    usual = [written.text for written in alone.translate([one.source for one in wrong])]
    if all(got.split() == _unmarked(alone, one) for got, one in zip(usual, wrong, strict=True)):
        return "the end (or start) mark taken off the expected translations"
    for cause, change in _ON_TEXTS.items():
        if all(change(got, one.translation) for got, one in zip(usual, wrong, strict=True)):
            return cause
    for cause, changed, lowered in _variants(alone, wrong):
        if all(_explains(changed, one, lowered) for one in wrong):
            return cause
    return None


def _unmarked(alone: Alone, one: Expected) -> list[str]:
    """Return the words of an expected translation but for the marks."""
    marks = {alone.target.entry(mark) for mark in (alone.target.special.start, alone.target.special.end)}
    return [word for word in one.translation.split() if word not in marks]


def _explains(changed: Alone, one: Expected, lowered: bool) -> bool:
    try:
        (got,) = changed.translate([one.source.lower() if lowered else one.source])
    except (SeqserveError, ConfigInvalid):
        return False
    return got.text.strip() == one.translation.strip()


def _cut_short(got: str, wanted: str) -> bool:
    one, other = got.strip(), wanted.strip()
    return bool(one and other) and one != other and (one.startswith(other) or other.startswith(one))


_ON_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "lower-casing: they differ in case alone": lambda got, wanted: got.lower() == wanted.lower(),
    "white space: they differ in it alone": lambda got, wanted: (
        "".join(got.split()) == "".join(wanted.split())
    ),
    "another length limit (target.length): one is the beginning of the other": _cut_short,
}


def _variants(alone: Alone, wrong: Sequence[Expected]) -> Iterator[tuple[str, Alone, bool]]:
    """Yield what usually explains a difference, the translator read so, and whether texts are lowered."""
    if alone.narrowed is not None:
        yield "no --shortlist-from: a piece is no candidate", replace(alone, narrowed=None), False
    yield "lower-cased sources: a step of the source (lower) is missing", alone, True
    source = alone.contract.source
    yield (
        f"source.reverse = {str(not source.reverse).lower()}",
        _with(alone, reverse=not source.reverse),
        False,
    )
    longest = max((len(alone.source.vocabulary.encode(one.source)) for one in wrong), default=1)
    if source.length is None:
        for length in (longest, *range(longest + 1, longest + 12), 20, 30, 40, 50):
            cause = "source.length = {}: in your loop padding is not masked".format
            yield cause(length), _with(alone, length=length), False
            yield cause(length) + ', padding = "left"', _with(alone, length=length, padding="left"), False
    else:
        other = "left" if source.padding == "right" else "right"
        yield f'source.padding = "{other}"', _with(alone, padding=other), False
        yield (
            f'source.reverse = {str(not source.reverse).lower()}, source.padding = "{other}"',
            _with(alone, reverse=not source.reverse, padding=other),
            False,
        )
        open_ended = _with(alone, length=None, padding="right")
        yield "no source.length: your loop does not pad, or masks padding", open_ended, False
    for start, shown in _starts(alone):
        yield f"target.start = {shown!r}", _started(alone, start), False


def _with(alone: Alone, **changes: Any) -> Alone:
    source: Source = alone.contract.source.model_copy(update=changes)
    contract = alone.contract.model_copy(update={"source": source})
    reading = replace(alone.reading, reverse=source.reverse, left=source.reverse and source.padding == "left")
    return replace(alone, contract=contract, reading=reading)


def _starts(alone: Alone) -> Iterator[tuple[int, Piece]]:
    """Yield other pieces that a loop may begin with, as the contract names them: the usual marks first."""
    special = alone.target.special
    usual = [piece for pair in MARKS for piece in pair]
    by_entry = {entry: number for number, entry in alone.target.entries.items()}
    ids = [by_entry[mark] for mark in usual if mark in by_entry]
    for number in dict.fromkeys([*ids, special.end, special.pad, 0, 1, 2, 3]):
        if number not in (None, special.start, special.unknown) and number < alone.target.vocabulary.size:
            yield number, alone.target.entry(number) or number


def _started(alone: Alone, start: int) -> Alone:
    special = alone.target.special.model_copy(update={"start": start})
    tokens = alone.target.tokens.model_copy(update={"special_ids": special})
    return replace(alone, target=replace(alone.target, tokens=tokens))
