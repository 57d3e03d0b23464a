"""Both doors over both backends, one table: a request gives the same answer or reason four times.

A row is a REST request; the gRPC one is made from it. Rows for the state of the service (a full queue, a
failing backend, a refused version) put it into that state first.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from seqserve.service import errors
from seqserve.service.core.golden import first_difference
from seqserve.service.edge.key_file import add
from seqserve.service.edge.keys import new_key
from seqserve.service.errors import leaves
from seqserve.v1 import translation_pb2_grpc
from tests.doors import (
    HOURS,
    ORDER,
    SHOP,
    STAMPS,
    TEXT,
    WAVE,
    Both,
    Row,
    append,
    both_doors,
    draining,
    event,
    failing,
    full,
    limited,
    predict,
    reset,
    storeless,
    thrifty,
    translate,
    translate_message,
    waiting,
)
from tests.edge.fakes import key_line
from tests.streamed import MEMBERS, streamed_by_grpc, streamed_by_rest
from tests.tfserving.reload import ModelServer

DATES = ["Feb 15, 1983", "June 9, 2031"]
PAUSES = {"minutes": [0, 0.5, 12]}
KEY, NARROW = new_key(), new_key()
"""Of one who may do everything, and of one who may only translate with en-de."""
ROWS = [
    translate(),
    translate(texts=[TEXT, "9:05 AM", "twelve"], alignment=True),
    translate(tokens=True),
    translate(max_length=2),
    translate(length_penalty=0.0),
    translate(beam_size=4, n_best=2, alignment=True),
    translate(sampling={"seed": -5, "top_k": 3}),
    translate(version=1),
    translate(label="stable"),
    predict(label="stable"),
    translate(texts=[TEXT, "", "x" * 300, "two"]),
    translate(model="dates-attention", texts=[*DATES, "", TEXT], beam_size=4, n_best=2, alignment=True),
    translate(model="dates-attention", texts=DATES, sampling={"seed": 3, "temperature": 0.7}, tokens=True),
    translate(model="dates-checkpoint", texts=[*DATES, "August 1 2 3 4 5 6 7 8"], beam_size=3),
    translate("OPTION_OUT_OF_RANGE", model="dates-checkpoint", texts=DATES, alignment=True),
    translate(model="dates-characters", texts=[*DATES, "\u00e9t\u00e9"], length_penalty=0.0),
    translate("TEXT_TOO_LONG", model="dates-characters", texts=["9" * 14]),
    translate(model="dates-strings", texts=[*DATES, "", TEXT], tokens=True),
    translate("OPTION_OUT_OF_RANGE", model="dates-strings", texts=DATES, beam_size=2),
    translate("OPTION_OUT_OF_RANGE", model="dates-strings", texts=DATES, alignment=True),
    predict(),
    predict(top_k=3),
    predict(heads=["minutes_to_next"]),
    predict(seed=5),
    predict(model="waves", sequences=[WAVE, {"signal": WAVE["signal"] * 7}], top_k=3),
    predict(model="steps", sequences=[PAUSES, {"minutes": STAMPS}], top_k=2),
    predict(model="loads", sequences=[HOURS, {"hours": HOURS["hours"] * 9}], seed=5),
    predict(model="loads", sequences=[HOURS, {"hours": [[1e5, 0.0, 0.0]]}], heads=["load"]),
    predict(sequences=[event("visit", minutes=[1e7])]),
    predict("OPTION_OUT_OF_RANGE", model="loads", sequences=[HOURS], seed=-1),
    predict("SEQUENCE_TOO_LONG", model="loads", sequences=[{"hours": HOURS["hours"] * 10}]),
    predict("WRONG_WIDTH", model="loads", sequences=[{"hours": [[1.0, 2.0]]}]),
    predict("EMPTY_SEQUENCE", model="waves", sequences=[{"signal": []}]),
    predict("NEGATIVE_ELAPSED", model="steps", sequences=[{"minutes": [0, -1]}]),
    predict(sequences=[{**SHOP, "minutes": STAMPS}]),
    predict(sequences=[SHOP, event("visit", minutes=[-1]), event("nonsense"), event("pay")]),
    predict(model="orders", sequences=[ORDER, {**ORDER, "load": [[1.0, 1.0]] * 7, "region": 7}], top_k=3),
    predict(model="orders", sequences=[{**ORDER, "region": ["abroad"], "customer": [[60.0, 1.0]]}]),
    predict("WRONG_WIDTH", model="orders", sequences=[{**ORDER, "customer": [31.0, 4.5, 6.0]}]),
    predict("UNEQUAL_LENGTHS", model="orders", sequences=[{**ORDER, "region": ["north", "7"]}]),
    predict("UNEQUAL_LENGTHS", model="orders", sequences=[{**ORDER, "customer": [[1.0, 2.0]] * 2}]),
    predict("PAD_COLLISION", model="orders", sequences=[{**ORDER, "load": [[1.0, 1.0], [-9.0, -9.0]]}]),
    predict("EMPTY_SEQUENCE", model="orders", sequences=[{**ORDER, "load": []}]),
    predict(model="window", sequences=[{"x": [0.1, 0.5, 0.2, 1.5, -1.0, 2.0]}], top_k=2),
    predict("SEQUENCE_TOO_SHORT", model="window", sequences=[{"x": [0.1, 0.5, 0.2, 1.5, -1.0]}]),
    predict(
        model="notes",
        sequences=[{"note": "Two cats run, run!"}, {"note": "dogs"}, {"note": "cats"}, {"note": "..."}],
        top_k=2,
    ),
    predict("TEXT_TOO_LONG", model="notes", sequences=[{"note": "run " * 17}]),
    predict("EMPTY_TEXT", model="notes", sequences=[{"note": " "}]),
    translate("MODEL_NOT_FOUND", model="nope"),
    predict("MODEL_NOT_FOUND", model="nope"),
    translate("VERSION_NOT_FOUND", version=77),
    translate("VERSION_NOT_FOUND", version=0),
    translate("LABEL_NOT_FOUND", label="canary"),
    translate("WRONG_TASK", model="shop"),
    predict("WRONG_TASK", model="en-de"),
    translate("EMPTY_REQUEST", texts=[]),
    predict("EMPTY_REQUEST", sequences=[]),
    translate("TOO_MANY_ITEMS", texts=["two"] * 9),
    translate("OPTION_OUT_OF_RANGE", beam_size=9),
    translate("OPTION_OUT_OF_RANGE", beam_size=0),
    translate("OPTION_OUT_OF_RANGE", n_best=2),
    translate("OPTION_OUT_OF_RANGE", max_length=0),
    translate("OPTION_OUT_OF_RANGE", length_penalty=-1.0),
    translate("OPTION_OUT_OF_RANGE", beam_size=2, sampling={"temperature": 0.5}),
    translate("OPTION_OUT_OF_RANGE", sampling={"temperature": 0.0}),
    predict("OPTION_OUT_OF_RANGE", top_k=0),
    predict("UNKNOWN_HEAD", heads=["next_event", "nope"]),
    translate("EMPTY_TEXT", texts=[""]),
    translate("EMPTY_TEXT", texts=[" \n\t "]),
    translate("TEXT_TOO_LONG", texts=["x" * 201]),
    translate("TEXT_TOO_LONG", texts=["z" * 3_000_000]),
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
    translate("RATE_LIMITED", state=limited),
    predict("RATE_LIMITED", state=limited),
    translate("REQUEST_TOO_COSTLY", state=thrifty),
    predict("REQUEST_TOO_COSTLY", state=thrifty),
    translate("BACKEND_FAILED", state=failing(errors.BackendFailed("as asked"))),
    translate("BACKEND_UNAVAILABLE", state=failing(errors.BackendUnavailable("as asked"))),
    predict("DRAINING", state=draining),
    translate("GOLDEN_FAILED", model="golden", version=1),
    translate("MANIFEST_MISSING", model="bare", version=1),
    translate("MANIFEST_INVALID", model="invalid", version=1),
    translate("FILE_CHANGED", model="flipped", version=1),
    translate("FILE_CHANGED", model="flipped", label="stable"),
    translate("NOT_READY", model="flipped"),
    translate("TASK_DIFFERS", version=2),
    predict("TASK_DIFFERS", model="en-de", version=2),
    predict(model="copied"),
    append(),
    append(before=event("visit", minutes=[3]), first_event=1, top_k=2),
    append(before=event("visit"), sequence=event("visit", "pay"), heads=["next_event"], version=1),
    append(sequence={**SHOP, "minutes": STAMPS}, label="stable"),
    append("SEQUENCE_TOO_LONG", sequence=event(*["visit"] * 33)),
    append("SEQUENCE_TOO_LONG", before=event(*["visit"] * 32), sequence=event("pay"), first_event=32),
    append("UNKNOWN_CATEGORY", sequence=event("visit", "nonsense")),
    append("WRONG_TYPE", before=event("visit"), first_event=1, sequence={**SHOP, "minutes": STAMPS}),
    append("NEGATIVE_ELAPSED", sequence=event("visit", minutes=[-0.5])),
    append("MISSING_FEATURE", sequence={"event": ["visit"]}),
    append("OPTION_OUT_OF_RANGE", top_k=0),
    append("OPTION_OUT_OF_RANGE", first_event=-1),
    append("UNKNOWN_HEAD", heads=["nope"]),
    append("EVENT_GAP", first_event=5),
    append("EVENT_CONFLICT", before=event("visit"), sequence=event("pay")),
    append("SESSION_NOT_FOUND", session="x" * 22),
    append("SESSION_NOT_FOUND", session="nothing like an id"),
    append("STEP_UNSUPPORTED", model="waves"),
    append("WRONG_TASK", model="en-de"),
    append("MODEL_NOT_FOUND", model="nope"),
    append("VERSION_NOT_FOUND", version=77),
    append("LABEL_NOT_FOUND", label="canary"),
    append("DRAINING", state=draining),
    append("QUEUE_FULL", state=full),
    append("RATE_LIMITED", state=limited),
    append("REQUEST_TOO_COSTLY", state=thrifty),
    append("BACKEND_FAILED", state=failing(errors.BackendFailed("as asked"))),
    append("SESSIONS_UNAVAILABLE", state=storeless),
    append("UNAUTHENTICATED", key=""),
    append("PERMISSION_DENIED", key=NARROW),
    translate(key=NARROW),
    translate("UNAUTHENTICATED", key=""),
    predict("UNAUTHENTICATED", key=new_key()),
    translate("UNAUTHENTICATED", model="nope", texts=[], key=""),
    translate("UNAUTHENTICATED", key="", state=draining),
    predict("PERMISSION_DENIED", key=NARROW),
    predict("PERMISSION_DENIED", model="en-de", key=NARROW),
    translate("PERMISSION_DENIED", model="dates-attention", key=NARROW),
    translate("PERMISSION_DENIED", model="nope", texts=[], key=NARROW),
    translate("PERMISSION_DENIED", model="shop", key=NARROW, state=full),
    translate("PERMISSION_DENIED", model="shop", key=NARROW, state=draining),
]
REST_ALONE = {
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "MALFORMED_JSON",
    "MALFORMED_HTTP",
    "ROUTE_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "HEADERS_TOO_LARGE",
    "TOO_MANY_CONNECTIONS",
}
GRPC_ALONE = {"MALFORMED_MESSAGE", "NOT_FINITE"}
ELSEWHERE = {
    "MALFORMED_TENSOR": "tests/surfaces: tensors of other protocols",
    "UNSUPPORTED": "tests/surfaces: what other protocols have and the service does not",
    "REQUEST_TIMEOUT": "tests/rest/test_server.py, tests/rpc/test_transport.py: it takes its time",
    "SESSION_EXPIRED": "test_a_session_whose_version_has_gone",
    "CANCELLED": "tests/core: nobody is there to hear it",
    "UNEXPECTED": "test_an_unexpected_fault_tells_nothing",
    "BACKEND_BATCHING_ON": "test_a_server_that_batches_is_found_out",
    "ANSWERS_DIFFER": "tests/models: the proof of a model of somebody else's",
    "ANSWERS_VARY": "tests/models: certification",
    "GRAPH_DIFFERS": "tests/models: certification",
    "PADDING_LEAK": "tests/models: certification",
    "STEP_DIFFERS": "tests/models: certification",
    "DEVICE_ONLY_OP": "tests/models: certification",
    "UNSAFE_OP": "tests/backend/test_graph_ops.py: a model server loads it",
    "VERSION_EXISTS": "tests/models: publishing",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(
    refused_too: Path, model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Both]]:
    """A service that knows both keys, by its backend: one of each, as loading so many models takes long."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    for line in (key_line("all", KEY), key_line("narrow", NARROW, "translate:en-de")):
        add(keys, line)
    asked = {"key": KEY, "keys": keys}
    async with (
        both_doors(refused_too, **asked) as embedded,
        both_doors(refused_too, model_server, **asked) as served,
    ):
        yield {"embedded": embedded, "tfserving": served}


