"""A task that is made up here: one row, one codec, its messages, and both doors answer it like any other."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from pydantic import Field

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.items import Body, FailedItem, Item
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.padding import Array, Row
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.tasks import TASKS, Tasks
from seqserve.service.core.types import Answered, BatchOptions, Encoded, Outputs, Task
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.metrics import Metrics
from seqserve.service.rest.app import create_app
from seqserve.service.rpc.faults import item_status
from seqserve.service.rpc.server import RpcServer
from seqserve.service.rpc.tasks import RPCS, Rpc, Rpcs
from seqserve.service.settings import Settings
from seqserve.v1 import sequence_pb2, translation_pb2
from tests.core.fakes import BUDGET, FakeBackend, as_files, sequence_manifest, series, totals
from tests.edge.fakes import open_entrance

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST = 5

# --- the task -------------------------------------------------------------------------------------


class EmbedBody(Body):
    """Words to embed."""

    words: list[str] = Field(description="one vector comes back for each, in order")
    size: int = Field(2, description="numbers in a vector")


@dataclass(frozen=True, slots=True)
class Embedding(Item):
    """One embedded word."""

    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EmbedPlan:
    """A checked request."""

    items: Sequence[str]
    size: int
    signature: str = PREDICT_SIGNATURE
    batch_options: BatchOptions = ()

    def encode(self, item: str) -> Encoded:
        """Return the letters' numbers."""
        if not item:
            raise errors.EmptyText("the word is empty")
        return Encoded(Row({"letters": np.array([*map(LETTERS.index, item)], np.int32) + 1}, len(item)))

    def decode(self, encoded: Encoded, outputs: Outputs) -> Embedding:
        """Return the vector."""
        return Embedding(tuple(outputs["vector"].tolist()[: self.size]))


class EmbedCodec:
    """Needs a limit on a word's length, which other tasks do not."""

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        if manifest.limits.text_characters is None:
            raise errors.ManifestInvalid("limits.text_characters: needed for task embedding")

    def plan(self, body: EmbedBody) -> EmbedPlan:
        """Check the size."""
        if body.size > 2:
            raise errors.OptionOutOfRange(f"size is {body.size}; at most 2", path=("size",))
        return EmbedPlan(body.words, body.size)


EMBEDDING = Task(
    name="embedding",
    verb="embed",
    body_member="words",
    answer_member="embeddings",
    body=EmbedBody,
    item=Embedding,
    codec=EmbedCodec,
    summary="Embed words",
    example={"words": ["cab"]},
)
ALL: Tasks = {**TASKS, EMBEDDING.name: EMBEDDING}

# --- its messages ---------------------------------------------------------------------------------

FILE: dict[str, Any] = {
    "name": "tests/embedding.proto",
    "package": "tests",
    "syntax": "proto3",
    "dependency": ["seqserve/v1/model.proto", "google/rpc/status.proto"],
    "message_type": [
        {
            "name": "EmbedRequest",
            "field": [
                {"name": "model", "number": 1, "type": 11, "type_name": ".seqserve.v1.ModelSelector"},
                {"name": "words", "number": 2, "label": 3, "type": 9},
                {"name": "size", "number": 3, "type": 5},
            ],
        },
        {
            "name": "EmbedResult",
            "field": [
                {"name": "vector", "number": 1, "label": 3, "type": 1},
                {"name": "error", "number": 2, "type": 11, "type_name": ".google.rpc.Status"},
            ],
        },
        {
            "name": "EmbedResponse",
            "field": [
                {"name": "version", "number": 1, "type": 3},
                {"name": "results", "number": 2, "label": 3, "type": 11, "type_name": ".tests.EmbedResult"},
            ],
        },
    ],
    "service": [
        {
            "name": "EmbeddingService",
            "method": [
                {"name": "Embed", "input_type": ".tests.EmbedRequest", "output_type": ".tests.EmbedResponse"}
            ],
        }
    ],
}


