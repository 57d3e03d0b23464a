"""The gRPC door from outside: what a client of `seqserve.v1` sees, over a real connection."""

import asyncio
import io
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from seqserve.service import errors
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.rpc.server import RpcServer
from seqserve.service.settings import Settings
from seqserve.v1 import model_pb2, sequence_pb2, translation_pb2
from tests.edge.fakes import open_entrance

DETAILS = "grpc-status-details-bin"
GOOD: dict[str, Any] = {
    "activity": {"strings": {"values": ["Wait", "Assign"]}},
    "minutes": {"numbers": {"values": [0, 2]}},
    "amount": {"numbers": {"values": [1, 2, 3, 4], "width": 2}},
}


def predict(*changes: dict[str, Any], **given: Any) -> sequence_pb2.PredictRequest:
    """Return a request of one good sequence for each dict of changed features."""
    sequences = [
        {"features": {name: value for name, value in {**GOOD, **change}.items() if value is not None}}
        for change in changes
    ]
    message = {"model": {"name": "tickets"}, "sequences": sequences, **given}
    return json_format.ParseDict(message, sequence_pb2.PredictRequest())


def translate(*texts: str, **given: Any) -> translation_pb2.TranslateRequest:
    message = {"model": {"name": "echo"}, "texts": texts, **given}
    return json_format.ParseDict(message, translation_pb2.TranslateRequest())


