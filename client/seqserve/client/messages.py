"""Requests as messages: what REST's bodies say. The only place that fills them."""

from collections.abc import Mapping, Sequence
from reprlib import repr as shown
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from seqserve.client import errors
from seqserve.client.asking import Ask, Which
from seqserve.client.checking import escaped, fault_in, wrong
from seqserve.client.errors import ServiceError
from seqserve.v1 import model_pb2, sequence_pb2, session_pb2, translation_pb2

UNFIT = (TypeError, ValueError, AttributeError, OverflowError)
"""What a message raises that is given a value of another kind, or one beyond its field's."""
EXAMPLE = "2026-05-01T09:30:00+02:00"


def selector(which: Which) -> model_pb2.ModelSelector:
    """Return which model is to answer."""
    return model_pb2.ModelSelector(name=which.name, version=which.version, label=which.label)


def translate(ask: Ask) -> translation_pb2.TranslateRequest:
    """Return a TranslateRequest."""
    options = {name: value for name, value in ask.body.items() if name != "texts"}
    texts = ask.body["texts"]
    try:
        return translation_pb2.TranslateRequest(model=selector(ask.which), texts=texts, options=options)
    except UNFIT as error:
        fault = fault_in(texts, "#/texts") or wrong("#/texts", f"the texts fit no message: {error}")
    fault.left_out = len(texts) - 1  # others of the list may be at fault as well
    raise fault from None


def predict(ask: Ask) -> sequence_pb2.PredictRequest:
    """Return a PredictRequest."""
    options = {name: value for name, value in ask.body.items() if name != "sequences"}
    given = ask.body["sequences"]
    try:
        sequences = [_sequence(one, f"#/sequences/{i}") for i, one in enumerate(given)]
    except ServiceError as fault:
        fault.left_out = len(given) - 1
        raise
    return sequence_pb2.PredictRequest(model=selector(ask.which), sequences=sequences, **options)


def append(ask: Ask) -> session_pb2.AppendRequest:
    """Return an AppendRequest."""
    options = {name: value for name, value in ask.body.items() if name != "sequence"}
    events = _sequence(ask.body["sequence"], "#/sequence")
    return session_pb2.AppendRequest(
        model=selector(ask.which), session_id=ask.session, sequence=events, **options
    )


def by_id(kind: type[Message], ask: Ask) -> Any:
    """Return a message of a kind that names a session alone."""
    return kind(model=selector(ask.which), session_id=ask.session)


def _sequence(given: Mapping[str, Any], place: str) -> sequence_pb2.Sequence:
    try:
        return sequence_pb2.Sequence(
            features={name: _feature(values, place, name) for name, values in given.items()}
        )
    except UNFIT as error:
        fault = fault_in(given, place) or wrong(place, f"the sequence fits no message: {error}")
    raise fault from None


def _feature(values: Any, place: str, name: str) -> sequence_pb2.Feature:
    """Return a feature; one that is None has no member set, which the service refuses."""
    if values is None:
        return sequence_pb2.Feature()
    pointer = f"{place}/{escaped(name)}"
    if isinstance(values, Mapping):
        return sequence_pb2.Feature(timestamps=_timestamps(values, pointer, name))
    listed = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(value, str) for value in listed):
        labels = [_label(value, step, pointer) for step, value in enumerate(listed)]
        return sequence_pb2.Feature(strings=sequence_pb2.Strings(values=labels))
    return sequence_pb2.Feature(numbers=_numbers(listed, pointer))


def _label(value: Any, step: int, pointer: str) -> str:
    """Return a label; a whole number among labels is one, as REST reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise wrong(f"{pointer}/{step}", f"step {step} is {shown(value)}, not a label")


def _timestamps(given: Mapping[str, Any], pointer: str, name: str) -> sequence_pb2.Timestamps:
    if set(given) != {"timestamps"} or not isinstance(given["timestamps"], (list, tuple)):
        raise wrong(pointer, f'{name!r}: an object is {{"timestamps": [...]}}')
    stamps = []
    for step, value in enumerate(given["timestamps"]):
        stamp = Timestamp()
        try:
            stamp.FromJsonString(value)
        except UNFIT:
            told = f"timestamp {step} is {shown(value)}, not RFC 3339 with an offset, as {EXAMPLE}"
            raise wrong(f"{pointer}/timestamps/{step}", told) from None
        stamps.append(stamp)
    return sequence_pb2.Timestamps(values=stamps)


def _numbers(values: Sequence[Any], pointer: str) -> sequence_pb2.Numbers:
    rows = [value if isinstance(value, (list, tuple)) else (value,) for value in values]
    width = len(rows[0]) if rows else 1
    for step, row in enumerate(rows):
        if len(row) != width:
            told = f"step {step} has {len(row)} columns, the first has {width}"
            raise wrong(pointer, told, errors.WrongWidth)
        if bool in map(type, row):  # which a message takes for 0 and 1
            raise wrong(f"{pointer}/{step}", f"step {step} is {shown(values[step])}, not a number")
    return sequence_pb2.Numbers(values=[number for row in rows for number in row], width=width)
