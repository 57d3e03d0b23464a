"""Both doors, one table: the same request gives the same answer or the same reason, and nothing breaks.

A row is a REST request; the gRPC one is made from it. Rows for the state of the service (a full queue, a
failing backend, a refused version) put it into that state first.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from seqserve.v1 import sequence_pb2, sequence_pb2_grpc, translation_pb2, translation_pb2_grpc

from service import errors
from service.backend.base import Spec, Tensors
from service.backend.embedded import EmbeddedBackend
from service.contract.manifest import FILE_NAME
from service.contract.padding import Array
from service.errors import SeqserveError, leaves
from service.main import Running, running
from service.settings import Settings

TEXT = "Tuesday, November 24, 2026"
SHOP: dict[str, Any] = {"event": ["visit", "search"], "minutes": [0, 1.5]}


class FaultyBackend(EmbeddedBackend):
    """The embedded backend, made to fail or to wait."""

    fault: SeqserveError | None = None
    gate: asyncio.Event | None = None

    async def predict(self, spec: Spec, inputs: Tensors, deadline: float) -> dict[str, Array]:
        """Wait for the gate, then fail or answer."""
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().predict(spec, inputs, deadline)


@dataclass
class Both:
    """A running service and a client of each of its doors."""

    started: Running
    backend: FaultyBackend
    rest: httpx.AsyncClient
    channel: grpc.aio.Channel

    async def by_rest(self, row: "Row") -> Any:
        """Return a problem's reason and code, or the answer."""
        place = f"/versions/{row.version}" if row.version is not None else ""
        place = f"/labels/{row.label}" if row.label is not None else place
        headers = {"Grpc-Timeout": row.timeout} if row.timeout else {}
        url = f"/v1/models/{row.model}{place}:{row.verb}"
        response = await self.rest.post(url, json=row.body, headers=headers)
        content = response.json()
        if response.status_code == 200:
            return prune({key: value for key, value in content.items() if key != "model"}), content["model"]
        return content["reason"], content["code"]

    async def by_grpc(self, row: "Row") -> Any:
        """Return a status' reason and code, or the answer, in REST's form."""
        try:
            if row.verb == "translate":
                stub = translation_pb2_grpc.TranslationServiceStub(self.channel)
                answer = await stub.Translate(translate_message(row), timeout=row.seconds)
                return prune({"translations": [as_rest(r, "translation") for r in answer.results]}), who(
                    answer
                )
            predict = sequence_pb2_grpc.SequenceServiceStub(self.channel).Predict
            answer = await predict(predict_message(row), timeout=row.seconds)
            items = [as_rest(result, "prediction") for result in answer.results]
            return prune({"predictions": items}), who(answer)
        except grpc.aio.AioRpcError as error:
            return reason_of(error), error.code().name


@dataclass
class Row:
    """One request. `reason`: what both doors must say; None where both must answer."""

    verb: str
    body: dict[str, Any]
    reason: str | None = None
    model: str = ""
    version: int | None = None
    label: str | None = None
    timeout: str | None = None
    state: Callable[[Both], None] = field(default=lambda both: None)

    def __post_init__(self) -> None:
        self.model = self.model or {"translate": "en-de", "predict": "shop"}[self.verb]

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


def full(both: Both) -> None:
    """Leave no room in the queue."""
    queue = both.started.gateway._runner._scheduler._queue
    queue._budget = replace(queue._budget, queue_cells=0)


def reset(both: Both) -> None:
    """Undo every state above."""
    queue = both.started.gateway._runner._scheduler._queue
    queue._budget = replace(queue._budget, queue_cells=10_000)
    both.started.gateway._draining = False
    both.backend.fault = None
    if both.backend.gate is not None:
        both.backend.gate.set()
    both.backend.gate = None


def event(*labels: Any, minutes: Any = None) -> dict[str, Any]:
    """A sequence of `shop`."""
    return {"event": list(labels), "minutes": [0.0] * len(labels) if minutes is None else minutes}


