"""Both doors of a running service, and rows: REST's request and the message that asks the same."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from prometheus_client import CollectorRegistry
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from seqserve.service.backend.base import Backend, Spec, Tensors
from seqserve.service.contract.padding import Array, Row as Encoded
from seqserve.service.core.entries import BatchKey, Caller, Entry
from seqserve.service.core.limits import Shares
from seqserve.service.core.standing import Standing
from seqserve.service.errors import SeqserveError, SessionsUnavailable
from seqserve.service.main import Running, make_backend, running
from seqserve.service.metrics import Metrics
from seqserve.service.settings import Settings
from seqserve.v1 import (
    sequence_pb2,
    sequence_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    translation_pb2,
    translation_pb2_grpc,
)
from tests.answers import as_rest, head_as_rest, prune, who
from tests.reasons import reason_of as reason_of
from tests.tfserving.reload import ModelServer, config_file

TEXT = "Tuesday, November 24, 2026"
SHOP: dict[str, Any] = {"event": ["visit", "search"], "minutes": [0, 1.5]}
HOURS = {"hours": [[1.5, -3.0, 101.0], [0.5, -2.0, 90.0]]}
WAVE = {"signal": [[0.1, 8.0], [0.9, 6.5], [0.7, 3.0]]}
ORDER = {
    "event": ["visit", "pay", "visit"],
    "load": [[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]],
    "region": "north",
    "customer": [31.0, 4.5],
}
STAMPS = {"timestamps": ["2026-05-01T09:30:00+02:00", "2026-05-01T07:31:30.5Z"]}


class FaultyBackend:
    """Any backend, made to fail or to wait."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.fault: SeqserveError | None = None
        self.gate: asyncio.Event | None = None

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the backend does."""
        return getattr(self.inner, name)

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Wait for the gate, then fail or answer."""
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await self.inner.predict(spec, inputs, deadline)


@dataclass
class Both:
    """A running service and a client of each of its doors. `key`: what rows without one of their own send."""

    started: Running
    backend: FaultyBackend
    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    waiting: list[Caller] = field(default_factory=list)  # that nobody will answer
    key: str = ""

    def naming(self, row: "Row") -> dict[str, str]:
        """Return the headers, or metadata, that say who calls."""
        key = self.key if row.key is None else row.key
        return {"x-api-key": key} if key else {}

    async def by_rest(self, row: "Row") -> Any:
        """Return a problem's reason and code, or the answer."""
        if row.verb == "append":
            return await appended_by_rest(self, row)
        place = f"/versions/{row.version}" if row.version is not None else ""
        place = f"/labels/{row.label}" if row.label is not None else place
        headers = self.naming(row) | ({"Grpc-Timeout": row.timeout} if row.timeout else {})
        url = f"/v1/models/{row.model}{place}:{row.verb}"
        response = await self.rest.post(url, json=row.body, headers=headers)
        content = response.json()
        if response.status_code == 200:
            return prune({key: value for key, value in content.items() if key != "model"}), content["model"]
        return content["reason"], content["code"]

    async def by_grpc(self, row: "Row") -> Any:
        """Return a status' reason and code, or the answer, in REST's form."""
        metadata = tuple(self.naming(row).items())
        try:
            if row.verb == "translate":
                stub = translation_pb2_grpc.TranslationServiceStub(self.channel)
                answer = await stub.Translate(translate_message(row), timeout=row.seconds, metadata=metadata)
                return prune({"translations": [as_rest(r, "translation") for r in answer.results]}), who(
                    answer
                )
            if row.verb == "append":
                return await appended_by_grpc(self, row)
            predict = sequence_pb2_grpc.SequenceServiceStub(self.channel).Predict
            answer = await predict(predict_message(row), timeout=row.seconds, metadata=metadata)
            items = [as_rest(result, "prediction") for result in answer.results]
            return prune({"predictions": items}), who(answer)
        except grpc.aio.AioRpcError as error:
            return reason_of(error), error.code().name


@dataclass
class Row:
    """One request. `reason`: what both doors must say; None where both must answer.

    `key`: who asks; empty: nobody; None: who the other rows are of. Of a row that appends, `before`: the
    events that the session has; `session`: its id; None: one that is made first.
    """

    verb: str
    body: dict[str, Any]
    reason: str | None = None
    model: str = ""
    version: int | None = None
    label: str | None = None
    timeout: str | None = None
    key: str | None = None
    state: Callable[[Both], None] = field(default=lambda both: None)
    before: dict[str, Any] | None = None
    session: str | None = None

    def __post_init__(self) -> None:
        self.model = self.model or {"translate": "en-de", "predict": "shop", "append": "shop"}[self.verb]

    @property
    def seconds(self) -> float:
        """The timeout as gRPC takes it."""
        return 20.0 if self.timeout is None else float(self.timeout.removesuffix("m")) / 1000