POOL = descriptor_pool.Default()
POOL.AddSerializedFile(descriptor_pb2.FileDescriptorProto(**FILE).SerializeToString())
EmbedRequest, EmbedResponse = (
    message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"tests.{name}"))
    for name in ("EmbedRequest", "EmbedResponse")
)


def embed_body(request: Any) -> EmbedBody:
    """Return the body that REST would have read."""
    return EmbedBody(words=list(request.words), **({"size": request.size} if request.size else {}))


def embed_response(answered: Answered) -> Any:
    """Return the vectors, with each failed word's error in its place."""
    results = [
        {"error": item_status(item.error)} if isinstance(item, FailedItem) else {"vector": vector(item)}
        for item in answered.items
    ]
    return EmbedResponse(version=answered.version, results=results)


def vector(item: Item) -> list[float]:
    """Return the numbers of an answer."""
    assert isinstance(item, Embedding)
    return list(item.vector)


RPC = Rpc("tests.EmbeddingService", "Embed", EmbedRequest, embed_body, embed_response)
ALL_RPCS: Rpcs = {**RPCS, EMBEDDING.name: RPC}

# --- a model for it, and both doors ---------------------------------------------------------------


def models(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer for `totals`, and for `letters` by the sum and the number of a word's letters."""
    if spec.model == "totals":
        return totals(spec, inputs)
    letters = inputs["letters"]
    return {"vector": np.stack([letters.sum(axis=1), (letters > 0).sum(axis=1)], axis=1).astype(np.float32)}


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of `letters`."""
    letters = {"letters": {"dtype": "int32", "axes": ["batch", "time"], "pad_value": 0}}
    outputs = {"vector": {"dtype": "float32", "axes": ["batch", "unit"]}}
    return {
        "task": "embedding",
        "name": "letters",
        "version": 1,
        "signatures": {PREDICT_SIGNATURE: {"inputs": letters, "outputs": outputs}},
        "features": {"letters": {"kind": "categories", "labels": list(LETTERS), "first_id": 1}},
        "limits": {"text_characters": 16},
        "buckets": [8, 16],
        "examples": [{"request": {"words": ["cab"]}, "items": [{"vector": [6.0, 3.0]}]}],
        **changes,
    }


@dataclass(frozen=True, slots=True)
class Doors:
    """What a caller has, and what is counted."""

    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    metrics: Metrics

    async def post(self, path: str, body: Any) -> Any:
        """Return the JSON that a path answers."""
        return (await self.rest.post(f"/v1/models/{path}", json=body)).json()

    async def embed(self, *words: str, model: str = "letters", **options: Any) -> Any:
        """Ask the gRPC door."""
        call = self.channel.unary_unary(
            "/tests.EmbeddingService/Embed", EmbedRequest.SerializeToString, EmbedResponse.FromString
        )
        return await call(EmbedRequest(model={"name": model}, words=words, **options), timeout=20)


@asynccontextmanager
async def both_doors(tasks: Tasks = ALL, rpcs: Rpcs = ALL_RPCS, **changes: Any) -> AsyncIterator[Doors]:
    """Start both doors over `totals` and `letters`."""
    backend, metrics = FakeBackend(models), Metrics(CollectorRegistry())
    backend.put("totals", 1, as_files(sequence_manifest()))
    backend.put("letters", 1, as_files(manifest(**changes)))
    settings = Settings(grpc_port=0)
    async with AsyncExitStack() as stack:
        scheduler = Scheduler(backend, BUDGET, metrics, backend_timeout=30)
        await stack.enter_async_context(scheduler)
        runner = ItemRunner(scheduler, metrics)
        catalog = Catalog(backend, runner, metrics, tasks=tasks)
        gateway = Gateway(catalog, runner, metrics, MOST)
        await catalog.refresh()
        server = RpcServer(gateway, settings, open_entrance(), BytesInFlight(10**6), rpcs)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}")
        stack.push_async_callback(server.stop, 0)
        stack.push_async_callback(channel.close)
        transport = httpx.ASGITransport(create_app(gateway, metrics, settings, open_entrance()))
        rest = httpx.AsyncClient(transport=transport, base_url="http://rest")
        yield Doors(await stack.enter_async_context(rest), channel, metrics)


async def reason(work: Any) -> tuple[str, list[str]]:
    """Return the reason of a failed gRPC call, and the fields at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await work
    status = status_pb2.Status.FromString(
        dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    )
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    _ = [detail.Unpack(bad) for detail in status.details[1:]]
    return info.reason, [violation.field for violation in bad.field_violations]


async def test_both_doors_answer_it() -> None:
    """The same vectors, a fault in its item's place, and each request and item counted under the verb."""
    async with both_doors() as doors:
        answer = await doors.post("letters:embed", {"words": ["cab", "", "z"]})
        assert (answer["model"]["name"], answer["model"]["version"]) == ("letters", 1)
        good, bad, short = answer["embeddings"]
        assert (good, short) == ({"vector": [6.0, 3.0]}, {"vector": [26.0, 1.0]})
        assert bad["error"]["reason"] == "EMPTY_TEXT"
        results = (await doors.embed("cab", "", "z")).results
        assert [list(result.vector) for result in results] == [[6.0, 3.0], [], [26.0, 1.0]]
        assert results[1].error.message == bad["error"]["message"]
        pinned = await doors.post("letters/versions/1:embed", {"words": ["cab"], "size": 1})
        assert pinned["embeddings"] == [{"vector": [6.0]}]
    requests, items = (series(doors.metrics, f"{name}_total") for name in ("requests", "items"))
    labels = ("letters", "1", "embed")
    assert requests == {(*labels, "rest", "OK", ""): 2, (*labels, "grpc", "OK", ""): 1}
    assert items[(*labels, "grpc", "INVALID_ARGUMENT", "EMPTY_TEXT")] == 1
    assert items[(*labels, "rest", "OK", "")] == 3


REFUSED: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("EMPTY_REQUEST", "letters", {"words": []}, ["words"]),
    ("TOO_MANY_ITEMS", "letters", {"words": ["a"] * (MOST + 1)}, ["words"]),
    ("OPTION_OUT_OF_RANGE", "letters", {"words": ["a"], "size": 3}, ["size"]),
    ("EMPTY_TEXT", "letters", {"words": ["", ""]}, ["words[0]", "words[1]"]),
    ("WRONG_TASK", "totals", {"words": ["a"]}, []),
    ("MODEL_NOT_FOUND", "none", {"words": ["a"]}, []),
]


