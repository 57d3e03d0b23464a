"""Requests as messages: what REST's bodies say. The only place that fills them."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from seqserve.client import errors
from seqserve.client.asking import Ask, Which
from seqserve.client.errors import ServiceError, Violation
from seqserve.v1 import model_pb2, sequence_pb2, session_pb2, translation_pb2


def selector(which: Which) -> model_pb2.ModelSelector:
    """Return which model is to answer."""
    return model_pb2.ModelSelector(name=which.name, version=which.version, label=which.label)


def translate(ask: Ask) -> translation_pb2.TranslateRequest:
    """Return a TranslateRequest."""
    options = {name: value for name, value in ask.body.items() if name != "texts"}
    return translation_pb2.TranslateRequest(
        model=selector(ask.which), texts=ask.body["texts"], options=options
    )


def predict(ask: Ask) -> sequence_pb2.PredictRequest:
    """Return a PredictRequest."""
    options = {name: value for name, value in ask.body.items() if name != "sequences"}
    given = ask.body["sequences"]
    sequences = [_sequence(one, f"#/sequences/{i}", len(given)) for i, one in enumerate(given)]
    return sequence_pb2.PredictRequest(model=selector(ask.which), sequences=sequences, **options)


def append(ask: Ask) -> session_pb2.AppendRequest:
    """Return an AppendRequest."""
    options = {name: value for name, value in ask.body.items() if name != "sequence"}
    events = _sequence(ask.body["sequence"], "#/sequence", 1)
    return session_pb2.AppendRequest(
        model=selector(ask.which), session_id=ask.session, sequence=events, **options
    )


def by_id(kind: type[Message], ask: Ask) -> Any:
    """Return a message of a kind that names a session alone."""
    return kind(model=selector(ask.which), session_id=ask.session)


def _sequence(given: Mapping[str, Any], place: str, among: int) -> sequence_pb2.Sequence:
    features = {}
    for name, values in given.items():
        try:
            features[name] = _feature(values)
        except ServiceError as error:
            fault = Violation(f"{place}/{name}", error.message, error.reason)
            # others of the list may be at fault as well
            raise type(error)(error.message, errors=[fault], left_out=among - 1) from None
    return sequence_pb2.Sequence(features=features)


def _feature(values: Any) -> sequence_pb2.Feature:
    """Return a feature; one that is None has no member set, which the service refuses."""
    if values is None:
        return sequence_pb2.Feature()
    if isinstance(values, Mapping):
        stamps = [_timestamp(value) for value in values["timestamps"]]
        return sequence_pb2.Feature(timestamps=sequence_pb2.Timestamps(values=stamps))
    listed = values if isinstance(values, (list, tuple)) else [values]
    if any(isinstance(value, str) for value in listed):
        return sequence_pb2.Feature(strings=sequence_pb2.Strings(values=listed))
    return sequence_pb2.Feature(numbers=_numbers(listed))


def _timestamp(value: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(value)
    return stamp


def _numbers(values: Sequence[Any]) -> sequence_pb2.Numbers:
    rows = [value if isinstance(value, (list, tuple)) else (value,) for value in values]
    width = len(rows[0]) if rows else 1
    for step, row in enumerate(rows):
        if len(row) != width:
            raise errors.WrongWidth(f"step {step} has {len(row)} columns, the first has {width}")
    return sequence_pb2.Numbers(values=[number for row in rows for number in row], width=width)
