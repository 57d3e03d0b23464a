"""How gRPC asks for each task of `service.core.tasks`: one row a task; a task without one is REST's alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from seqserve.service.contract.items import Body, Item
from seqserve.service.core import tasks
from seqserve.service.core.types import Answered
from seqserve.service.rpc import convert
from seqserve.service.rpc.faults import Field, dotted
from seqserve.v1 import sequence_pb2, translation_pb2


@dataclass(frozen=True, slots=True)
class Streamed:
    """A task's method that sends results as they come, and its messages.

    Args:
        request: has the task's own request in a field named as its verb, and a `ResultOrder order`.
        response: has a `ModelVersion model`, an `index`, and a `result`.
        result: converts an item; what it is given names a violation's place in the request.
    """

    method: str
    request: type[Message]
    response: Callable[..., Message]
    result: Callable[[Item, Field], Message]


@dataclass(frozen=True, slots=True)
class Rpc:
    """A task's method and its messages.

    Args:
        service: full name.
        request: has a `ModelSelector model`, and its items in a field named as the body's member.
        body: converts a request; an absent option is left out, for the body's default.
        response: converts an answer.
        field: names a violation's place in the request.
        streamed: the same, as results come; None: there is no such method.
    """

    service: str
    method: str
    request: type[Message]
    body: Callable[[Any], Body]
    response: Callable[[Answered], Message]
    field: Field = dotted
    streamed: Streamed | None = None


Rpcs = Mapping[str, Rpc]
"""Rows by the task's name."""

RPCS: Rpcs = {
    tasks.TRANSLATION.name: Rpc(
        service=translation_pb2.DESCRIPTOR.services_by_name["TranslationService"].full_name,
        method="Translate",
        request=translation_pb2.TranslateRequest,
        body=convert.translate_body,
        response=convert.translate_response,
        field=convert.translate_field,
        streamed=Streamed(
            "TranslateStream",
            translation_pb2.TranslateStreamRequest,
            translation_pb2.TranslateStreamResponse,
            convert.translate_result,
        ),
    ),
    tasks.SEQUENCE.name: Rpc(
        service=sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"].full_name,
        method="Predict",
        request=sequence_pb2.PredictRequest,
        body=convert.predict_body,
        response=convert.predict_response,
        field=convert.predict_field,
        streamed=Streamed(
            "PredictStream",
            sequence_pb2.PredictStreamRequest,
            sequence_pb2.PredictStreamResponse,
            convert.predict_result,
        ),
    ),
}
