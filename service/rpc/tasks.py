"""How gRPC asks for each task of `service.core.tasks`: one row a task; a task without one is REST's alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from seqserve.service.contract.items import Body
from seqserve.service.core import tasks
from seqserve.service.core.types import Answered
from seqserve.service.rpc import convert
from seqserve.service.rpc.faults import Field, dotted
from seqserve.v1 import sequence_pb2, translation_pb2


@dataclass(frozen=True, slots=True)
class Rpc:
    """A task's method and its messages.

    Args:
        service: full name.
        request: has a `ModelSelector model`, and its items in a field named as the body's member.
        body: converts a request; an absent option is left out, for the body's default.
        response: converts an answer.
        field: names a violation's place in the request.
    """

    service: str
    method: str
    request: type[Message]
    body: Callable[[Any], Body]
    response: Callable[[Answered], Message]
    field: Field = dotted


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
    ),
    tasks.SEQUENCE.name: Rpc(
        service=sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"].full_name,
        method="Predict",
        request=sequence_pb2.PredictRequest,
        body=convert.predict_body,
        response=convert.predict_response,
        field=convert.predict_field,
    ),
}
