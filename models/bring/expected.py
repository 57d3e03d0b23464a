"""What a user's own code answers: the expected answers of a contract's examples, and of a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from seqserve.models.bring.answers import Wanted, names_labels, read_wanted
from seqserve.models.bring.contract import Contract, split_example
from seqserve.models.bring.trial_inputs import Sent
from seqserve.models.config import ConfigInvalid, unreadable
from seqserve.service.contract.features import Files, SequenceEncoder
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Head, Manifest, Sigmoid, Softmax
from seqserve.service.errors import InvalidArgument

ITEM = '{"FEATURE": [...], "expected": {"HEAD": ...}}'


@dataclass(frozen=True, slots=True)
class Expected:
    """A sequence as callers send it, and what is wanted of some heads; `field`: where it is written."""

    field: str
    sent: Sent
    heads: Mapping[str, Wanted]


def read_items(contract: Contract, file: Path | None) -> tuple[list[Expected], set[str]]:
    """Return the examples that have expected answers, the items of a file of JSON, and what names labels.

    Returns:
        The items, and the heads of labels whose labels are expected by name somewhere.

    Raises:
        ConfigInvalid: no such file, not JSON, or an answer that its head cannot give.
    """
    given = zip(contract.examples, contract.expected, strict=False)
    items = [
        (f"examples.{place}", sent, answers)
        for place, (sent, answers) in enumerate(given)
        if answers is not None
    ]
    items += _of_file(file) if file is not None else []
    heads = contract.manifest_heads()
    named = {
        name
        for _, _, answers in items
        for name, answer in (answers.items() if isinstance(answers, Mapping) else ())
        if names_labels(answer)
    }
    return [Expected(field, sent, _wanted(field, answers, heads)) for field, sent, answers in items], named


def _wanted(field: str, answers: Any, heads: Mapping[str, Head]) -> dict[str, Wanted]:
    known = ", ".join(map(repr, heads))
    if not isinstance(answers, Mapping) or not answers:
        raise ConfigInvalid(f"{field}.expected: {answers!r}, but a table by head is wanted: {known}")
    for name in answers:
        if name not in heads:
            raise ConfigInvalid(f"{field}.expected.{name}: the contract has no such head; it has {known}")
    return {
        name: read_wanted(f"{field}.expected.{name}", heads[name], answer) for name, answer in answers.items()
    }


def _of_file(file: Path) -> list[tuple[str, Any, Any]]:
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"--expect {file}: JSON, or an .npz, is expected: {error}") from error
    except OSError as error:
        raise ConfigInvalid(f"--expect {unreadable(file, error).message}") from error
    items = []
    for number, plain in _objects(file, text):
        sent, answers = split_example(plain)
        if not isinstance(plain, dict) or answers is None:
            raise ConfigInvalid(f"--expect {file}: item {number} is no {ITEM}")
        items.append((f"{file.name} item {number}", sent, answers))
    if not items:
        raise ConfigInvalid(f"--expect {file}: it has no items; one is {ITEM}")
    return items


def _objects(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield each object of a JSON list, or of a file with one a line, and its number."""
    whole = text.lstrip().startswith("[")
    for number, part in enumerate([text] if whole else filter(str.strip, text.splitlines()), 1):
        try:
            plain = orjson.loads(part)
        except orjson.JSONDecodeError as error:
            where = "" if whole else f"line {number}: "
            raise ConfigInvalid(f"--expect {file}: {where}{error}; one item a line is {ITEM}") from error
        yield from enumerate(plain, 1) if whole else [(number, plain)]


def check_sent(expected: list[Expected], manifest: Manifest, files: Files) -> None:
    """Refuse items that would be refused when they are served.

    Raises:
        ConfigInvalid: naming the item, the feature and why.
    """
    encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
    for one in expected:
        try:
            encoder.encode(one.sent)
        except InvalidArgument as error:
            place = ".".join(map(str, (one.field, *error.path)))
            raise ConfigInvalid(f"{place}: {error.message}") from error


def check_origin(expected: list[Expected], manifest: Manifest) -> None:
    """Refuse an origin of elapsed time that the items themselves contradict.

    Raises:
        ConfigInvalid: naming the feature and the other origin.
    """
    for name, feature in manifest.features.items():
        if feature.kind != "elapsed":
            continue
        rows = [one.sent[name] for one in expected if isinstance(one.sent.get(name), list)]
        ends = [(row[0], row[-1]) for row in rows if len(row) > 1 and all(map(_is_number, row))]
        other = "last" if feature.origin == "previous" else "previous"
        zero, late = (-1, 0) if other == "last" else (0, -1)
        if ends and all(pair[zero] == 0 for pair in ends) and all(pair[late] > 0 for pair in ends):
            which, opposite = ("last", "first") if other == "last" else ("first", "last")
            raise ConfigInvalid(
                f"features.{name}.origin: {feature.origin!r}, but in each of {len(ends)} expected items the "
                f'time of the {which} event is 0 and that of the {opposite} is not: origin = "{other}"'
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def unproven(contract: Contract, named: set[str]) -> list[str]:
    """Say of each head of labels whose labels nobody expects by name that their order is not compared."""
    return [
        f"heads.{name}.labels: their order is not compared: expect a label by name"
        for name, head in contract.manifest_heads().items()
        if isinstance(head, Softmax | Sigmoid) and name not in named
    ]
