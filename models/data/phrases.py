"""Phrases: dates, times and numbers in English and in German, translation data that needs no download.

CLDR (babel) and num2words write both languages, by CLDR's own styles and as people write (`12/25/2026`,
`July 4th`, `3pm`, `one hundred five`), so the English determines the German: a model can be right every time,
and a wrong answer is the model's fault.

Every phrase states a *value*: a date of 1950 to 2049 (two digits of the year are enough), a day of any year,
a month of a year, a time of day, a number, or a date and a time. A hash deals the values to the splits, so a
value of the test split occurs in no other split in any form, not even as half of a date with a time. What has
a word of its own (`seventeen`, `forty`, `noon`), and so every whole hour (`20 Uhr`), is always a training
value, as nothing else could teach the word.

Narrow and no-break spaces are written as plain ones.
"""

import datetime
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Literal, NamedTuple, TypeVar

from babel import Locale
from babel.dates import format_date, format_time
from babel.numbers import format_currency, format_decimal, format_percent
from num2words import num2words

from seqserve.models.data.texts import Pair

Split = Literal["train", "validation", "test"]


class Day(NamedTuple):
    """A day of any year."""

    month: int
    day: int


class Month(NamedTuple):
    """A month of a year."""

    year: int
    month: int


Value = datetime.date | datetime.time | Decimal | Day | Month
DateStyle = Literal["full", "long", "medium", "short"]
TimeStyle = Literal["medium", "short"]

ENGLISH, GERMAN = Locale("en", "US"), Locale("de", "DE")
LOCALES = (ENGLISH, GERMAN)
DATE_STYLES: tuple[DateStyle, ...] = ("full", "long", "medium", "short")
TIME_STYLES: tuple[TimeStyle, ...] = ("medium", "short")
CURRENCIES = ("EUR", "USD", "GBP")
FIRST_DAY = datetime.date(1950, 1, 1)
DAYS = (datetime.date(2050, 1, 1) - FIRST_DAY).days
LEAP_YEARS = range(1952, 2050, 4)
MAY = 5
NAMED_SHARE = 0.1
"""Of the training times and numbers, those that are said by a name alone."""
TH = "{th}"
"""In an English pattern, the day as `1st`."""
DATE_PATTERNS = (
    ("M/d/y", "dd.MM.y"),
    ("MM/dd/y", "dd.MM.y"),
    ("MMMM {th}, y", "d. MMMM y"),
    ("d MMMM y", "d. MMMM y"),
)
"""How people write a date, in CLDR's letters: English and German."""
DAY_PATTERNS = (
    ("MMMM d", "d. MMMM"),
    ("MMMM d", "d. MMMM"),
    ("MMM d", "d. MMMM"),
    ("MMMM {th}", "d. MMMM"),
    ("d MMMM", "d. MMMM"),
    ("M/d", "d.M."),
    ("EEEE, MMMM d", "EEEE, d. MMMM"),
)
HOUR_PATTERNS = (("h a", "HH 'Uhr'"), ("ha", "HH 'Uhr'"))
TIME_PATTERNS = (("h:mm a", "HH:mm"), ("h:mma", "HH:mm"), ("HH:mm", "HH:mm"))
NAMED_TIMES = (("noon", "Mittag"), ("midnight", "Mitternacht"))
NAMED_AMOUNTS = (("a hundred", "hundert"), ("a thousand", "tausend"))
NAMED_NUMBERS = (*range(20), *range(20, 100, 10), 100, 1000)
NAMED: frozenset[Value] = frozenset([*map(Decimal, NAMED_NUMBERS), *map(datetime.time, range(24))])
PLAIN_SPACES = str.maketrans("\u00a0\u202f", "  ")

V = TypeVar("V", datetime.date, datetime.time, Decimal, Day, Month)


def phrase_pairs(split: Split, count: int, seed: int) -> list[Pair]:
    """Draw `count` pairs of an English phrase and the German one, the same for the same seed.

    Training pairs may repeat, as short numbers are likelier than long ones; in validation and test all
    phrases are distinct.
    """
    return list(islice(drawn_pairs(split, seed), count))