@pytest.mark.asyncio(loop_scope="module")
async def test_two_doors_and_two_backends_agree(services: dict[str, Both]) -> None:
    """Every row of the table, as a list and as a stream, and each service goes on after each."""
    wrong, asked = [], list(services.values())
    for row in ROWS:
        wrong += [f"{row}: {fault}"[:600] for fault in await disagreements(asked, row)]
        wrong += [f"after {row}: {fault}" for fault in await disagreements(asked, translate())]
    assert not wrong, "\n".join(wrong)


async def disagreements(services: list[Both], row: Row) -> list[str]:
    """Say where doors and backends differ from each other or from what the row wants."""
    doors: list[Any] = []
    for both in services:
        row.state(both)
        async with asyncio.timeout(20):
            calls = [both.by_rest(row), both.by_grpc(row)]
            if row.verb in MEMBERS:
                calls += [streamed_by_rest(both, row), streamed_by_grpc(both, row)]
            doors += await asyncio.gather(*calls)
        reset(both)
    # two calls may be batched differently: numbers may differ as much as `check` allows
    others = (first_difference(list(doors[0]), list(other), 1e-5) for other in doors[1:])
    faults = [apart for apart in others if apart]
    if row.reason is None and not isinstance(doors[0][0], dict):
        faults.append(f"no answer but {doors[0]}")
    if row.reason is not None and doors[0][0] != row.reason:
        faults.append(f"{doors[0]} instead of {row.reason}")
    return faults


