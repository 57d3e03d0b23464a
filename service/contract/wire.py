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