@pytest.mark.parametrize(("why", "model", "body", "fields"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_both_doors_refuse_alike(why: str, model: str, body: dict[str, Any], fields: list[str]) -> None:
    """The same reason and the same places, counted once at each door."""
    async with both_doors() as doors:
        problem = await doors.post(f"{model}:embed", body)
        assert problem["reason"] == why
        pointers = [error["pointer"] for error in problem.get("errors", [])]
        assert pointers == ["#/" + field.replace("[", "/").rstrip("]") for field in fields]
        words, size = body["words"], body.get("size", 0)
        assert await reason(doors.embed(*words, model=model, size=size)) == (why, fields)
    assert {labels[3:]: count for labels, count in series(doors.metrics, "requests_total").items()} == {
        (transport, problem["code"], why): 1 for transport in ("rest", "grpc")
    }


async def test_a_body_of_another_form_is_refused() -> None:
    """REST's form is the body type's."""
    async with both_doors() as doors:
        problem = await doors.post("letters:embed", {"words": "cab"})
        assert (problem["reason"], problem["errors"][0]["pointer"]) == ("MALFORMED_JSON", "#/words")


async def test_the_other_tasks_do_not_answer_for_it() -> None:
    """Its model is for `embed` alone."""
    async with both_doors() as doors:
        assert (await doors.post("letters:translate", {"texts": ["a"]}))["reason"] == "WRONG_TASK"
        assert (await doors.post("letters:predict", {"sequences": [{}]}))["reason"] == "WRONG_TASK"
        for method, request in (
            ("TranslationService/Translate", translation_pb2.TranslateRequest(texts=["a"])),
            ("SequenceService/Predict", sequence_pb2.PredictRequest(sequences=[{}])),
        ):
            request.model.name = "letters"
            call = doors.channel.unary_unary(f"/seqserve.v1.{method}")
            assert await reason(call(request.SerializeToString(), timeout=20)) == ("WRONG_TASK", [])


async def test_it_is_described() -> None:
    """OpenAPI has its path, body and answer; the list of models its task; reflection its service."""
    async with both_doors() as doors:
        page = (await doors.rest.get("/openapi.json")).json()
        schemas = page["components"]["schemas"]
        for place in ("", "/versions/{version}", "/labels/{label}"):
            operation = page["paths"][f"/v1/models/{{model}}{place}:embed"]["post"]
            body = operation["requestBody"]["content"]["application/json"]
            assert body["schema"]["$ref"].endswith("/EmbedBody")
            assert body["example"] == EMBEDDING.example
        assert set(schemas["EmbedBody"]["properties"]) == {"words", "size"}
        either = schemas["EmbedAnswer"]["properties"]["embeddings"]["items"]["anyOf"]
        assert [one["$ref"].rpartition("/")[2] for one in either] == ["Embedding", "FailedItem"]
        assert set(schemas["Embedding"]["properties"]) == {"vector"}
        listed = {
            model["name"]: model["task"] for model in (await doors.rest.get("/v1/models")).json()["models"]
        }
        assert listed == {"letters": "embedding", "totals": "sequence"}
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(doors.channel)
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol="tests.EmbeddingService")]
        [described] = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
        assert described.file_descriptor_response.file_descriptor_proto
        assert MessageToDict(await doors.embed("cab")) == {
            "version": "1",
            "results": [{"vector": [6.0, 3.0]}],
        }