STAMPS = {"timestamps": ["2026-05-01T09:30:00+02:00", "2026-05-01T07:31:30.5Z"]}
ROWS = [
    translate(),
    translate(texts=[TEXT, "9:05 AM", "twelve"], alignment=True),
    translate(tokens=True),
    translate(max_length=2),
    translate(length_penalty=0.0),
    translate(version=1),
    translate(texts=[TEXT, "", "x" * 300, "two"]),
    predict(),
    predict(top_k=3),
    predict(heads=["minutes_to_next"]),
    predict(seed=5),
    predict(sequences=[{**SHOP, "minutes": STAMPS}]),
    predict(sequences=[SHOP, event("visit", minutes=[-1]), event("nonsense"), event("pay")]),
    translate("MODEL_NOT_FOUND", model="nope"),
    predict("MODEL_NOT_FOUND", model="nope"),
    translate("VERSION_NOT_FOUND", version=77),
    translate("VERSION_NOT_FOUND", version=0),
    translate("LABEL_NOT_FOUND", label="stable"),
    translate("WRONG_TASK", model="shop"),
    predict("WRONG_TASK", model="en-de"),
    translate("EMPTY_REQUEST", texts=[]),
    predict("EMPTY_REQUEST", sequences=[]),
    translate("TOO_MANY_ITEMS", texts=["two"] * 9),
    translate("OPTION_OUT_OF_RANGE", beam_size=4),
    translate("OPTION_OUT_OF_RANGE", beam_size=0),
    translate("OPTION_OUT_OF_RANGE", n_best=2),
    translate("OPTION_OUT_OF_RANGE", max_length=0),
    translate("OPTION_OUT_OF_RANGE", length_penalty=-1.0),
    translate("OPTION_OUT_OF_RANGE", sampling={"temperature": 0.5}),
    predict("OPTION_OUT_OF_RANGE", top_k=0),
    predict("UNKNOWN_HEAD", heads=["next_event", "nope"]),
    translate("EMPTY_TEXT", texts=[""]),
    translate("EMPTY_TEXT", texts=[" \n\t "]),
    translate("TEXT_TOO_LONG", texts=["x" * 201]),
    translate("TEXT_TOO_LONG", texts=["z" * 10_000_000]),
    translate("TEXT_TOO_LONG", texts=["7" * 60]),
    predict("EMPTY_SEQUENCE", sequences=[event()]),
    predict("SEQUENCE_TOO_LONG", sequences=[event(*["visit"] * 33)]),
    predict("UNKNOWN_FEATURE", sequences=[{**SHOP, "colour": ["red", "red"]}]),
    predict("MISSING_FEATURE", sequences=[{"event": ["visit"]}]),
    predict("MISSING_FEATURE", sequences=[{"event": ["visit"], "minutes": None}]),
    predict("WRONG_TYPE", sequences=[event("visit", minutes=["soon"])]),
    predict("WRONG_TYPE", sequences=[{"event": STAMPS, "minutes": [0, 0]}]),
    predict("UNEQUAL_LENGTHS", sequences=[event("visit", minutes=[0.0, 1.0])]),
    predict("WRONG_WIDTH", sequences=[event("visit", minutes=[[0.0, 1.0]])]),
    predict("UNKNOWN_CATEGORY", sequences=[event("visit", "nonsense")]),
    predict("UNKNOWN_CATEGORY", sequences=[event(17)]),
    predict("NEGATIVE_ELAPSED", sequences=[event("visit", minutes=[-0.5])]),
    predict("NEGATIVE_ELAPSED", sequences=[{**SHOP, "minutes": {"timestamps": STAMPS["timestamps"][::-1]}}]),
    translate("DEADLINE_EXCEEDED", timeout="300m", state=waiting),
    translate("QUEUE_FULL", state=full),
    predict("QUEUE_FULL", state=full),
    translate("BACKEND_FAILED", state=failing(errors.BackendFailed("as told"))),
    translate("BACKEND_UNAVAILABLE", state=failing(errors.BackendUnavailable("as told"))),
    predict("DRAINING", state=draining),
    translate("GOLDEN_FAILED", model="golden", version=1),
    translate("MANIFEST_MISSING", model="bare", version=1),
    translate("MANIFEST_INVALID", model="invalid", version=1),
    predict("FILE_CHANGED", model="flipped", version=1),
    predict("NOT_READY", model="flipped"),
]
REST_ALONE = {
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "MALFORMED_JSON",
    "ROUTE_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
}
GRPC_ALONE = {"MALFORMED_MESSAGE", "NOT_FINITE"}
ELSEWHERE = {
    "PAD_COLLISION": "tests/contract: no label of these models encodes to the pad value",
    "CANCELLED": "tests/core: nobody is there to be told",
    "UNEXPECTED": "test_an_unexpected_fault_tells_nothing",
    "BACKEND_BATCHING_ON": "no backend of this build batches by itself",
    "PADDING_LEAK": "tests/models: certification",
    "DEVICE_ONLY_OP": "tests/models: certification",
    "VERSION_EXISTS": "tests/models: publishing",
}


