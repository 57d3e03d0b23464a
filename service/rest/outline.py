"""A large JSON body's outline: where the items of its list stand, found before anything is built of it.

orjson builds a body at once: 16 MiB of `[[],[],…` takes two seconds, in which nobody else is answered, and
half a gigabyte. So the structural characters (RFC 8259 §2: `[ ] { } , :`) outside strings are counted first,
by numpy and in pieces, and bounded; then the items are read one by one.

What is not JSON need not be found here: whoever reads the parts finds it, and parts that are JSON, put
together, are too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from seqserve.service import errors
from seqserve.service.contract.padding import Array

SHOWN = "[]{},:"
BLANKS = b" \t\r\n"
PIECE = 128 * 1024
"""Bytes that are looked at, at a time: a third of a millisecond."""
MOST_MEMBERS = 50
"""Members that an object of a body may have, sequences aside: each unknown one takes time to report."""
OTHER_MARKS = 10_000
"""Structural characters outside the list of items: names of heads are at most a thousand."""
ITEM_SHARE, BYTE_SHARE = 25, 4
"""One item may have such a part of the structural characters, and of the bytes, that a body may have: it is
read at once. All else together likewise."""
_QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = b'",:[]'
_TURN = np.zeros(256, np.int8)
"""What each character does to the depth."""
_TURN[list(b"[{")], _TURN[list(b"]}")] = 1, -1
_IS_MARK = bytes(character in b"[]{},:" for character in range(256))
"""For bytes.translate, which is quicker than numpy's look-up."""
_NEAR = 2
"""The depth at which the items lie: in a list, in an object."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a body may have.

    Args:
        data: bytes, decompressed.
        marks: structural characters.
        items: texts or sequences; a few more of them are only counted, many more are refused.
    """

    data: int
    marks: int
    items: int

    def check_part(self, name: str, data: int, marks: int) -> None:
        """Raise BodyTooLarge where a part, an item or all that is none, has more than its share."""
        for count, what, most, share, setting in (
            (data, "bytes", self.data, BYTE_SHARE, "max_message_bytes"),
            (marks, f"structural characters ({SHOWN})", self.marks, ITEM_SHARE, "max_json_marks"),
        ):
            if count > most // share:
                allowed = f"SEQSERVE_{setting.upper()} allows a whole body"
                limit = f"{most // share}: a {share}th of what {allowed}"
                message = f"{name} has {count} {what}, more than the limit of {limit}"
                raise errors.BodyTooLarge(message, limit=setting)


@dataclass(frozen=True, slots=True)
class Marks:
    """Structural characters of depth 2 at most, in order.

    Args:
        places: where they stand, (marks).
        characters: (marks).
        depths: of the brackets, what they are the ends of; of the others, what they lie in; (marks).
        numbers: how many of any depth stand before, (marks).
        count: how many of any depth there are in all.
    """

    places: Array
    characters: Array
    depths: Array
    numbers: Array
    count: int


class Items(Sequence[Any]):
    """The items of a list as they stand in a body, each read again whenever it is asked for.

    So a large list is never in memory as objects, which take ten times its bytes and more.
    """

    def __init__(self, data: bytes, begins: Array, ends: Array) -> None:
        self._data = memoryview(data)
        self._begins = begins
        self._ends = ends

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, place: Any) -> Any:
        """Return an item; raises orjson.JSONDecodeError where it is not JSON."""
        return orjson.loads(self._data[int(self._begins[place]) : int(self._ends[place])])


@dataclass(frozen=True, slots=True)
class Outline:
    """A body in parts.

    Args:
        rest: its JSON with `null` in the place of the list of items.
        items: of the list; None where it has none that could be found.
    """

    rest: bytes
    items: Items | None


def look(data: bytes, member: str, bounds: Bounds) -> Iterator[Marks | None]:
    """Yield None after each piece that was looked at, and last the marks.

    Args:
        member: of the object that the body is, the one that lists the items.

    Raises:
        BodyTooLarge: it has more of them than a body may have.
        TooManyItems; MalformedJson: so many are near that the list is too long, or there is much beside it;
            or a bracket or a string is not closed.
    """
    at, depth, count, inside, commas, others = 0, 0, 0, 0, 0, 0
    near: list[tuple[Array, Array, Array, Array]] = [(np.zeros(0, np.int64),) * 4]
    while at < len(data):
        piece = _without_escapes(data[at : at + PIECE])
        bytes_ = np.frombuffer(piece, np.uint8)
        quotes = np.cumsum(bytes_ == _QUOTE, dtype=np.uint8) + np.uint8(inside)
        places = np.flatnonzero(np.frombuffer(piece.translate(_IS_MARK), bool))
        places = places[quotes[places] & 1 == 0]
        characters = bytes_[places]
        turns = _TURN[characters]
        after = depth + np.cumsum(turns, dtype=np.int64)
        depths = after + (turns < 0)
        kept = np.flatnonzero(depths <= _NEAR)
        near.append((at + places[kept], characters[kept], depths[kept], count + kept))
        at, inside, count = at + len(piece), int(quotes[-1]) & 1, count + len(places)
        depth = int(after[-1]) if len(after) else depth
        if count > bounds.marks:
            limit = f"{bounds.marks} that SEQSERVE_MAX_JSON_MARKS allows; send fewer items at once"
            message = f"the body has more structural characters ({SHOWN}) than the {limit}"
            raise errors.BodyTooLarge(message, limit="max_json_marks")
        commas_here = int(np.count_nonzero(near[-1][1] == _COMMA))
        commas, others = commas + commas_here, others + len(kept) - commas_here
        _check_near(commas, others, member, bounds)
        yield None
    if depth or inside:
        what = "a string" if inside else f"{depth} brackets" if depth > 0 else "no bracket"
        raise errors.MalformedJson(f"the body is not JSON: {what} is open at its end, or one closes too many")
    places, characters, all_depths, numbers = (np.concatenate(part) for part in zip(*near, strict=True))
    yield Marks(places, characters, all_depths, numbers, count)