UNFIT: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "its golden examples are run",
        {"examples": [{"request": {"words": ["cab"]}, "items": [{"vector": [7.0, 3.0]}]}]},
        "GOLDEN_FAILED",
        "vector.0",
    ),
    ("its codec sees to the manifest", {"limits": {}}, "MANIFEST_INVALID", "limits.text_characters"),
    ("no row, no service", {"task": "rhyming"}, "MANIFEST_INVALID", "task: 'rhyming' is not served here"),
]


@pytest.mark.parametrize(
    ("changes", "why", "named"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT]
)
async def test_a_version_that_does_not_fit_is_refused(changes: dict[str, Any], why: str, named: str) -> None:
    """As one of any other task is, with the reason in the list of models."""
    async with both_doors(**changes) as doors:
        [version] = (await doors.rest.get("/v1/models/letters")).json()["versions"]
        assert (version["standing"], version["reason"]) == ("REFUSED", why)
        assert named in version["message"]


async def test_without_its_row_there_is_no_such_task() -> None:
    """Nothing of it is left in the tables that are shipped."""
    async with both_doors(TASKS, RPCS) as doors:
        assert (await doors.post("letters:embed", {"words": ["cab"]}))["reason"] == "METHOD_NOT_ALLOWED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doors.embed("cab")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        [version] = (await doors.rest.get("/v1/models/letters")).json()["versions"]
        assert "there are: sequence, translation" in version["message"]


async def test_without_messages_it_is_rests_alone() -> None:
    """A task need not be offered by gRPC."""
    async with both_doors(rpcs=RPCS) as doors:
        assert (await doors.post("letters:embed", {"words": ["cab"]}))["embeddings"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doors.embed("cab")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