class Failed:
    """A failed call, taken apart."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())[DETAILS])
        self.code, self.message = error.code(), error.details()
        assert (status.code, status.message) == (self.code.value[0], self.message)
        self.info = unpacked(status, error_details_pb2.ErrorInfo)
        assert self.info.domain == "seqserve"
        self.reason = self.info.reason
        self.violations = unpacked(status, error_details_pb2.BadRequest).field_violations
        self.retry = unpacked(status, error_details_pb2.RetryInfo).retry_delay

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.violations]


def unpacked(status: status_pb2.Status, kind: Any) -> Any:
    message = kind()
    for detail in status.details:
        if detail.Unpack(message):
            break
    return message


async def failed(call: Any) -> Failed:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Failed(caught.value)


async def test_a_sequence_is_answered(start: Any) -> None:
    world = await start()
    response = await world.sequence.Predict(predict({}, {}, top_k=2))
    assert (response.model.name, response.model.version) == ("tickets", 1)
    assert response.model.digest == world.catalog.current("tickets").digest
    [one, other] = [result.prediction for result in response.results]
    assert one == other
    answer = one.heads["next"].class_answer
    assert (answer.label, len(answer.top)) == ("Wait", 2)
    assert answer.probability == pytest.approx(0.6)
    [interval] = one.heads["wait"].value_answer.intervals
    assert (interval.level, interval.low, interval.high) == (pytest.approx(0.9), 1, 4)


async def test_each_text_has_its_own_fate(start: Any) -> None:
    world = await start()
    response = await world.translation.Translate(translate("two dogs", "", "x" * 41, "a cat"))
    assert [result.translation.text for result in response.results] == ["two dogs", "", "", "a cat"]
    faults = [result.error for result in response.results[1:3]]
    reasons = [unpacked(fault, error_details_pb2.ErrorInfo).reason for fault in faults]
    assert reasons == ["EMPTY_TEXT", "TEXT_TOO_LONG"]
    assert {fault.code for fault in faults} == {3}
    assert not response.results[0].translation.target_tokens


PLACE = 'sequences[0].features["{}"]'
CODE = grpc.StatusCode
REFUSED: list[tuple[str, CODE, list[str], sequence_pb2.PredictRequest]] = [
    ("MODEL_NOT_FOUND", CODE.NOT_FOUND, [], predict({}, model={"name": ""})),
    ("MODEL_NOT_FOUND", CODE.NOT_FOUND, [], sequence_pb2.PredictRequest()),
    ("VERSION_NOT_FOUND", CODE.NOT_FOUND, [], predict({}, model={"name": "tickets", "version": 0})),
    ("VERSION_NOT_FOUND", CODE.NOT_FOUND, [], predict({}, model={"name": "tickets", "version": -1})),
    ("LABEL_NOT_FOUND", CODE.NOT_FOUND, [], predict({}, model={"name": "tickets", "label": ""})),
    ("WRONG_TASK", CODE.FAILED_PRECONDITION, [], predict({}, model={"name": "echo"})),
    ("EMPTY_REQUEST", CODE.INVALID_ARGUMENT, ["sequences"], predict()),
    ("TOO_MANY_ITEMS", CODE.INVALID_ARGUMENT, ["sequences"], predict({}, {}, {}, {})),
    ("OPTION_OUT_OF_RANGE", CODE.INVALID_ARGUMENT, ["top_k"], predict({}, top_k=0)),
    ("OPTION_OUT_OF_RANGE", CODE.INVALID_ARGUMENT, ["seed"], predict({}, seed=-1)),
    ("UNKNOWN_HEAD", CODE.INVALID_ARGUMENT, ["heads[1]"], predict({}, heads=["next", "more"])),
    ("OPTION_OUT_OF_RANGE", CODE.INVALID_ARGUMENT, ["heads"], predict({}, heads=["next"] * 1001)),
    ("MISSING_FEATURE", CODE.INVALID_ARGUMENT, [PLACE.format("minutes")], predict({"minutes": None})),
    ("MISSING_FEATURE", CODE.INVALID_ARGUMENT, [PLACE.format("minutes")], predict({"minutes": {}})),
    ("UNKNOWN_FEATURE", CODE.INVALID_ARGUMENT, [PLACE.format('a\\"b')], predict({'a"b': {}})),
    (
        "WRONG_WIDTH",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("amount") + ".values[1]"],
        predict({"amount": {"numbers": {"values": [1, 2, 3], "width": 2}}}),
    ),
    (
        "WRONG_WIDTH",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("amount") + ".values[0]"],
        predict({"amount": {"numbers": {"values": [1, 2], "width": -1}}}),
    ),
    (
        "NOT_FINITE",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("amount") + ".values[1]"],
        predict({"amount": {"numbers": {"values": [1, 2, "NaN", 4], "width": 2}}}),
    ),
    (
        "NEGATIVE_ELAPSED",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("minutes") + ".timestamps.values[1]"],
        predict({"minutes": {"timestamps": {"values": ["2026-05-01T00:00:01Z", "2026-05-01T00:00:00Z"]}}}),
    ),
    (
        "WRONG_TYPE",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("minutes") + ".values[0]"],
        predict({"minutes": {"strings": {"values": ["1", "2"]}}}),
    ),
    (
        "UNKNOWN_CATEGORY",
        CODE.INVALID_ARGUMENT,
        [PLACE.format("activity") + ".values[1]"],
        predict({"activity": {"strings": {"values": ["Wait", "wait"]}}}),
    ),
]


@pytest.mark.parametrize(("reason", "code", "fields", "request_"), REFUSED)
async def test_what_cannot_be_answered_is_refused_with_its_place(
    start: Any, reason: str, code: CODE, fields: list[str], request_: sequence_pb2.PredictRequest
) -> None:
    world = await start(max_items=3)
    refusal = await failed(world.sequence.Predict(request_))
    assert (refusal.reason, refusal.code, refusal.fields) == (reason, code, fields)
    assert {violation.reason for violation in refusal.violations} <= {reason}


async def test_options_of_decoding_are_named_where_they_are(start: Any) -> None:
    world = await start()
    beams = await failed(world.translation.Translate(translate("a", options={"beam_size": 0})))
    assert (beams.reason, beams.fields) == ("OPTION_OUT_OF_RANGE", ["options.beam_size"])
    sampling = await failed(world.translation.Translate(translate("a", options={"sampling": {}})))
    assert (sampling.reason, sampling.fields) == ("OPTION_OUT_OF_RANGE", ["options.sampling"])


@pytest.mark.parametrize("raw", [b"\xff", b"\x12\x02\xff\xfe"], ids=["no message", "a text that is no UTF-8"])
async def test_bytes_that_do_not_parse_are_the_callers_fault(start: Any, raw: bytes) -> None:
    world = await start()
    call = world.channel.unary_unary("/seqserve.v1.TranslationService/Translate")
    refusal = await failed(call(raw))
    assert (refusal.reason, refusal.code) == ("MALFORMED_MESSAGE", CODE.INVALID_ARGUMENT)


async def test_a_message_past_the_limit_is_refused_by_the_transport(start: Any) -> None:
    world = await start(grpc_message_bytes=1000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.translation.Translate(translate("a" * 1000))
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED


async def test_where_every_item_fails_each_has_its_place_as_far_as_trailers_go(start: Any) -> None:
    world = await start(max_items=2000)
    few = await failed(world.translation.Translate(translate("", "x" * 41)))
    assert [(v.field, v.reason) for v in few.violations] == [
        ("texts[0]", "EMPTY_TEXT"),
        ("texts[1]", "TEXT_TOO_LONG"),
    ]
    many = await failed(world.translation.Translate(translate(*[""] * 2000)))
    assert (many.reason, many.code) == ("EMPTY_TEXT", CODE.INVALID_ARGUMENT)
    left_out = int(many.info.metadata["violations_left_out"])
    assert len(many.fields) > 10
    assert many.fields == [f"texts[{place}]" for place in range(2000 - left_out)]


async def test_a_long_message_fits_the_trailers(start: Any) -> None:
    world = await start()
    world.backend.contents["tickets"] = {2: errors.ManifestInvalid("Ⓜ" * 9000)}
    await world.catalog.refresh()
    refusal = await failed(world.sequence.Predict(predict({}, model={"name": "tickets", "version": 2})))
    assert (refusal.reason, set(refusal.message)) == ("MANIFEST_INVALID", {"Ⓜ"})


async def test_a_full_queue_says_when_to_come_back(start: Any) -> None:
    world = await start(max_queue_cells=1, slots=1)
    world.backend.gate.clear()
    held = []
    async with asyncio.timeout(20):
        for waits in (0, 2):  # one computes, the other waits
            held.append(world.sequence.Predict(predict({})))
            await world.queued.becomes(2)
            await world.queued.becomes(waits)
    refusal = await failed(world.sequence.Predict(predict({})))
    assert (refusal.reason, refusal.code) == ("QUEUE_FULL", CODE.RESOURCE_EXHAUSTED)
    assert 1 <= refusal.retry.ToTimedelta().total_seconds() <= 3
    world.backend.gate.set()
    await asyncio.gather(*held)


async def test_the_request_id_comes_back(start: Any) -> None:
    world = await start()

    async def echoed(given: str | None) -> str:
        metadata = () if given is None else (("x-request-id", given),)
        call = world.model.ListModels(model_pb2.ListModelsRequest(), metadata=metadata)
        return str(dict(await call.initial_metadata())["x-request-id"])

    assert await echoed("mine-7") == "mine-7"
    made = await asyncio.gather(echoed(None), echoed(None), echoed("a b"), echoed("x" * 129))
    assert [len(one) for one in made] == [32] * 4
    assert len(set(made)) == 4


async def test_a_fault_of_ours_is_logged_whole_and_shown_without_its_insides(
    start: Any, log_lines: io.StringIO
) -> None:
    world = await start()
    world.gateway.models = lambda *_: 1 / 0
    request_id = (("x-request-id", "mine-8"),)
    fault = await failed(world.model.ListModels(model_pb2.ListModelsRequest(), metadata=request_id))
    assert (fault.reason, fault.code) == ("UNEXPECTED", CODE.INTERNAL)
    assert "division" not in fault.message
    assert "ZeroDivisionError" in log_lines.getvalue()
    assert '"request_id":"mine-8"' in log_lines.getvalue()


async def test_a_call_without_a_deadline_has_the_default_one(start: Any) -> None:
    world = await start(default_timeout=0.05)
    world.backend.gate.clear()
    late = await failed(world.sequence.Predict(predict({})))
    assert (late.reason, late.code) == ("DEADLINE_EXCEEDED", CODE.DEADLINE_EXCEEDED)


async def test_the_callers_deadline_reaches_the_backend(start: Any) -> None:
    world = await start(default_timeout=1000, backend_timeout=1000)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await world.sequence.Predict(predict({}), timeout=50)
    await world.sequence.Predict(predict({}))
    given, default = world.backend.deadlines
    assert before + 40 < given < loop.time() + 50.1
    assert before + 1000 <= default <= loop.time() + 1000


async def test_a_cancelled_call_leaves_the_queue_and_its_neighbours_alone(start: Any) -> None:
    world = await start(slots=1)
    world.backend.gate.clear()
    async with asyncio.timeout(20):
        first = world.sequence.Predict(predict({}))
        await world.backend.entered.wait()
        await world.queued.becomes(0)  # the first has left the queue
        gone = world.sequence.Predict(predict({"activity": {"strings": {"values": ["7", "7"]}}}))
        await world.queued.becomes(2)
        neighbour = world.sequence.Predict(predict({}))
        await world.queued.becomes(4)
        gone.cancel()
        assert isinstance(await world.gateway.ended.get(), asyncio.CancelledError)
        world.backend.gate.set()
        for answered in (first, neighbour):
            assert (await answered).results[0].prediction.heads["next"].class_answer.label == "Wait"
    assert [batch["activity"][:, 0].tolist() for batch in world.backend.batches] == [[1], [1]]


async def test_models_are_described(start: Any, sequence_files: dict[str, bytes]) -> None:
    world = await start()
    refused = errors.FileChanged("variables is not the file that was exported")
    world.backend.contents["tickets"] = {1: sequence_files, 2: refused, 3: None}
    world.backend.contents["new"] = {1: None}
    await world.catalog.refresh()
    listed = (await world.model.ListModels(model_pb2.ListModelsRequest())).models
    assert [model.name for model in listed] == ["echo", "new", "tickets"]
    one = (await world.model.GetModel(model_pb2.GetModelRequest(name="tickets"))).model
    assert one == listed[2]
    digest = world.catalog.current("tickets").digest
    assert json_format.MessageToDict(one, preserving_proto_field_name=True) == {
        "name": "tickets",
        "task": "sequence",
        "current": "1",
        "versions": [
            {"version": "3", "standing": "STANDING_LOADING"},
            {
                "version": "2",
                "standing": "STANDING_REFUSED",
                "reason": "FILE_CHANGED",
                "message": "variables is not the file that was exported",
            },
            {"version": "1", "standing": "STANDING_ROUTABLE", "digest": digest},
        ],
        "features": {
            "activity": {"kind": "categories", "labels": ["Assign", "Wait", "7"]},
            "minutes": {"kind": "elapsed", "unit": "minutes", "origin": "previous"},
            "amount": {"kind": "numbers", "width": 2, "columns": ["net", "tax"], "units": ["EUR", "EUR"]},
        },
        "heads": {
            "next": {"kind": "softmax", "per": "sequence", "labels": ["Assign", "Wait", "7"]},
            "wait": {"kind": "numeric", "per": "sequence", "unit": "minutes"},
        },
        "limits": {"sequence_steps": "8"},
    }
    assert json_format.MessageToDict(listed[1]) == {
        "name": "new",
        "versions": [{"version": "1", "standing": "STANDING_LOADING"}],
    }
    missing = await failed(world.model.GetModel(model_pb2.GetModelRequest(name="none")))
    assert (missing.reason, missing.code) == ("MODEL_NOT_FOUND", CODE.NOT_FOUND)


async def test_reflection_lists_every_service_and_knows_the_messages(start: Any) -> None:
    world = await start()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="seqserve.v1.PredictRequest"),
    ]
    listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    assert {service.name for service in listed.list_services_response.service} == {
        "seqserve.v1.TranslationService",
        "seqserve.v1.SequenceService",
        "seqserve.v1.SessionService",
        "seqserve.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


async def test_a_taken_port_is_an_error(start: Any) -> None:
    world = await start()
    other = RpcServer(world.gateway, Settings(grpc_port=world.port), open_entrance(), BytesInFlight(1))
    with pytest.raises(OSError, match="taken"):
        await other.start()