@pytest.fixture(scope="module")
def models(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two small models, and one refused for each reason that a version can be."""
    folder = tmp_path_factory.mktemp("parity")
    for name in ("en-de", "shop"):
        shutil.copytree(root / name / "1", folder / name / "1")
    for name in ("golden", "bare", "invalid"):
        shutil.copytree(root / "en-de" / "1", folder / name / "1")
    shutil.copytree(root / "shop" / "1", folder / "flipped" / "1")
    manifest = json.loads((root / "en-de/1/assets" / FILE_NAME).read_bytes())
    manifest["examples"][0]["items"][0]["text"] = "another"
    (folder / "golden/1/assets" / FILE_NAME).write_text(json.dumps(manifest))
    (folder / "bare/1/assets" / FILE_NAME).unlink()
    (folder / "invalid/1/assets" / FILE_NAME).write_text(json.dumps({**manifest, "buckets": [4, 2]}))
    graph = folder / "flipped/1/saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")
    return folder


@asynccontextmanager
async def both_doors(models: Path) -> AsyncIterator[Both]:
    """Run the whole service on free ports."""
    settings = Settings(root=models, rest_port=0, grpc_port=0, max_items=8, poll_seconds=600)
    backend = FaultyBackend(models)
    async with (
        running(settings, backend) as started,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.rest_port}", timeout=20) as rest,
        grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}") as channel,
    ):
        yield Both(started, backend, rest, channel)


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


def selector(row: Row) -> dict[str, Any]:
    """Return the model, with what chooses its version."""
    choice = {"version": row.version, "label": row.label}
    return {"name": row.model, **{key: value for key, value in choice.items() if value is not None}}


def write_feature(feature: sequence_pb2.Feature, values: Any) -> None:
    """Write one feature's values; None leaves the message without any."""
    if isinstance(values, dict):
        for stamp in values["timestamps"]:
            feature.timestamps.values.add().FromJsonString(stamp)
    elif values and isinstance(values[0], str):
        feature.strings.values.extend(values)
    elif values is not None:
        rows = [value if isinstance(value, list) else [value] for value in values]
        feature.numbers.width = len(rows[0]) if rows else 1
        feature.numbers.values.extend(number for row in rows for number in row)


def as_rest(result: Any, member: str) -> dict[str, Any]:
    """Return one result in REST's form."""
    if result.WhichOneof("outcome") == "error":
        info = error_details_pb2.ErrorInfo()
        assert result.error.details[0].Unpack(info)
        code = next(code for code in grpc.StatusCode if code.value[0] == result.error.code)
        return {"error": {"code": code.name, "reason": info.reason, "message": result.error.message}}
    item = MessageToDict(
        getattr(result, member), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    if "alignment" in item:
        item["alignment"] = [row["weights"] for row in item["alignment"]]
    if "heads" in item:
        item["heads"] = {name: next(iter(kind.values())) for name, kind in item["heads"].items()}
    return item


def prune(value: Any) -> Any:
    """Leave out what is empty: protobuf cannot tell an empty list from none."""
    if isinstance(value, dict):
        pruned = {key: prune(entry) for key, entry in value.items()}
        return {key: entry for key, entry in pruned.items() if entry not in ([], {}, None)}
    return [prune(entry) for entry in value] if isinstance(value, list) else value


def who(answer: Any) -> dict[str, Any]:
    """Return the version that answered, in REST's form."""
    return {"name": answer.model.name, "version": answer.model.version, "digest": answer.model.digest}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason in an error's details; a deadline may be told by grpc itself, without any."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            assert status_pb2.Status.FromString(value).details[0].Unpack(info)
            return str(info.reason)
    return error.code().name


async def test_both_doors_agree(models: Path) -> None:
    """Every row of the table, the answers equal to the last bit; and the service goes on after each."""
    wrong = []
    async with both_doors(models) as both:
        for row in ROWS:
            wrong += [f"{row}: {fault}"[:600] for fault in await disagreements(both, row)]
            good = await both.by_rest(translate()), await both.by_grpc(translate())
            assert good[0] == good[1]
            assert isinstance(good[0][0], dict)
    assert not wrong, "\n".join(wrong)


async def disagreements(both: Both, row: Row) -> list[str]:
    """Say where the doors differ from each other or from what the row wants."""
    row.state(both)
    async with asyncio.timeout(20):
        doors = await asyncio.gather(both.by_rest(row), both.by_grpc(row))
    reset(both)
    told = [f"REST {doors[0]}, gRPC {doors[1]}"] if doors[0] != doors[1] else []
    if row.reason is None and not isinstance(doors[0][0], dict):
        told.append(f"no answer but {doors[0]}")
    if row.reason is not None and doors[0][0] != row.reason:
        told.append(f"{doors[0]} instead of {row.reason}")
    return told


def test_the_table_has_every_reason() -> None:
    """A reason that is added to the tree must be shown at both doors, or stand here with its place."""
    told = {row.reason for row in ROWS if row.reason} | REST_ALONE | GRPC_ALONE | set(ELSEWHERE)
    assert told >= {kind.reason for kind in leaves()}


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"texts": "two"}',
    b'{"texts": [2]}',
    b'{"texts": ["two"], "beam": 4}',
    b'{"texts": ["two"], "beam_size": 1.5}',
    b'{"texts": ["two"], "beam_size": true}',
    b'{"texts": ["two"], "length_penalty": NaN}',
    b'{"texts": ["two"], "length_penalty": Infinity}',
    b'{"texts": ["two"], "length_penalty": 1e400}',
    b'{"texts": ["\\ud800"]}',
    b'{"texts": ["\xff\xfe"]}',
    b'{"texts": ' + b"[" * 100_000,
]