def translate(reason: str | None = None, *, texts: Any = (TEXT,), **options: Any) -> Row:
    """A row that translates; arguments that a Row has are its own, the rest options."""
    own = {key: options.pop(key) for key in list(options) if key in Row.__dataclass_fields__}
    return Row("translate", {"texts": list(texts), **options}, reason, **own)


def predict(reason: str | None = None, *, sequences: Any = (SHOP,), **options: Any) -> Row:
    """A row that predicts; arguments that a Row has are its own, the rest options."""
    own = {key: options.pop(key) for key in list(options) if key in Row.__dataclass_fields__}
    return Row("predict", {"sequences": list(sequences), **options}, reason, **own)


def append(reason: str | None = None, *, sequence: Any = SHOP, first_event: int = 0, **options: Any) -> Row:
    """A row that appends to a new session; arguments that a Row has are its own, the rest options."""
    own = {key: options.pop(key) for key in list(options) if key in Row.__dataclass_fields__}
    return Row("append", {"first_event": first_event, "sequence": sequence, **options}, reason, **own)


def failing(error: SeqserveError) -> Callable[[Both], None]:
    """Make the backend fail."""

    def state(both: Both) -> None:
        both.backend.fault = error

    return state


def waiting(both: Both) -> None:
    """Make the backend wait for ever."""
    both.backend.gate = asyncio.Event()


def draining(both: Both) -> None:
    """Make the gateway refuse new work."""
    both.started.gateway._draining = True


def limited(both: Both) -> None:
    """Let a principal have no request open."""
    limits = both.started.gateway._limits
    limits._shares = replace(limits._shares, requests=0)


def thrifty(both: Both) -> None:
    """Take no request of more than one cell."""
    both.started.gateway._runner._most = 1


def storeless(both: Both) -> None:
    """Let the store of sessions be out of reach."""

    async def put(*_: Any) -> bool:
        raise SessionsUnavailable("as asked")

    both.started.gateway._sessions._store.put = put  # type: ignore[method-assign]


def full(both: Both) -> None:
    """Leave no room in the queues: a row waits in each, and no batch is due."""
    scheduler = both.started.gateway._runner._scheduler
    scheduler._admission._limit = 1
    for report in both.started.gateway.models():
        if report.current is not None:
            key = BatchKey(report.current, report.current.manifest.serving_signatures[0], ())
            waiting = Caller(key, float("inf"))
            scheduler._queue.append(Entry(waiting, 0, Encoded({}, 1), perf_counter(), 1))
            both.waiting.append(waiting)


def reset(both: Both) -> None:
    """Undo every state above."""
    scheduler = both.started.gateway._runner._scheduler
    scheduler._admission._limit = 10_000
    while both.waiting:
        scheduler._queue.leave(both.waiting.pop())
    both.started.gateway._limits._shares = Shares()
    both.started.gateway._runner._most = 10_000
    both.started.gateway._draining = False
    vars(both.started.gateway._sessions._store).pop("put", None)
    both.backend.fault = None
    if both.backend.gate is not None:
        both.backend.gate.set()
    both.backend.gate = None


def event(*labels: Any, minutes: Any = None) -> dict[str, Any]:
    """A sequence of `shop`."""
    return {"event": list(labels), "minutes": [0.0] * len(labels) if minutes is None else minutes}


def stable(models: Path) -> ModelServerConfig:
    """Name every model of a root, with the label `stable` for version 1."""
    names = {path.name: path for path in models.iterdir() if path.is_dir()}
    return config_file(names, labels={"stable": 1})


@asynccontextmanager
async def both_doors(
    models: Path, model_server: ModelServer | None = None, key: str = "", **options: Any
) -> AsyncIterator[Both]:
    """Run the whole service on free ports, over a model server where one is given, else embedded.

    Args:
        key: whose the rows are that have none of their own.
    """
    config, path = stable(models), models / "models.config"
    path.write_text(str(config))
    settings = Settings(model_config_file=path, rest_port=0, grpc_port=0, max_items=8, poll_seconds=600)
    if model_server is not None:
        model_server.serve(config)
        options["tfserving"] = model_server.address
    settings = settings.model_copy(update=options)
    backend = FaultyBackend(make_backend(settings, Metrics(CollectorRegistry())))
    async with (
        running(settings, backend) as started,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.rest_port}", timeout=20) as rest,
        grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}") as channel,
    ):
        while any(v.standing is Standing.LOADING for m in started.catalog.models().values() for v in m):
            await (
                started.catalog.look()
            )  # a model server loads the older versions after it has begun to answer
        yield Both(started, backend, rest, channel, key=key)


def translate_message(row: Row) -> translation_pb2.TranslateRequest:
    """Write a REST body as the message that asks the same."""
    options = {key: value for key, value in row.body.items() if key != "texts"}
    return translation_pb2.TranslateRequest(
        model=selector(row), texts=row.body["texts"], options=translation_pb2.DecodeOptions(**options)
    )


