"""Protobuf's wire format without the messages: enough to see whether a file is whole."""

from collections.abc import Iterator

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: number, and value (of a nested message its bytes).

    Raises:
        ValueError: it is cut short, or no message.
    """
    message = Empty()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError("it is cut short, or no message") from error
    unknown = UnknownFieldSet(message)
    for place in range(len(unknown)):
        yield unknown[place].field_number, unknown[place].data


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it.

    Raises:
        ValueError: the data end before it.
    """
    value = shift = 0
    while place < len(data):
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 0x80:
            return value, place
    raise ValueError("it is cut short")
