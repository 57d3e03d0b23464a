"""Counts a message's fields in its bytes, before it is parsed: what parsing it costs goes by them.

Only texts and messages in a message become objects; a message that holds neither counts as one field, like a
list of numbers, whatever its length.
"""

import asyncio
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from seqserve.service import errors
from seqserve.service.core.turns import Turn

TURN = 4096
"""Fields that are counted before others have their turn: about a millisecond."""
PIECE = 128 * 1024
"""Bytes that are looked at, at a time: a tenth of a millisecond."""
TAG, TAG_BEGINS, NOTHING_FOLLOWS = 1, 2, 3
"""Classes of bytes, by which objects' tags are found."""
VARINT, FIXED64, LENGTH, _, _, FIXED32 = range(6)
MORE = 0x80
"""The bit of a number's byte that says that another follows."""
LONGEST_NUMBER = 10
OBJECTS = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
Table = Mapping[int, Any]
"""By number, the fields that are messages with objects in them: their own tables."""


async def check_fields(raw: bytes, kind: Any, most: int) -> None:
    """Refuse a message of too many fields; others have their turn meanwhile.

    Args:
        kind: the message's descriptor.

    Raises:
        MalformedMessage: it has more than `most`.
    """
    if len(raw) // 2 <= most or not await _may_have_more(raw, kind, most):
        return
    for counted in count_fields(raw, kind):
        if counted > most:
            message = f"the message has more than {most} fields (texts, labels, timestamps, …), the limit"
            raise errors.MalformedMessage(f"{message} (SEQSERVE_GRPC_FIELDS)", limit="grpc_fields")
        await asyncio.sleep(0)


async def _may_have_more(raw: bytes, kind: Descriptor, most: int) -> bool:
    turn = Turn()
    for found in most_objects(raw, kind):
        if found > most:
            return True
        if turn.is_over():
            await turn.end()
    return False


def most_objects(raw: bytes, kind: Descriptor) -> Iterator[int]:
    """Yield how many objects a message has at most: how often their tags occur, be it as something else.

    It is told after every `PIECE` bytes of those so far, and mostly far below what would have to be counted.
    """
    classes, found = _classes(kind), 0
    for begin in range(0, len(raw), PIECE):
        piece = np.frombuffer(raw[begin : begin + PIECE + 1].translate(classes), np.uint8)
        # a tag may be longer than it need be: its first byte then says that another follows, and that is 0
        long = (piece[:-1] == TAG_BEGINS) & (piece[1:] == NOTHING_FOLLOWS)
        found += int(np.count_nonzero(piece[:PIECE] == TAG)) + int(np.count_nonzero(long))
        yield found


def count_fields(raw: bytes, kind: Descriptor) -> Iterator[int]:
    """Yield how many fields have been found so far, every `TURN` of them and at the end.

    Where the bytes are no message it goes on somehow: parsing will tell.
    """
    octets = raw + bytes(LONGEST_NUMBER)  # so that a number that is cut short ends
    within: list[tuple[int, Table]] = [(len(raw), _table(kind))]
    position = count = 0
    while within:
        end, table = within[-1]
        while position < end:
            if count % TURN == 0:
                yield count
            tag, position = _number(octets, position)
            count += 1
            if tag & 7 == LENGTH:
                length, position = _number(octets, position)
                if (inner := table.get(tag >> 3)) is not None:
                    within.append((min(position + length, end), inner))
                    break
                position += length
            else:
                position = _after(octets, position, tag & 7)
        else:
            within.pop()
    yield count


def _number(octets: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = octets[position]
    if value < MORE:
        return value, position + 1
    value, shift = 0, 0
    while octets[position] >= MORE:
        value |= (octets[position] & ~MORE) << shift
        position, shift = position + 1, shift + 7
    return value | octets[position] << shift, position + 1


def _after(octets: bytes, position: int, wire: int) -> int:
    """Return the position after a value that is no text, message or list."""
    if wire == VARINT:
        return _number(octets, position)[1]
    return position + {FIXED64: 8, FIXED32: 4}.get(wire, 0)  # a group has a tag at its end, and no more


@cache
def _table(kind: Descriptor) -> Table:
    return {
        field.number: _table(field.message_type)
        for field in kind.fields
        if field.message_type is not None and _object_tags(field.message_type)
    }


@cache
def _classes(kind: Descriptor) -> bytes:
    """Return what each byte may be, for bytes.translate."""
    classes = bytearray(256)
    for tag in _object_tags(kind):
        classes[tag], classes[tag | MORE] = TAG, TAG_BEGINS
    classes[0] = classes[MORE] = NOTHING_FOLLOWS
    return bytes(classes)


@cache
def _object_tags(kind: Descriptor) -> frozenset[int]:
    """Return the tags of the objects in a message of a kind, and in all of them; each is one byte."""
    objects = [field for field in kind.fields if field.type in OBJECTS]
    inner = [_object_tags(field.message_type) for field in objects if field.message_type is not None]
    return frozenset(field.number << 3 | LENGTH for field in objects).union(*inner)