def predict_message(row: Row) -> sequence_pb2.PredictRequest:
    """Write a REST body as the message that asks the same."""
    options = {key: value for key, value in row.body.items() if key != "sequences"}
    request = sequence_pb2.PredictRequest(model=selector(row), **options)
    for sequence in row.body["sequences"]:
        added = request.sequences.add()
        for name, values in sequence.items():
            write_feature(added.features[name], values)
    return request


def append_message(row: Row, body: dict[str, Any], session: str) -> session_pb2.AppendRequest:
    """Write a REST body as the message that asks the same of a session."""
    options = {key: value for key, value in body.items() if key != "sequence"}
    request = session_pb2.AppendRequest(model=selector(row), session_id=session, **options)
    for name, values in body["sequence"].items():
        write_feature(request.sequence.features[name], values)
    return request


async def appended_by_rest(both: Both, row: Row) -> Any:
    """Make a session, and append to it; return a problem's reason and code, or the answer."""
    place = f"/versions/{row.version}" if row.version is not None else ""
    place = f"/labels/{row.label}" if row.label is not None else place
    url, id, headers = f"/v1/models/{row.model}{place}/sessions", row.session, both.naming(row)
    bodies = [row.body] if row.before is None else [{"first_event": 0, "sequence": row.before}, row.body]
    content: dict[str, Any] = {}
    if id is None:
        response = await both.rest.post(url, headers=headers)
        content = response.json()
        id = content["session"]["id"] if response.status_code == 200 else ""
    for body in bodies if id else ():
        response = await both.rest.post(f"{url}/{id}:append", json=body, headers=headers)
        content = response.json()
    if response.status_code != 200:
        return content["reason"], content["code"]
    shown = (await both.rest.get(f"{url}/{id}", headers=headers)).json()["session"]
    assert shown == content["session"]
    answer = {"prediction": content["prediction"], "next_event": content["session"]["next_event"]}
    return prune(answer), content["session"]["model"]


async def appended_by_grpc(both: Both, row: Row) -> Any:
    """Do the same by messages, the last one in a stream."""
    stub: Any = session_pb2_grpc.SessionServiceStub(both.channel)
    metadata, id = tuple(both.naming(row).items()), row.session
    if id is None:
        request = session_pb2.CreateSessionRequest(model=selector(row))
        id = (await stub.CreateSession(request, metadata=metadata)).session.id
    if row.before is not None:
        before = append_message(row, {"first_event": 0, "sequence": row.before}, id)
        await stub.Append(before, metadata=metadata)
    last = append_message(row, row.body, id)
    streamed = await streamed_append(stub, last, metadata)
    if streamed.WhichOneof("outcome") == "error":
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Append(last, metadata=metadata, timeout=20)
        info = error_details_pb2.ErrorInfo()
        assert streamed.error.details[0].Unpack(info)
        assert (info.reason, streamed.error.code) == (reason_of(caught.value), caught.value.code().value[0])
        raise caught.value
    answer = await stub.Append(last, metadata=metadata, timeout=20)
    assert streamed.appended.session == answer.session
    shown = await stub.GetSession(
        session_pb2.GetSessionRequest(model=selector(row), session_id=id), metadata=metadata
    )
    assert shown.session == answer.session
    item = MessageToDict(
        answer.prediction, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    item["heads"] = {name: head_as_rest(kind) for name, kind in item["heads"].items()}
    return prune({"prediction": item, "next_event": answer.session.next_event}), who(answer.session)


async def streamed_append(
    stub: Any, request: session_pb2.AppendRequest, metadata: Any
) -> session_pb2.AppendStreamResponse:
    """Append by a stream of one, and return what came."""
    asked = iter([session_pb2.AppendStreamRequest(append=request)])
    (answer,) = [answer async for answer in stub.AppendStream(asked, metadata=metadata, timeout=20)]
    assert answer.request == 0
    return answer  # type: ignore[no-any-return]


def selector(row: Row) -> dict[str, Any]:
    """Return the model, with what chooses its version."""
    choice = {"version": row.version, "label": row.label}
    return {"name": row.model, **{key: value for key, value in choice.items() if value is not None}}


def write_feature(feature: sequence_pb2.Feature, values: Any) -> None:
    """Write one feature's values; None leaves the message without any."""
    if isinstance(values, dict):
        for stamp in values["timestamps"]:
            feature.timestamps.values.add().FromJsonString(stamp)
    elif isinstance(values, str):
        feature.strings.values.append(values)
    elif isinstance(values, int | float):
        feature.numbers.values.append(values)
    elif values and isinstance(values[0], str):
        feature.strings.values.extend(values)
    elif values is not None:
        rows = [value if isinstance(value, list) else [value] for value in values]
        feature.numbers.width = len(rows[0]) if rows else 1
        feature.numbers.values.extend(number for row in rows for number in row)
