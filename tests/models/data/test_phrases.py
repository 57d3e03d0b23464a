"""The phrases are right, say the same in both languages, and no value is in two splits."""

import re
from collections import Counter

import pytest
from num2words import num2words

from seqserve.models.data.phrases import Split, phrase_pairs
from seqserve.models.data.texts import Pair

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
WORDS = {num2words(n, to=form): n for form in ("cardinal", "ordinal") for n in range(100)}
NAME = f"({'|'.join(MONTHS)})[a-z]*"
DATES = {  # the first that is found, and the places of year, month and day among its groups
    re.compile(rf"{NAME} (\d\d?)(?:st|nd|rd|th)?, \d\d(\d\d)"): (2, 0, 1),
    re.compile(rf"(\d\d?) {NAME} \d\d(\d\d)"): (2, 1, 0),
    re.compile(r"(\d+)/(\d+)/(?:\d\d)?(\d\d)"): (2, 0, 1),
    re.compile(rf"{NAME} (\d\d?)\b(?:st|nd|rd|th)?"): (None, 0, 1),
    re.compile(rf"{NAME} (\d\d?)(?:st|nd|rd|th)"): (None, 0, 1),
    re.compile(rf"(\d\d?) {NAME}"): (None, 1, 0),
    re.compile(r"(\d+)/(\d+)"): (None, 0, 1),
    re.compile(rf"{NAME} \d\d(\d\d)"): (1, 0, None),
}
TIME = re.compile(r"(\d+)(?::(\d\d))?(?::(\d\d))?(?: ?([AP])M)", re.IGNORECASE)
TIME_OF_24 = re.compile(r"(\d+):(\d\d)")
NAMED = {
    "noon": ("time", (12, 0, 0)),
    "midnight": ("time", (0, 0, 0)),
    "a hundred": ("number", 100),
    "a thousand": ("number", 1000),
}

BY_EYE = [
    ("Friday, August 19, 2039, 1:15:55 AM", "Freitag, 19. August 2039, 01:15:55"),
    ("Jul 4, 1992", "04.07.1992"),
    ("May 17, 1958", "17. Mai 1958"),
    ("Apr 1, 1978", "01.04.1978"),
    ("01/01/2030", "01.01.2030"),
    ("1/10/63", "10.01.63"),
    ("May 3rd, 2011", "3. Mai 2011"),
    ("1 January 1957", "1. Januar 1957"),
    ("8 PM", "20 Uhr"),
    ("July 4", "4. Juli"),
    ("July 4th", "4. Juli"),
    ("May 25", "25. Mai"),
    ("1/4", "4.1."),
    ("Wednesday, February 14", "Mittwoch, 14. Februar"),
    ("September 2009", "September 2009"),
    ("12:01 AM", "00:01"),
    ("3:21 PM", "15:21"),
    ("4:45am", "04:45"),
    ("15:52", "15:52"),
    ("6am", "06 Uhr"),
    ("noon", "Mittag"),
    ("midnight", "Mitternacht"),
    ("seventeen", "siebzehn"),
    ("one hundred", "einhundert"),
    ("a hundred", "hundert"),
    ("four hundred eighty", "vierhundertachtzig"),
    ("seven hundred and fourteenth", "siebenhundertvierzehnte"),
    ("ninety-four thousand and fifty-five", "vierundneunzigtausendfünfundfünfzig"),
    ("19th", "19."),
    ("€227.46", "227,46 €"),
    ("5.8%", "5,8 %"),
    ("12.5 percent", "12,5 %"),
]


@pytest.fixture(scope="module")
def splits() -> dict[Split, list[Pair]]:
    return {
        "train": phrase_pairs("train", 60_000, seed=7),
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


def _date(english: str) -> tuple[int | None, ...] | None:
    """Read year (its last two digits), month and day; None for what is not said."""
    for pattern, places in DATES.items():
        if found := pattern.search(english):
            said = [None if place is None else found.groups()[place] for place in places]
            return tuple(
                MONTHS.index(part) + 1 if part in MONTHS else None if part is None else int(part)
                for part in said
            )
    return None


def _time(english: str) -> tuple[int, int, int] | None:
    if found := TIME.search(english):
        hour, minute, second, half = found.groups()
        return int(hour) % 12 + 12 * (half in "pP"), int(minute or 0), int(second or 0)
    found = TIME_OF_24.search(english)
    return (int(found[1]), int(found[2]), 0) if found else None


def _values(english: str) -> dict[str, object]:
    """Read the values a phrase says, by kind, with none of the code that wrote it."""
    if english in NAMED:
        return dict([NAMED[english]])
    values: dict[str, object] = {"date": _date(english), "time": _time(english)}
    values = {kind: value for kind, value in values.items() if value is not None}
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


@pytest.mark.parametrize(("english", "german"), BY_EYE)
def test_pairs_checked_by_eye(splits: dict[Split, list[Pair]], english: str, german: str) -> None:
    assert Pair(english, german) in splits["train"]


def test_test_phrases_are_distinct_and_of_every_kind(splits: dict[Split, list[Pair]]) -> None:
    test = splits["test"]
    assert len(set(test)) == len(test) == 2_000
    kinds = Counter(
        "+".join(_values(pair.source))
        + "€"[: pair.source[0] in "€$£"]
        + "%"[: bool(re.search("%|percent", pair.source))]
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