def test_the_table_has_every_reason() -> None:
    """A reason that is added to the tree must be shown at both doors, or stand here with its place."""
    shown = {row.reason for row in ROWS if row.reason} | REST_ALONE | GRPC_ALONE | set(ELSEWHERE)
    assert shown >= {kind.reason for kind in leaves()}


async def test_a_session_whose_version_has_gone(root: Path, successor: Path, tmp_path: Path) -> None:
    """One that asked for its version stays with it, and both doors tell when that goes."""
    shop = tmp_path / "models/shop"
    shutil.copytree(root / "shop/1", shop / "1")
    async with both_doors(shop.parent) as both:
        made = await both.rest.post("/v1/models/shop/versions/1/sessions")
        session = made.json()["session"]["id"]
        assert await disagreements([both], append(session=session)) == []
        shutil.copytree(next((successor / "shop").iterdir()), shop / "2")
        await both.started.catalog.refresh()
        shutil.rmtree(shop / "1")
        await both.started.catalog.refresh()
        more = append("SESSION_EXPIRED", session=session, first_event=len(SHOP["event"]))
        assert await disagreements([both], more) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_failed_request_points_at_every_item(services: dict[str, Both]) -> None:
    """Where all items fail the first one's reason is the request's, with a pointer for each."""
    both, row = services["embedded"], translate("TEXT_TOO_LONG", texts=["x" * 201, ""])
    url, who = "/v1/models/en-de:translate", both.naming(row)
    problem = (await both.rest.post(url, json=row.body, headers=who)).json()
    assert [(e["pointer"], e["reason"]) for e in problem["errors"]] == [
        ("#/texts/0", "TEXT_TOO_LONG"),
        ("#/texts/1", "EMPTY_TEXT"),
    ]
    assert "201" in problem["detail"]
    assert "200" in problem["detail"]
    stub = translation_pb2_grpc.TranslationServiceStub(both.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Translate(translate_message(row), metadata=tuple(who.items()))
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status_pb2.Status.FromString(details).details)
    assert [v.field for v in bad.field_violations] == ["texts[0]", "texts[1]"]