async def test_what_only_rest_can_get_wrong(models: Path) -> None:
    """Bodies that are not JSON or not of the form, types, sizes, paths and methods: each its reason."""
    url, json_type = "/v1/models/en-de:translate", {"Content-Type": "application/json"}
    async with both_doors(models) as both:

        async def reason(method: str, path: str, **request: Any) -> tuple[int, str]:
            response = await both.rest.request(method, path, **request)
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers["x-request-id"]
            return response.status_code, problem["reason"]

        for content in MALFORMED:
            told = await reason("POST", url, content=content, headers=json_type)
            assert told == (400, "MALFORMED_JSON"), content[:60]
        large = b'{"texts": ["' + b"x" * (17 * 2**20)
        assert await reason("POST", url, content=large, headers=json_type) == (413, "BODY_TOO_LARGE")
        assert await reason("POST", url, content=chunks(large), headers=json_type) == (413, "BODY_TOO_LARGE")
        wrong_type = {"content": b"two", "headers": {"Content-Type": "text/plain"}}
        assert await reason("POST", url, **wrong_type) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert await reason("POST", "/v1/nothing", json={}) == (404, "ROUTE_NOT_FOUND")
        assert await reason("DELETE", url) == (405, "METHOD_NOT_ALLOWED")
        late = {**json_type, "Grpc-Timeout": "soon"}
        assert (await reason("POST", url, content=b"{}", headers=late))[1] == "OPTION_OUT_OF_RANGE"
        assert (await both.by_rest(translate()))[0] == (await both.by_grpc(translate()))[0]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Send a body whose length is not declared."""
    for at in range(0, len(data), 2**20):
        yield data[at : at + 2**20]


async def test_bytes_that_do_not_parse(models: Path) -> None:
    """At the gRPC door they are INVALID_ARGUMENT with a reason, text that is not UTF-8 among them."""
    async with both_doors(models) as both:
        for method in ("TranslationService/Translate", "SequenceService/Predict", "ModelService/GetModel"):
            call = both.channel.unary_unary(f"/seqserve.v1.{method}")
            for garbage in (b"\xff\xff\xff", b"\x12\x02\xff\xfe", b"\x0a\x05ab"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(garbage, timeout=20)
                if caught.value.code() is not grpc.StatusCode.NOT_FOUND:
                    assert reason_of(caught.value) == "MALFORMED_MESSAGE"


async def test_numbers_that_are_none(models: Path) -> None:
    """A gRPC double may be NaN or infinite: the item's fault, and only that item's."""
    async with both_doors(models) as both:
        for bad in (float("nan"), float("inf")):
            assert await both.by_grpc(predict(sequences=[event("visit", minutes=[bad])])) == (
                "NOT_FINITE",
                "INVALID_ARGUMENT",
            )
            answer, _ = await both.by_grpc(predict(sequences=[SHOP, event("visit", minutes=[bad])]))
            assert answer["predictions"][0] == (await both.by_grpc(predict()))[0]["predictions"][0]
            assert answer["predictions"][1]["error"]["reason"] == "NOT_FINITE"


async def test_a_failed_request_points_at_every_item(models: Path) -> None:
    """Where all items fail the first one's reason is the request's, with a pointer for each."""
    async with both_doors(models) as both:
        row = translate("TEXT_TOO_LONG", texts=["x" * 201, ""])
        url = "/v1/models/en-de:translate"
        problem = (await both.rest.post(url, json=row.body)).json()
        assert [(e["pointer"], e["reason"]) for e in problem["errors"]] == [
            ("#/texts/0", "TEXT_TOO_LONG"),
            ("#/texts/1", "EMPTY_TEXT"),
        ]
        assert "201" in problem["detail"]
        assert "200" in problem["detail"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await translation_pb2_grpc.TranslationServiceStub(both.channel).Translate(translate_message(row))
        details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
        bad = error_details_pb2.BadRequest()
        assert any(detail.Unpack(bad) for detail in status_pb2.Status.FromString(details).details)
        assert [v.field for v in bad.field_violations] == ["texts[0]", "texts[1]"]


async def test_an_unexpected_fault_tells_nothing(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours is INTERNAL with a reason and an id on both doors; its text stays in the log."""
    async with both_doors(models) as both:
        both.backend.fault = RuntimeError("the secret")  # type: ignore[assignment]
        for door in (both.by_rest, both.by_grpc):
            assert await door(translate()) == ("UNEXPECTED", "INTERNAL")
        assert "the secret" in caplog.text


