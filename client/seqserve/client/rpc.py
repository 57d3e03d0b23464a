"""The gRPC door: messages sent, answers and statuses read back. Needs the extra `grpc`."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seqserve.client import errors, messages, reading_messages as reading
from seqserve.client.access import Access, Tls
from seqserve.client.answers import Answers
from seqserve.client.asking import Ask, Kind
from seqserve.client.checking import escaped
from seqserve.client.errors import ServiceError, Violation, kind_of
from seqserve.v1 import model_pb2, sequence_pb2, session_pb2, translation_pb2

CHANNEL = [("grpc.max_receive_message_length", -1)]
LEFT_OUT = "violations_left_out"
"""The member of ErrorInfo's metadata that says how many faults did not fit."""
NOT_SENT = "failed to connect to all addresses"
"""How grpc begins to tell that there was no connection to send on."""
PART = re.compile(r'\[(?P<number>\d+)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]|\.?(?P<name>[^.\[\]]+)')


@dataclass(frozen=True, slots=True)
class _Method:
    path: str
    ask: Callable[[Ask], Message]
    answer: type[Message]
    read: Callable[[Any], Any]


def _method(path: str, ask: Callable[[Ask], Message], answer: Any, read: Callable[[Any], Any]) -> _Method:
    return _Method(f"/seqserve.v1.{path}", ask, answer, read)


def _list_of(member: str, read: Callable[[Any], Any]) -> Callable[[Any], Answers[Any]]:
    def answers(answer: Any) -> Answers[Any]:
        items = (
            item_error(one.error) if one.WhichOneof("outcome") == "error" else read(getattr(one, member))
            for one in answer.results
        )
        return Answers(reading.model_version(answer.model), tuple(items))

    return answers


def _session(answer: Any) -> Any:
    return reading.session(answer.session)


METHODS = {
    Kind.TRANSLATE: _method(
        "TranslationService/Translate",
        messages.translate,
        translation_pb2.TranslateResponse,
        _list_of("translation", reading.translation),
    ),
    Kind.PREDICT: _method(
        "SequenceService/Predict",
        messages.predict,
        sequence_pb2.PredictResponse,
        _list_of("prediction", reading.prediction),
    ),
    Kind.LIST_MODELS: _method(
        "ModelService/ListModels",
        lambda ask: model_pb2.ListModelsRequest(),
        model_pb2.ListModelsResponse,
        lambda answer: tuple(map(reading.model, answer.models)),
    ),
    Kind.GET_MODEL: _method(
        "ModelService/GetModel",
        lambda ask: model_pb2.GetModelRequest(name=ask.which.name),
        model_pb2.GetModelResponse,
        lambda answer: reading.model(answer.model),
    ),
    Kind.CREATE_SESSION: _method(
        "SessionService/CreateSession",
        lambda ask: session_pb2.CreateSessionRequest(model=messages.selector(ask.which)),
        session_pb2.CreateSessionResponse,
        _session,
    ),
    Kind.APPEND: _method(
        "SessionService/Append", messages.append, session_pb2.AppendResponse, reading.appended
    ),
    Kind.GET_SESSION: _method(
        "SessionService/GetSession",
        partial(messages.by_id, session_pb2.GetSessionRequest),
        session_pb2.GetSessionResponse,
        _session,
    ),
    Kind.DELETE_SESSION: _method(
        "SessionService/DeleteSession",
        partial(messages.by_id, session_pb2.DeleteSessionRequest),
        session_pb2.DeleteSessionResponse,
        lambda answer: None,
    ),
}