@pytest.mark.parametrize("kind", ["embedded", "tfserving"])
@pytest.mark.asyncio(loop_scope="module")
async def test_models_are_shown_alike(kind: str, services: dict[str, Both]) -> None:
    """Both doors list the same models, with the same standings, reasons and description."""
    from seqserve.v1 import model_pb2, model_pb2_grpc

    both = services[kind]
    who = both.naming(translate())
    by_rest = (await both.rest.get("/v1/models", headers=who)).json()["models"]
    stub = model_pb2_grpc.ModelServiceStub(both.channel)
    listed = await stub.ListModels(model_pb2.ListModelsRequest(), metadata=tuple(who.items()))
    assert [model["name"] for model in by_rest] == [model.name for model in listed.models]
    for shown, message in zip(by_rest, listed.models, strict=True):
        assert [
            (v["version"], v.get("reason", ""), v.get("exported_name", "")) for v in shown["versions"]
        ] == [(v.version, v.reason, v.exported_name) for v in message.versions]
        assert set(shown.get("features", ())) == set(message.features)
        assert set(shown.get("heads", ())) == set(message.heads)
    renamed = {(model["name"], v.get("exported_name")) for model in by_rest for v in model["versions"]}
    assert {pair for pair in renamed if pair[1]} == {("copied", "shop")}
    assert (await both.rest.get("/readyz")).json()["reason"] == "NOT_READY"
    assert (await both.rest.get("/healthz")).status_code == 200
