"""The phrases are right, say the same in both languages, and no value is in two splits."""

import re
from collections import Counter

import pytest
from num2words import num2words

from seqserve.models.data.phrases import Split, phrase_pairs
from seqserve.models.data.texts import Pair

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
WORDS = {num2words(n, to=form): n for form in ("cardinal", "ordinal") for n in range(100)}
DATE = re.compile(r"([A-Z][a-z]{2})[a-z]* (\d+), \d\d(\d\d)|(\d+)/(\d+)/(\d\d)")
TIME = re.compile(r"(\d+):(\d\d)(?::(\d\d))? ([AP]M)")

BY_EYE = [
    ("train", "Wednesday, February 6, 2013, 2:26:21 AM", "Mittwoch, 6. Februar 2013, 02:26:21"),
    ("train", "Sep 29, 1984, 11:22 PM", "29.09.1984, 23:22"),
    ("train", "May 25, 1994", "25. Mai 1994"),
    ("train", "12:03 AM", "00:03"),
    ("train", "12:41:03 PM", "12:41:03"),
    ("train", "seventeen", "siebzehn"),
    ("train", "seven hundred and ninety-eighth", "siebenhundertachtundneunzigste"),
    ("train", "eight hundred and one thousand and ninety-three", "achthunderteintausenddreiundneunzig"),
    ("train", "€2,419.60", "2.419,60 €"),
    ("train", "5.8%", "5,8 %"),
]


@pytest.fixture(scope="module")
def splits() -> dict[Split, list[Pair]]:
    return {
        "train": phrase_pairs("train", 20_000, seed=7),
        "validation": phrase_pairs("validation", 2_000, seed=7),
        "test": phrase_pairs("test", 2_000, seed=7),
    }


def _number(words: str) -> float:
    total = current = 0
    for word in words.replace(",", "").replace(" and ", " ").split():
        if word == "thousand":
            total, current = total + 1000 * current, 0
        else:
            current = 100 * current if word.startswith("hundred") else current + WORDS[word]
    return total + current


def _values(english: str) -> dict[str, object]:
    """Read the values a phrase says, by kind, with none of the code that wrote it."""
    values: dict[str, object] = {}
    if date := DATE.search(english):
        name, *spelled, month, day, year = date.groups()
        values["date"] = (
            (MONTHS.index(name) + 1, *map(int, spelled)) if name else (int(month), int(day), int(year))
        )
    if time := TIME.search(english):
        hour, minute, second, half = time.groups()
        values["time"] = (int(hour) % 12 + 12 * (half == "PM"), int(minute), int(second or 0))
    if values:
        return values
    return {"number": _number(english) if english[0].islower() else float(re.sub(r"[^\d.]", "", english))}


def test_no_value_is_in_two_splits_in_any_form(splits: dict[Split, list[Pair]]) -> None:
    values = {
        split: {v for pair in pairs for v in _values(pair.source).items()} for split, pairs in splits.items()
    }
    assert not values["train"] & values["test"]
    assert not values["train"] & values["validation"]
    assert not values["validation"] & values["test"]


def test_the_english_determines_the_german(splits: dict[Split, list[Pair]]) -> None:
    pairs = {pair for split in splits.values() for pair in split}
    assert len({pair.source for pair in pairs}) == len(pairs) > 15_000


@pytest.mark.parametrize(("split", "english", "german"), BY_EYE)
def test_pairs_checked_by_eye(
    splits: dict[Split, list[Pair]], split: Split, english: str, german: str
) -> None:
    assert Pair(english, german) in splits[split]


def test_test_phrases_are_distinct_and_of_every_kind(splits: dict[Split, list[Pair]]) -> None:
    test = splits["test"]
    assert len(set(test)) == len(test) == 2_000
    kinds = Counter(
        "+".join(_values(pair.source)) + "€"[: pair.source[0] in "€$£"] + "%"[: "%" in pair.source]
        for pair in test
    )
    words = sum(pair.source[0].islower() for pair in test)
    assert set(kinds) == {"date", "time", "date+time", "number", "number€", "number%"}
    assert min(*kinds.values(), words) >= 40


def test_only_plain_spaces_and_one_line(splits: dict[Split, list[Pair]]) -> None:
    for pair in splits["train"]:
        assert " ".join(pair.source.split()) == pair.source
        assert " ".join(pair.target.split()) == pair.target


def test_the_seed_decides() -> None:
    assert phrase_pairs("test", 50, seed=1) == phrase_pairs("test", 50, seed=1)
    assert phrase_pairs("test", 50, seed=1) != phrase_pairs("test", 50, seed=2)
