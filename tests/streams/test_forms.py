"""Answers as they come, by sockets at both doors: the items of the list, in each form, or its fault."""

import json
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from seqserve.v1 import (
    model_pb2,
    translation_pb2,
)
from tests.answers import as_rest, prune, who
from tests.reasons import reason_of
from tests.streams.served import (
    BODY,
    EVENTS,
    LINES,
    MANY,
    PLACE,
    Service,
    by_grpc,
    message,
    read_events,
    read_lines,
    serving,
)
from tests.test_tasks import both_doors as tasks_doors


async def test_every_form_has_the_items_of_the_list() -> None:
    """The model, each item by its index, and the end; the fault of one that failed in its place."""
    async with serving() as service:
        whole = (await service.rest.post(PLACE, json=BODY)).json()
        wanted = [{"index": index, **item} for index, item in enumerate(whole["predictions"])]
        end = {"done": {"items": 5, "failed": 2}}
        answer = await service.rest.post(PLACE, json=BODY, headers={"Accept": LINES})
        assert answer.headers["content-type"] == LINES
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["x-request-id"]
        assert read_lines(answer.text) == [{"model": whole["model"]}, *wanted, end]
        answer = await service.rest.post(PLACE, json=BODY, headers={"Accept": EVENTS})
        assert answer.headers["content-type"].partition(";")[0] == EVENTS
        events = [("model", {"model": whole["model"]}), *(("item", item) for item in wanted), ("done", end)]
        assert read_events(answer.text) == events
        first, *others = responses = await by_grpc(service, message(BODY))
        assert who(first) == whole["model"]
        assert not any(other.HasField("model") for other in others)
        told = [{"index": one.index, **as_rest(one.result, "prediction")} for one in responses]
        for one in told:  # the place is of the stream's request
            if "error" in one:
                one["error"]["pointer"] = one["error"]["pointer"].replace("#/predict/", "#/", 1)
        assert [{**prune(one), "index": one["index"]} for one in told] == [
            {**prune(one), "index": one["index"]} for one in wanted
        ]


async def test_translations_come_alike() -> None:
    body = {"texts": ["two dogs", "", "a cat"], "alignment": True}
    async with serving() as service:
        place = "/v1/models/echo/versions/1:translate"
        whole = (await service.rest.post(place, json=body)).json()
        answer = await service.rest.post(place, json=body, headers={"Accept": LINES})
        _, *items, _ = read_lines(answer.text)
        assert items == [{"index": n, **item} for n, item in enumerate(whole["translations"])]
        asked = {"model": {"name": "echo"}, "texts": body["texts"], "options": {"alignment": True}}
        request = translation_pb2.TranslateStreamRequest(translate=asked)
        responses = await by_grpc(service, request)
        assert [one.index for one in responses] == [0, 1, 2]
        shown = [as_rest(one.result, "translation") for one in responses]
        assert shown[0]["alignment"] == whole["translations"][0]["alignment"]
        assert [one.get("text") for one in shown] == ["two dogs", None, "a cat"]
        assert shown[1]["error"]["pointer"] == "#/translate/texts/1"


async def test_what_is_ready_first_may_come_first() -> None:
    """By `?order=finished`, and by the message's field."""
    service: Service
    async with serving() as service:
        service.backend.slots, service.backend.seconds = 1, 0.01
        body = {"sequences": [{"x": [1] * (16 if place % 2 else 1)} for place in range(40)]}
        for order, number in (
            ("index", model_pb2.RESULT_ORDER_INDEX),
            ("finished", model_pb2.RESULT_ORDER_FINISHED),
        ):
            answer = await service.rest.post(f"{PLACE}?order={order}", json=body, headers={"Accept": LINES})
            by_rest = [line["index"] for line in read_lines(answer.text) if "index" in line]
            places = [one.index for one in await by_grpc(service, message(body, number))]
            for come in (by_rest, places):
                assert sorted(come) == list(range(40))
                assert (come == list(range(40))) is (order == "index")


ACCEPTED = [
    ("application/json", "application/json"),
    ("*/*", "application/json"),
    ("text/*", "application/json"),
    ("text/html", "application/json"),
    ("", "application/json"),
    (f"application/json, {LINES}", "application/json"),
    (f"{EVENTS}, application/json", "application/json"),
    (f"{EVENTS};q=0, */*", "application/json"),
    (f"{LINES};q=0", "application/json"),
    (f"{LINES};q=much", "application/json"),
    (f"{LINES};q=0.5, application/*", "application/json"),
    (f"{EVENTS};q=0.5, */*", "application/json"),
    (LINES, LINES),
    (EVENTS, EVENTS),
    (LINES.upper(), LINES),
    (f"{EVENTS}; charset=utf-8; q=0.4, {LINES};q=0.3", EVENTS),
    (f"{EVENTS};q=0.001", EVENTS),
    (f"{EVENTS}, {LINES}", LINES),
    (f"{EVENTS}, */*;q=0.9", EVENTS),
    (f"application/json;q=0.2, {LINES}; q=0.3, */*", LINES),
    (f"*/*, application/json;q=0.1, {EVENTS};q=0.2", EVENTS),
]


