"""Phrases: dates, times and numbers in English and in German, translation data that needs no download.

CLDR (babel) and num2words write both languages, so the English determines the German: a model can be right
every time, and a wrong answer is the model's fault.

Every phrase states a *value*: a date of 1950 to 2049 (two digits of the year are enough), a time of day, a
number, or a date and a time. A hash deals the values to the splits, so a value of the test split occurs in no
other split in any form, not even as half of a date with a time. Numbers that have a word of their own
(`seventeen`, `forty`) are always training values, as nothing else could teach the word.

Narrow and no-break spaces are written as plain ones.
"""

import datetime
import hashlib
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeVar

from babel import Locale
from babel.dates import format_date, format_time, get_datetime_format
from babel.numbers import format_currency, format_decimal, format_percent
from num2words import num2words

from seqserve.models.data.texts import Pair

Split = Literal["train", "validation", "test"]
Value = datetime.date | datetime.time | Decimal
DateStyle = Literal["full", "long", "medium", "short"]
TimeStyle = Literal["medium", "short"]

ENGLISH, GERMAN = Locale("en", "US"), Locale("de", "DE")
LOCALES = (ENGLISH, GERMAN)
DATE_STYLES: tuple[DateStyle, ...] = ("full", "long", "medium", "short")
TIME_STYLES: tuple[TimeStyle, ...] = ("medium", "short")
CURRENCIES = ("EUR", "USD", "GBP")
FIRST_DAY = datetime.date(1950, 1, 1)
DAYS = (datetime.date(2050, 1, 1) - FIRST_DAY).days
MAY = 5
NAMED_NUMBERS = frozenset(Decimal(n) for n in (*range(20), *range(20, 100, 10), 100, 1000))
PLAIN_SPACES = str.maketrans("\u00a0\u202f", "  ")

V = TypeVar("V", datetime.date, datetime.time, Decimal)


def phrase_pairs(split: Split, count: int, seed: int) -> list[Pair]:
    """Draw `count` pairs of an English phrase and the German one, the same for the same seed.

    Training pairs may repeat, as short numbers are likelier than long ones; in validation and test all
    phrases are distinct.
    """
    draw = _Draw(split, seed)
    pairs: list[Pair] = []
    seen: set[Pair] = set()
    while len(pairs) < count:  # ends: dates with times are too many to run out
        pair = draw.pair()
        if split == "train" or pair not in seen:
            seen.add(pair)
            pairs.append(pair)
    return pairs


def split_of(value: Value) -> Split:
    """Return the split of a value: one in ten goes to test, one in ten to validation."""
    if value in NAMED_NUMBERS:
        return "train"
    text = f"{value.normalize():f}" if isinstance(value, Decimal) else value.isoformat()
    tenth = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


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
        """A date, in one of CLDR's four styles."""
        value, style = self._date(), self._random.choice(DATE_STYLES)
        return [_write_date(value, style, locale) for locale in LOCALES]

    def time(self) -> list[str]:
        """A time of day, with or without seconds."""
        style = self._random.choice(TIME_STYLES)
        value = self._time(style)
        return [format_time(value, style, locale=locale) for locale in LOCALES]

    def date_and_time(self) -> list[str]:
        """A date with a time, joined as CLDR joins them."""
        date, date_style = self._date(), self._random.choice(DATE_STYLES)
        time_style = self._random.choice(TIME_STYLES)
        time = self._time(time_style)
        return [
            str(get_datetime_format(date_style, locale=locale))
            .replace("{1}", _write_date(date, date_style, locale))
            .replace("{0}", format_time(time, time_style, locale=locale))
            for locale in LOCALES
        ]

    def cardinal(self) -> list[str]:
        """A whole number below a million in words."""
        value = int(self._number(6, 0))
        # num2words writes 101000 as "einhunderteinstausend".
        return [num2words(value), num2words(value, lang="de").replace("einstausend", "eintausend")]

    def ordinal(self) -> list[str]:
        """An ordinal below a thousand in words."""
        value = int(self._number(3, 0))
        return [num2words(value, lang=language, to="ordinal") for language in ("en", "de")]

    def decimal(self) -> list[str]:
        """A number in digits."""
        value = self._number(6, self._random.randrange(3))
        return [format_decimal(value, locale=locale) for locale in LOCALES]

    def percent(self) -> list[str]:
        """A share, to a tenth of a percent at most."""
        share = self._number(2, self._random.randrange(2)) / 100
        return [format_percent(share, locale=locale, decimal_quantization=False) for locale in LOCALES]

    def amount(self) -> list[str]:
        """An amount of money."""
        value, currency = self._number(5, 2), self._random.choice(CURRENCIES)
        return [format_currency(value, currency, locale=locale) for locale in LOCALES]

    def _date(self) -> datetime.date:
        return self._of_split(lambda: FIRST_DAY + datetime.timedelta(self._random.randrange(DAYS)))

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


_MIX = {
    _Draw.date: 30,
    _Draw.time: 11,
    _Draw.date_and_time: 14,
    _Draw.cardinal: 20,
    _Draw.ordinal: 7,
    _Draw.decimal: 8,
    _Draw.percent: 4,
    _Draw.amount: 6,
}
_WRITERS, _WEIGHTS = tuple(_MIX), tuple(_MIX.values())