def drawn_pairs(split: Split, seed: int) -> Iterator[Pair]:
    """Draw such pairs without an end: dates with times are too many to run out."""
    draw = _Draw(split, seed)
    seen: set[Pair] = set()
    while True:
        pair = draw.pair()
        if split == "train" or pair not in seen:
            seen.add(pair)
            yield pair


def split_of(value: Value) -> Split:
    """Return the split of a value: one in ten goes to test, one in ten to validation."""
    if value in NAMED:
        return "train"
    tenth = int.from_bytes(hashlib.blake2b(_text(value).encode(), digest_size=4).digest(), "big") % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


def _text(value: Value) -> str:
    match value:
        case Decimal():
            return f"{value.normalize():f}"
        case Day() | Month():
            return f"{value}"
    return value.isoformat()


class _Draw:
    """Draws values of one split, and phrases that state them."""

    def __init__(self, split: Split, seed: int) -> None:
        self._split = split
        self._random = random.Random(seed)

    def pair(self) -> Pair:
        """Draw a kind, a value and a form."""
        (write,) = self._random.choices(_WRITERS, _WEIGHTS)
        english, german = write(self)
        return Pair(english.translate(PLAIN_SPACES), german.translate(PLAIN_SPACES))

    def date(self) -> list[str]:
        """A date, in one of CLDR's four styles or as people write it."""
        value, style = self._date(), self._random.choice((*DATE_STYLES, *DATE_PATTERNS))
        if isinstance(style, tuple):
            return _write_by(style, value)
        return [_write_date(value, style, locale) for locale in LOCALES]

    def day(self) -> list[str]:
        """A day without its year, sometimes with a weekday."""
        below, choice = self._random.randrange, self._random.choice
        value = self._of_split(lambda: _day_of(FIRST_DAY + datetime.timedelta(below(DAYS))))
        return _write_by(choice(DAY_PATTERNS), datetime.date(choice(LEAP_YEARS), value.month, value.day))

    def month(self) -> list[str]:
        """A month of a year."""
        below = self._random.randrange
        value = self._of_split(lambda: Month(1950 + below(100), 1 + below(12)))
        return _write_by(("MMMM y", "MMMM y"), datetime.date(value.year, value.month, 1))

    def time(self) -> list[str]:
        """A time of day, with or without seconds or minutes, or one with a name."""
        if self._split == "train" and self._random.random() < NAMED_SHARE:
            return list(self._random.choice(NAMED_TIMES))
        return self._clock_time()

    def date_and_time(self) -> list[str]:
        """A date with a time, joined as CLDR joins them."""
        return [f"{date}, {time}" for date, time in zip(self.date(), self._clock_time(), strict=True)]

    def cardinal(self) -> list[str]:
        """A whole number below a million in words, or one with a name."""
        if self._split == "train" and self._random.random() < NAMED_SHARE:
            return list(self._random.choice(NAMED_AMOUNTS))
        value = self._whole(6)
        # num2words writes 101000 as "einhunderteintausend".
        return [self._spoken(value), num2words(value, lang="de").replace("einstausend", "eintausend")]

    def ordinal(self) -> list[str]:
        """An ordinal below a thousand, in words or as `21st`."""
        value = self._whole(3)
        if self._random.random() < 0.2:
            return [num2words(value, to="ordinal_num"), f"{value}."]
        return [num2words(value, lang=language, to="ordinal") for language in ("en", "de")]

    def decimal(self) -> list[str]:
        """A number in digits."""
        value = self._number(6, self._random.randrange(3))
        return [format_decimal(value, locale=locale) for locale in LOCALES]

    def percent(self) -> list[str]:
        """A share, to a tenth of a percent at most, sometimes with the word."""
        share = self._number(2, self._random.randrange(2)) / 100
        written = [format_percent(share, locale=locale, decimal_quantization=False) for locale in LOCALES]
        if self._random.random() < 0.3:
            written[0] = written[0].replace("%", " percent")
        return written

    def amount(self) -> list[str]:
        """An amount of money, with its cents or a whole one without."""
        places = self._random.choice((2, 2, 0))
        value, currency = self._number(5, places), self._random.choice(CURRENCIES)
        written = (format_currency(value, currency, locale=locale) for locale in LOCALES)
        return [re.sub(r"[.,]00\b", "", text) if places == 0 else text for text in written]

    def _date(self) -> datetime.date:
        return self._of_split(lambda: FIRST_DAY + datetime.timedelta(self._random.randrange(DAYS)))

    def _clock_time(self) -> list[str]:
        """Write a time in one of CLDR's styles, or as people do: `3 PM`, `3:15pm`, `15:15`."""
        styles: list[TimeStyle | tuple[tuple[str, str], ...]]
        styles = [*TIME_STYLES, *TIME_STYLES, TIME_PATTERNS]
        if self._split == "train":  # whole hours are training values
            styles.append(HOUR_PATTERNS)
        style = self._random.choice(styles)
        if isinstance(style, str):
            value = self._time(style)
            return [format_time(value, style, locale=locale) for locale in LOCALES]
        below = self._random.randrange
        minutes = 1 if style is HOUR_PATTERNS else 60
        value = self._of_split(lambda: datetime.time(below(24), below(minutes)))
        patterns = zip(self._random.choice(style), LOCALES, strict=True)
        english, german = (format_time(value, pattern, locale=locale) for pattern, locale in patterns)
        return [self._random.choice((english, english.lower())), german]

    def _whole(self, longest: int) -> int:
        """Draw a whole number of up to `longest` digits; people like round ones, so a third is rounded."""
        below = self._random.randrange

        def draw() -> Decimal:
            digits = 1 + below(longest)
            unit = 10 ** (below(digits) if below(3) == 0 else 0)
            return Decimal(below(10**digits) // unit * unit)

        return int(self._of_split(draw))

    def _spoken(self, value: int) -> str:
        """Write a number in words, as in Britain (`one hundred and five`) or as in America, without `and`."""
        written: str = num2words(value)
        american = written.replace(" and ", " ").replace(",", "")
        return self._random.choice((written, american))

    def _time(self, style: TimeStyle) -> datetime.time:
        """Draw a time of day; one that is written without seconds has none."""
        below = self._random.randrange
        seconds = 60 if style == "medium" else 1
        return self._of_split(lambda: datetime.time(below(24), below(60), below(seconds)))

    def _number(self, longest: int, places: int) -> Decimal:
        """Draw a number of 1 to `longest` digits (each as likely) before the point and `places` after."""
        below = self._random.randrange
        return self._of_split(lambda: Decimal(below(10 ** (1 + below(longest) + places))).scaleb(-places))

    def _of_split(self, draw: Callable[[], V]) -> V:
        while split_of(value := draw()) != self._split:
            pass
        return value


def _write_date(value: datetime.date, style: DateStyle, locale: Locale) -> str:
    """Write a date; May is its own abbreviation, so its English medium style would be the long one too."""
    if style == "medium" and value.month == MAY:
        style = "long"
    return format_date(value, style, locale=locale)


def _write_by(patterns: tuple[str, str], value: datetime.date) -> list[str]:
    """Write a date by an English and a German pattern."""
    nth = f"'{num2words(value.day, to='ordinal_num')}'"
    pairs = zip(patterns, LOCALES, strict=True)
    return [format_date(value, pattern.replace(TH, nth), locale=locale) for pattern, locale in pairs]


def _day_of(date: datetime.date) -> Day:
    return Day(date.month, date.day)


_MIX = {
    _Draw.date: 19,
    _Draw.day: 8,
    _Draw.month: 2,
    _Draw.time: 12,
    _Draw.date_and_time: 12,
    _Draw.cardinal: 20,
    _Draw.ordinal: 8,
    _Draw.decimal: 7,
    _Draw.percent: 3,
    _Draw.amount: 9,
}
_WRITERS, _WEIGHTS = tuple(_MIX), tuple(_MIX.values())