async def test_who_does_not_ask_for_a_stream_has_a_list() -> None:
    """By RFC 9110; a range never means one, and what is not acceptable is answered as ever."""
    async with serving() as service:
        for accept, kind in ACCEPTED:
            headers = {"Accept": accept} if accept else {}
            answer = await service.rest.post(PLACE, json=BODY, headers=headers)
            assert answer.headers["content-type"].partition(";")[0] == kind, accept
        twice = [("Accept", "text/plain"), ("Accept", EVENTS)]
        answer = await service.rest.post(PLACE, json=BODY, headers=twice)
        assert answer.headers["content-type"].startswith(EVENTS)
        other = {"instances": [{"x": [1]}]}
        answer = await service.rest.post(PLACE, json=other, headers={"Accept": LINES})
        assert answer.headers["content-type"] == "application/json"


ITEM = "predict.sequences"
REFUSED: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("EMPTY_REQUEST", {"sequences": []}, "totals", ["predict.sequences"]),
    ("TOO_MANY_ITEMS", {"sequences": [{"x": [1]}] * (MANY + 1)}, "totals", ["predict.sequences"]),
    ("UNKNOWN_HEAD", {**BODY, "heads": ["nope"]}, "totals", ["predict.heads[0]"]),
    ("MODEL_NOT_FOUND", BODY, "nope", []),
    ("WRONG_TASK", BODY, "echo", []),
    (
        "EMPTY_SEQUENCE",
        {"sequences": [{"x": []}] * 2},
        "totals",
        [f'predict.sequences[{n}].features["x"]' for n in (0, 1)],
    ),
    (
        "BACKEND_FAILED",
        {"sequences": [{"x": [666]}] * 2},
        "totals",
        ["predict.sequences[0]", "predict.sequences[1]"],
    ),
]


@pytest.mark.parametrize(("why", "body", "model", "fields"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_what_fails_before_there_is_an_item_fails_as_the_list_does(
    why: str, body: dict[str, Any], model: str, fields: list[str]
) -> None:
    """A problem with its status, and at the gRPC door a status with the places."""
    async with serving() as service:
        place = f"/v1/models/{model}:predict"
        whole = await service.rest.post(place, json=body)
        answer = await service.rest.post(place, json=body, headers={"Accept": EVENTS})
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["reason"]) == (whole.status_code, why)
        assert answer.json().get("errors") == whole.json().get("errors")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc(service, message(body, model=model))
        assert reason_of(caught.value) == why
        assert fields_of(caught.value) == fields


def fields_of(error: grpc.aio.AioRpcError) -> list[str]:
    """Return the places that a failed call names."""
    from google.rpc import status_pb2

    raw = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    bad = error_details_pb2.BadRequest()
    _ = [detail.Unpack(bad) for detail in status_pb2.Status.FromString(raw).details]
    return [violation.field for violation in bad.field_violations]


async def test_an_order_that_is_none_is_refused() -> None:
    async with serving() as service:
        answer = await service.rest.post(f"{PLACE}?order=best", json=BODY, headers={"Accept": LINES})
        assert (answer.status_code, answer.json()["reason"]) == (400, "OPTION_OUT_OF_RANGE")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await by_grpc(service, message(BODY, 9))
        assert reason_of(caught.value) == "OPTION_OUT_OF_RANGE"
        assert (await service.rest.post(f"{PLACE}?order=best", json=BODY)).status_code == 200


async def test_a_new_tasks_answers_may_come_one_by_one() -> None:
    """By REST as they are; gRPC has a method for that where the row has one."""
    async with tasks_doors() as doors:
        body = {"words": ["cab", "", "z"]}
        headers = {"Accept": "application/x-ndjson"}
        answer = await doors.rest.post("/v1/models/letters:embed", json=body, headers=headers)
        _, good, bad, short, end = map(json.loads, answer.text.splitlines())
        assert (good, short) == ({"index": 0, "vector": [6.0, 3.0]}, {"index": 2, "vector": [26.0, 1.0]})
        assert (bad["index"], bad["error"]["reason"]) == (1, "EMPTY_TEXT")
        assert end == {"done": {"items": 3, "failed": 1}}