async def test_openapi_names_every_body_and_answer(models: Path) -> None:
    """`/openapi.json` resolves every reference it makes, and `/docs` is there."""
    async with both_doors(models) as both:
        schema = (await both.rest.get("/openapi.json")).json()
        known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
        assert set(references(schema)) <= known
        assert "/v1/models/{model}:translate" in schema["paths"]
        assert (await both.rest.get("/docs")).status_code == 200


def references(node: Any) -> list[str]:
    """Return every $ref below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for value in node for ref in references(value)] if isinstance(node, list) else []


async def test_models_are_shown_alike(models: Path) -> None:
    """Both doors list the same models, with the same standings, reasons and description."""
    from seqserve.v1 import model_pb2, model_pb2_grpc

    async with both_doors(models) as both:
        by_rest = (await both.rest.get("/v1/models")).json()["models"]
        stub = model_pb2_grpc.ModelServiceStub(both.channel)
        listed = await stub.ListModels(model_pb2.ListModelsRequest())
        assert [model["name"] for model in by_rest] == [model.name for model in listed.models]
        for shown, message in zip(by_rest, listed.models, strict=True):
            assert [(v["version"], v.get("reason", "")) for v in shown["versions"]] == [
                (v.version, v.reason) for v in message.versions
            ]
            assert set(shown.get("features", ())) == set(message.features)
            assert set(shown.get("heads", ())) == set(message.heads)
        assert (await both.rest.get("/readyz")).json()["reason"] == "NOT_READY"
        assert (await both.rest.get("/healthz")).status_code == 200
