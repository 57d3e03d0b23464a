"""Inputs handed to the doors' own code in this process: no socket between, so that there can be a million.

REST's application is called as its server calls it, gRPC's methods, with the edge round them, as grpc does.
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seqserve.openinference import inference_pb2
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.errors import SeqserveError
from seqserve.service.rest.app import create_app
from seqserve.service.rpc.accepting import Answer
from seqserve.service.rpc.calls import Calls
from seqserve.service.rpc.edge import DETAILS_KEY, Edge, Method, Results
from seqserve.service.rpc.reading import Reader
from seqserve.service.rpc.servicers import services
from seqserve.service.rpc.surfaces import surface_services
from seqserve.service.rpc.tasks import RPCS
from seqserve.service.settings import Settings
from seqserve.tfserving import predict_pb2
from seqserve.v1 import model_pb2, sequence_pb2, session_pb2, translation_pb2
from tests.core import fakes
from tests.edge.fakes import open_entrance
from tests.fuzz import inputs, world
from tests.fuzz.findings import Findings

Trial = Callable[[Random], Awaitable[None]]
POLITE = {"sequences": [{"x": [1, 2, 3]}], "heads": ["total"]}
POLITE_ANSWER = fakes.total([1, 2, 3])
FAULTS = {"UNEXPECTED", "BACKEND_FAILED"}
"""Reasons that no input may bring about; POISON, which `totals` dies of by design, aside."""
STREAMS = (b"application/x-ndjson", b"text/event-stream", b"text/event-stream;q=0.5, application/*;q=0.4")
"""What asks for answers as they come."""
QUERIES = (b"", b"order=finished", b"order=index", b"order=\xff&order", b"%00")
HEADERS = (b"content-type", b"grpc-timeout", b"x-request-id", b"forwarded", b"authorization", b"x-api-key")
PATHS = (
    "/v1/models/{m}:{v}",
    "/v1/models/{m}/versions/1:{v}",
    "/v1/models/{m}/labels/x:{v}",
    "/v1/models/{m}",
)
TRANSLATE = translation_pb2.TranslateRequest(model={"name": "echo"}, texts=["two dogs", "run"])
THREE = {"dim": [{"size": 1}, {"size": 3}]}
APPEND = session_pb2.AppendRequest(
    model={"name": "visits"},
    session_id=inputs.SESSION,
    sequence={
        "features": {
            "event": {"strings": {"values": ["visit"]}},
            "minutes": {"numbers": {"values": [2]}},
        }
    },
)
HONEST: dict[str, tuple[Message, ...]] = {
    "/seqserve.v1.TranslationService/Translate": (
        TRANSLATE,
        translation_pb2.TranslateRequest(
            model={"name": "echo", "version": 1}, texts=["a cat"], options={"beam_size": 2, "n_best": 2}
        ),
    ),
    "/seqserve.v1.TranslationService/TranslateStream": (
        translation_pb2.TranslateStreamRequest(translate=TRANSLATE, order=2),  # type: ignore[arg-type]
    ),
    "/seqserve.v1.SequenceService/PredictStream": (
        sequence_pb2.PredictStreamRequest(
            predict={
                "model": {"name": "totals"},
                "sequences": [
                    {"features": {"x": {"numbers": {"values": [1, number]}}}} for number in range(5)
                ],
            }
        ),
    ),
    "/seqserve.v1.SequenceService/Predict": (
        sequence_pb2.PredictRequest(
            model={"name": "totals"},
            sequences=[{"features": {"x": {"numbers": {"values": [1, 2, 3]}}}}],
            heads=["total"],
        ),
        sequence_pb2.PredictRequest(
            model={"name": "tickets"},
            sequences=[
                {
                    "features": {
                        "activity": {"strings": {"values": ["Assign", "Wait"]}},
                        "minutes": {"timestamps": {"values": [{"seconds": 5}, {"seconds": 65, "nanos": 7}]}},
                        "amount": {"numbers": {"values": [1, 2, 3, 4], "width": 2}},
                    }
                }
            ],
        ),
    ),
    "/seqserve.v1.SessionService/CreateSession": (
        session_pb2.CreateSessionRequest(model={"name": "visits"}),
    ),
    "/seqserve.v1.SessionService/Append": (APPEND,),
    "/seqserve.v1.SessionService/AppendStream": (session_pb2.AppendStreamRequest(append=APPEND),),
    "/seqserve.v1.SessionService/GetSession": (
        session_pb2.GetSessionRequest(model={"name": "visits", "version": 1}, session_id=inputs.SESSION),
    ),
    "/seqserve.v1.SessionService/DeleteSession": (
        session_pb2.DeleteSessionRequest(model={"name": "visits"}, session_id="x" * 22),
    ),
    "/seqserve.v1.ModelService/GetModel": (model_pb2.GetModelRequest(name="echo"),),
    "/seqserve.v1.ModelService/ListModels": (model_pb2.ListModelsRequest(),),
    "/tensorflow.serving.PredictionService/Predict": (
        predict_pb2.PredictRequest(
            model_spec={"name": "totals"},
            inputs={"x": {"dtype": 1, "tensor_shape": THREE, "float_val": [1, 2, 3]}},
        ),
        predict_pb2.PredictRequest(
            model_spec={"name": "echo", "version": {"value": 1}},
            inputs={"text": {"dtype": 7, "tensor_shape": {"dim": [{"size": 1}]}, "string_val": [b"a cat"]}},
            output_filter=["text"],
        ),
    ),
    "/tensorflow.serving.PredictionService/GetModelMetadata": (
        predict_pb2.GetModelMetadataRequest(model_spec={"name": "echo"}, metadata_field=["signature_def"]),
    ),
    "/inference.GRPCInferenceService/ModelInfer": (
        inference_pb2.ModelInferRequest(
            model_name="totals",
            inputs=[
                {"name": "x", "datatype": "FP64", "shape": [1, 2], "contents": {"fp64_contents": [1, 2]}}
            ],
            outputs=[{"name": "total"}],
        ),
        inference_pb2.ModelInferRequest(
            model_name="echo",
            inputs=[{"name": "text", "datatype": "BYTES", "shape": [1]}],
            raw_input_contents=[b"\x03\0\0\0two"],
            parameters={"beam_size": {"int64_param": 2}},
        ),
    ),
}


class Aborted(Exception):
    """A call of many answers has ended by a status: as `Answer` has it."""


class Context:
    """What grpc hands a method, as far as the edge uses it."""

    def __init__(self, raw: bytes, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self._raw = raw
        self._metadata = metadata
        self.written: list[bytes] = []

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._metadata

    async def read(self) -> bytes:
        return self._raw

    async def send_initial_metadata(self, metadata: Any) -> None:
        pass

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    async def abort(self, code: Any, details: str, trailing: Any) -> None:
        raise Aborted(Answer((), None, code, details, trailing))

    def peer(self) -> str:
        return "ipv4:127.0.0.1:9"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> float:
        return 20.0


@asynccontextmanager
async def trials(findings: Findings) -> AsyncIterator[dict[str, Trial]]:
    """Yield, by name, what tries one input that is drawn from a `Random`."""
    async with fakes.running(world.answer) as core:
        core.backend.published = world.backend().published
        await core.catalog.refresh()
        await world.live(core.gateway)
        doors = _Doors(core, findings)
        yield {"rest": doors.rest, "grpc": doors.grpc, "manifest": doors.manifest}


class _Doors:
    def __init__(self, core: fakes.Core, findings: Findings) -> None:
        settings = Settings()
        self._backend = core.backend
        self._findings = findings
        self._app = create_app(core.gateway, core.metrics, settings, open_entrance())
        reader = Reader(BytesInFlight(10**9), settings.grpc_message_bytes, settings.body_seconds)
        calls, entrance = Calls(settings.grpc_calls), open_entrance()
        edge = Edge(entrance, calls, reader, settings)
        self._methods = {
            f"/{service}/{name}": edge.around(f"/{service}/{name}", method)
            for service, methods in {
                **services(core.gateway, RPCS),
                **surface_services(core.gateway),
            }.items()
            for name, method in methods.items()
            if isinstance(method, Method | Results)
        }
        self._manifests = world.manifests()

    async def rest(self, random: Random) -> None:
        """Call the application; beside it, now and then, a polite call, which must be answered rightly."""
        self._backend.batches.clear()
        model, verb, body = inputs.body(random)
        path = random.choice(inputs.PATHS.get(verb, PATHS)).format(
            m=model if random.random() < 0.97 else "n/o\x00", v=verb
        )
        headers = [(b"content-type", b"application/json")]
        for _ in range(random.randrange(3) if random.random() < 0.3 else 0):
            given = random.choice(inputs.WORDS).encode()
            headers.append((random.choice(HEADERS), given if random.random() < 0.5 else random.randbytes(9)))
        if random.random() < 0.1:
            headers.append((b"accept", random.choice(STREAMS)))
        calls = [self._call("POST" if random.random() < 0.97 else "GET", path, headers, body, random)]
        is_polite = random.random() < 0.1
        if is_polite:
            polite = json.dumps(POLITE).encode()
            calls.append(self._call("POST", "/v1/models/totals:predict", headers[:1], polite, random))
        answers = await asyncio.gather(*calls)
        self._judge(*answers[0], body)
        if is_polite and _value(answers[1]) != POLITE_ANSWER:
            self._findings.add("a polite call beside it was answered", answers[1], body)

    async def _call(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, random: Random
    ) -> tuple[int, bytes]:
        cut = random.randrange(len(body) + 1) if random.random() < 0.1 else len(body)
        parts = [body[:cut], body[cut:]] if cut < len(body) else [body]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": random.choice(QUERIES),
            "headers": headers,
            "client": ("127.0.0.1", 9),
            "server": ("127.0.0.1", 80),
        }
        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])

    def _judge(self, status: int, answer: bytes, body: bytes) -> None:
        parts = parts_of(answer)
        content = parts[-1]
        reason = content.get("reason", "")
        if len(parts) > 1 and "done" not in content:
            self._findings.add("a stream broke off", content, body)
        if status >= 500 and not (reason == "BACKEND_FAILED" and b"666" in body):
            self._findings.add(f"REST answered {status} {reason}", content, body)
        for items in (*(content.get(place, ()) for place in ("translations", "predictions")), parts[1:-1]):
            for item in items:
                if (
                    isinstance(item, dict)
                    and item.get("error", {}).get("reason") in FAULTS
                    and b"666" not in body
                ):
                    self._findings.add("an item failed unexpectedly", item, body)

    async def grpc(self, random: Random) -> None:
        """Call a method as grpc does, with bytes."""
        self._backend.batches.clear()
        name = random.choice([name for name in HONEST if name in self._methods])
        raw = inputs.message(random.choice(HONEST[name]), random)
        metadata = (("x-request-id", random.choice(inputs.WORDS)),) if random.random() < 0.2 else ()
        answer = await asyncio.create_task(self._answered(name, Context(raw, metadata)))
        if answer.message is None:
            status = status_pb2.Status.FromString(dict(answer.trailing)[DETAILS_KEY])
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            if info.reason in FAULTS and not _is_poisoned(raw):
                self._findings.add(f"gRPC answered {answer.code.name} {info.reason}", status, raw)

    async def _answered(self, name: str, context: Context) -> Answer:
        method = self._methods[name]
        if callable(method):
            answer: Answer = await method(context)
            return answer
        try:
            await method.stream_stream(None, context)
        except Aborted as aborted:
            (answer,) = aborted.args
            return answer
        return Answer((), context.written[-1])

    async def manifest(self, random: Random) -> None:
        """Read a manifest: what is refused is refused as what it is."""
        raw = random.choice(self._manifests)
        table = json.loads(raw)
        for _ in range(random.randrange(1, 3)):
            table = inputs._changed(table, random)
        raw = json.dumps(table).encode("utf-8", "surrogatepass")
        if random.random() < 0.2:
            raw = inputs.mutated(raw, random)
        try:
            parse_manifest(raw)
        except SeqserveError:
            return
        except RecursionError:
            self._findings.add("a manifest was too deep", "RecursionError", raw)


def parts_of(answer: bytes) -> list[dict[str, Any]]:
    """Return the objects of an answer: of a list one, of a stream each."""
    lines = (line.removeprefix(b"data: ") for line in answer.splitlines() if not line.startswith(b"event: "))
    return [json.loads(line) for line in lines if line]


def _is_poisoned(raw: bytes) -> bool:
    """Tell whether a message may hold the number that `totals` dies of."""
    return struct.pack("<d", fakes.POISON) in raw


def _value(answer: tuple[int, bytes]) -> float:
    value: float = json.loads(answer[1])["predictions"][0]["heads"]["total"]["value"]
    return value