class Rpc:
    """Calls the gRPC door, blocking or not: by a channel of either kind."""

    def __init__(self, access: Access) -> None:
        """Raises OSError where a file of the access cannot be used."""
        self._address = access.address
        self._naming = tuple(access.naming.items())
        self._credentials = None
        if access.has_tls:
            tls = access.tls or Tls()
            tls.context()  # grpc itself says nothing of a file that is no certificate
            self._credentials = grpc.ssl_channel_credentials(*tls.contents())

    def blocking(self) -> "Blocking":
        """Return what sends by blocking."""
        return Blocking(self, self._channel(grpc))

    def awaiting(self) -> "Awaiting":
        """Return what sends by awaiting; on the loop that runs."""
        return Awaiting(self, self._channel(grpc.aio))

    def _channel(self, kind: Any) -> Any:
        if self._credentials is None:
            return kind.insecure_channel(self._address, CHANNEL)
        return kind.secure_channel(self._address, self._credentials, CHANNEL)

    def call(self, channel: Any, ask: Ask, seconds: float | None) -> Any:
        """Begin a call; raises ServiceError where no message can say what is asked."""
        method = METHODS[ask.kind]
        message = method.ask(ask)
        send = channel.unary_unary(
            method.path,
            request_serializer=type(message).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        return send(message, timeout=seconds, metadata=self._naming)

    def failed(self, error: Any) -> NoReturn:
        """Raise the error that a status is."""
        code, message = error.code().name, error.details() or ""
        initial, trailing = (dict(told() or ()) for told in (error.initial_metadata, error.trailing_metadata))
        details = trailing.get("grpc-status-details-bin")
        if details is not None:
            status = status_pb2.Status.FromString(details)
            raise _error(code, message, status, str(initial.get("x-request-id", ""))) from None
        if code == "UNAVAILABLE":
            sent = not message.startswith(NOT_SENT)
            raise errors.Unreachable(f"no service answers at {self._address}: {message}", sent=sent) from None
        if code == "DEADLINE_EXCEEDED":
            raise errors.DeadlineExceeded(f"{self._address} gave no answer in time") from None
        raise kind_of(code, "")(message, code=code) from None


@dataclass(frozen=True, slots=True)
class Blocking:
    """Sends, and waits for the answer."""

    rpc: Rpc
    channel: Any

    def send(self, ask: Ask, seconds: float | None) -> Any:
        """Return the answer; raises ServiceError."""
        try:
            answer = self.rpc.call(self.channel, ask, seconds)
        except grpc.RpcError as error:
            self.rpc.failed(error)
        return METHODS[ask.kind].read(answer)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()


@dataclass(frozen=True, slots=True)
class Awaiting:
    """Sends, and awaits the answer."""

    rpc: Rpc
    channel: Any

    async def send(self, ask: Ask, seconds: float | None) -> Any:
        """Return the answer; raises ServiceError."""
        try:
            answer = await self.rpc.call(self.channel, ask, seconds)
        except grpc.RpcError as error:
            self.rpc.failed(error)
        return METHODS[ask.kind].read(answer)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()


def item_error(status: Any) -> ServiceError:
    """Return what stands in the place of an item that failed."""
    return _error(grpc_code(status.code), status.message, status, "")


def grpc_code(number: int) -> str:
    """Return the name of a code."""
    return next((code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN")


def _error(code: str, message: str, status: Any, request_id: str) -> ServiceError:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), None
    for detail in status.details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            told = error_details_pb2.RetryInfo.FromString(detail.value)
            retry = told.retry_delay.ToMilliseconds() / 1000
        elif not detail.Unpack(info):
            detail.Unpack(bad)
    faults = [Violation(pointer(v.field), v.description, v.reason) for v in bad.field_violations]
    return kind_of(code, info.reason)(
        message,
        code=code,
        reason=info.reason,
        errors=faults,
        request_id=request_id,
        retry_after=retry,
        left_out=int(info.metadata.get(LEFT_OUT, 0)),
    )


def pointer(field: str) -> str:
    """Return `sequences[0].features["event"].values[2]` as `#/sequences/0/event/2`, where REST has it."""
    return "#" + "".join(f"/{escaped(part)}" for part in _parts(field))


def _parts(field: str) -> Iterable[str]:
    """Yield a field's parts that the body has too."""
    found = list(PART.finditer(field))
    for place, match in enumerate(found):
        behind = found[place + 1] if place + 1 < len(found) else None
        if match["number"] is not None:
            yield match["number"]
        elif match["quoted"] is not None:
            yield json.loads(match["quoted"])
        elif not _is_of_messages_alone(match["name"], place, behind):
            yield match["name"]


def _is_of_messages_alone(name: str, place: int, behind: re.Match[str] | None) -> bool:
    if name == "options":
        return place == 0
    if name == "features":
        return behind is not None and behind["quoted"] is not None
    return name == "values" and behind is not None and behind["number"] is not None