def _check_near(commas: int, others: int, member: str, bounds: Bounds) -> None:
    if others > OTHER_MARKS:
        raise errors.MalformedJson(f"an object has more than {MOST_MEMBERS} members, or {member} is no list")
    if commas > bounds.items + OTHER_MARKS:
        message = f"{member} has more than {commas - OTHER_MARKS} entries; the limit is {bounds.items}"
        raise errors.TooManyItems(message, path=(member,), limit="max_items")


def _without_escapes(piece: bytes) -> bytes:
    """Return a piece, as long, in which each quote is the beginning or the end of a string.

    One that ends amid an escape is cut before it.
    """
    if b"\\" not in piece:
        return piece
    plain = piece.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    return plain[:-1] if plain.endswith(b"\\") and len(plain) == PIECE else plain


def listed(data: bytes, marks: Marks, members: Sequence[str]) -> str:
    """Return the first of several members that is a list in a body; the first of all where none is."""
    return next((member for member in members if _list_of(data, marks, member) is not None), members[0])


def outline(data: bytes, marks: Marks, member: str, bounds: Bounds) -> Outline:
    """Return a body's outline.

    Args:
        member: of the object that the body is, the one that lists the items.

    Raises:
        MalformedJson: it has more members than any request has.
        BodyTooLarge: an item, or what is none, has more than its share of what a body may have.
    """
    found = _list_of(data, marks, member)
    if found is None:
        _check_others(len(data), marks.count, member, bounds)
        return Outline(data, None)
    first, last = found
    start, end = int(marks.places[first]), int(marks.places[last])
    marks_within = int(marks.numbers[last] - marks.numbers[first])
    _check_others(len(data) - (end - start), marks.count - marks_within, member, bounds)
    commas = first + np.flatnonzero(marks.characters[first:last] == _COMMA)
    begins, ends = np.insert(commas, 0, first), np.append(commas, last)
    left, right = marks.places[begins] + 1, marks.places[ends]
    _check_items(member, right - left, marks.numbers[ends] - marks.numbers[begins], bounds)
    if len(left) == 1 and not data[left[0] : right[0]].strip(BLANKS):
        left = right = left[:0]
    return Outline(b"null".join((data[:start], data[end + 1 :])), Items(data, left, right))


def _check_others(data: int, marks: int, member: str, bounds: Bounds) -> None:
    if marks > OTHER_MARKS:
        outside = f"{marks} structural characters ({SHOWN}) stand outside a list {member!r}"
        raise errors.MalformedJson(f"{outside}, more than any request has ({OTHER_MARKS})")
    bounds.check_part(f"the body without {member}", data, marks)


def _check_items(member: str, data: Array, marks: Array, bounds: Bounds) -> None:
    for largest in (int(data.argmax()), int(marks.argmax())):
        bounds.check_part(f"{member}[{largest}]", int(data[largest]), int(marks[largest]))


def _list_of(data: bytes, marks: Marks, member: str) -> tuple[int, int] | None:
    """Return which marks open and close the member's list; None where there is no such list.

    Of several members of that name the last counts, as orjson has it.
    """
    top = np.flatnonzero(marks.depths == 1)
    colons = top[marks.characters[top] == _COLON]
    if len(colons) > MOST_MEMBERS:
        raise errors.MalformedJson(f"an object has {len(colons)} members, more than {MOST_MEMBERS}")
    for colon in reversed(colons.tolist()):
        name = data[marks.places[colon - 1] + 1 : marks.places[colon]].strip(BLANKS)
        if name == b'"%s"' % member.encode():
            return _brackets_after(data, marks, colon)
    return None


def _brackets_after(data: bytes, marks: Marks, colon: int) -> tuple[int, int] | None:
    first = colon + 1
    if first == len(marks.places) or marks.characters[first] != _OPEN:
        return None
    ends = np.flatnonzero((marks.depths[first:] == _NEAR) & (_TURN[marks.characters[first:]] < 0))
    last = first + int(ends[0])
    between = data[marks.places[colon] + 1 : marks.places[first]]
    is_list = marks.characters[last] == _CLOSE and not between.strip(BLANKS)
    return (first, last) if is_list else None
