"""A small client of a running service, through either door."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seqserve.v1 import (
    model_pb2,
    model_pb2_grpc,
    sequence_pb2,
    sequence_pb2_grpc,
    translation_pb2 as translation,
    translation_pb2_grpc,
)

SECONDS = 60.0


class CallFailed(Exception):
    """The service answered with an error, or not at all; the text can be shown to a user."""


@dataclass(frozen=True, slots=True)
class Access:
    """How a client names itself, and how it knows the service.

    Args:
        key: API key or token; empty: none.
        tls: whether the door has it.
        ca: PEM of the authority to trust; None: the system's.
        cert: PEM of the client's own certificate, and `cert_key` of its key, for mutual TLS.
    """

    key: str = field(default="", repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """Return what an HTTPS client trusts and shows; None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.cert_key)
        return context

    def channel(self, address: str) -> grpc.Channel:
        """Return a channel to HOST:PORT."""
        options = [("grpc.max_receive_message_length", -1)]
        if not self.tls:
            return grpc.insecure_channel(address, options)
        paths = (self.ca, self.cert_key, self.cert)
        ca, key, cert = (path.read_bytes() if path is not None else None for path in paths)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options)


OPEN = Access()
"""Of a door that asks for nothing."""


class Client(Protocol):
    """What the command line asks of a service; answers are in the JSON form of the door."""

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""

    def translate(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a translation, or an `error`, for each text of a REST body."""

    def predict(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a prediction, or an `error`, for each sequence of a REST body."""


class RestClient:
    """Calls the REST door at HOST:PORT."""

    def __init__(self, address: str, access: Access = OPEN) -> None:
        """Raises OSError where a file of the access cannot be used."""
        self._base = f"{'https' if access.tls else 'http'}://{address}/v1/models"
        self._context = access.context()
        self._naming = {"X-API-Key": access.key} if access.key else {}

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        models: list[dict[str, Any]] = self._call("", None)["models"]
        return models

    def translate(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a translation, or an `error`, for each text."""
        translations: list[dict[str, Any]] = self._call(f"/{model}:translate", body)["translations"]
        return translations

    def predict(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a prediction, or an `error`, for each sequence."""
        predictions: list[dict[str, Any]] = self._call(f"/{model}:predict", body)["predictions"]
        return predictions

    def _call(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._naming}
        request = urllib.request.Request(self._base + quote(path, safe="/:"), data, headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=self._context) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            raise CallFailed(_problem(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)  # what urllib wraps says it better
            raise CallFailed(f"no service answers at {self._base}: {why}") from None


def _problem(error: urllib.error.HTTPError) -> str:
    """Return reason and detail of a problem, or what else an HTTP server says."""
    try:
        problem = json.load(error)
        return f"{problem['reason']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {error.reason}"


class GrpcClient:
    """Calls the gRPC door at HOST:PORT."""

    def __init__(self, address: str, access: Access = OPEN) -> None:
        """Raises OSError where a file of the access cannot be used."""
        self._address = address
        self._channel = access.channel(address)
        self._naming = (("x-api-key", access.key),) if access.key else ()

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        stub = model_pb2_grpc.ModelServiceStub(self._channel)
        models: list[dict[str, Any]] = self._call(stub.ListModels, model_pb2.ListModelsRequest())["models"]
        return models

    def translate(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a translation, or an `error`, for each text."""
        options = {name: value for name, value in body.items() if name != "texts"}
        content = {"model": {"name": model}, "texts": body["texts"], "options": options}
        request = _message(content, translation.TranslateRequest())
        stub = translation_pb2_grpc.TranslationServiceStub(self._channel)
        return _outcomes(self._call(stub.Translate, request), "translation")

    def predict(self, model: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a prediction, or an `error`, for each sequence."""
        sequences = [{"features": {k: _feature(v) for k, v in s.items()}} for s in body["sequences"]]
        content = {"model": {"name": model}, **body, "sequences": sequences}
        request = _message(content, sequence_pb2.PredictRequest())
        stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)
        return _outcomes(self._call(stub.Predict, request), "prediction")

    def _call(self, method: Any, request: Any) -> dict[str, Any]:
        try:
            answer = method(request, timeout=SECONDS, metadata=self._naming)
        except grpc.RpcError as error:
            raise CallFailed(_grpc_reason(error, self._address)) from None
        as_json: dict[str, Any] = MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return as_json


def _message(content: dict[str, Any], empty: Message) -> Any:
    """Fill a message from its JSON form."""
    try:
        return ParseDict(content, empty)
    except ParseError as error:
        raise CallFailed(f"the request does not fit its message: {error}") from None


def _feature(values: Any) -> dict[str, Any]:
    """Return a REST feature as the JSON form of a Feature message."""
    if isinstance(values, Mapping):
        return {"timestamps": {"values": values.get("timestamps")}}
    if isinstance(values, str):
        return {"strings": {"values": [values]}}
    if not isinstance(values, list):
        raise CallFailed("WRONG_TYPE: a feature is a list of one value a step, or a text")
    if values and isinstance(values[0], str):
        return {"strings": {"values": values}}
    rows = [value if isinstance(value, list) else [value] for value in values]
    width = len(rows[0]) if rows else 1
    if any(len(row) != width for row in rows):
        raise CallFailed("WRONG_WIDTH: the steps of a feature have different numbers of columns")
    return {"numbers": {"values": [number for row in rows for number in row], "width": width}}


def _outcomes(answer: Mapping[str, Any], member: str) -> list[dict[str, Any]]:
    return [result.get(member, result) for result in answer["results"]]


def _grpc_reason(error: Any, address: str) -> str:
    """Return reason and message of a gRPC error."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return f"{info.reason}: {error.details()}"
    return f"{error.code().name} from {address}: {error.details()}"
