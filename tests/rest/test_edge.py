"""What every REST call crosses: whichever path it is for, it has an id, a deadline and one form of error."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from seqserve.service.core.limits import Limits, Shares
from seqserve.service.edge import access_log
from seqserve.service.edge.access_log import ACCESS, AccessLog
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Recognizer
from seqserve.service.metrics import Metrics
from seqserve.service.rest.edge import Edge
from tests.core.fakes import series

CALL = "/v1/models/totals:predict"
BODY = {"sequences": [{"x": [1, 2]}]}
EVERY = [
    ("POST", CALL, 200),
    ("POST", "/v1/models/totals/versions/1:predict", 200),
    ("POST", "/v1/models/totals:translate", 400),
    ("GET", "/v1/models", 200),
    ("GET", "/v1/models/none", 404),
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/metrics", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/nothing", 404),
    ("DELETE", CALL, 405),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERY)
async def test_every_call_has_an_id(start: Any, method: str, path: str, status: int) -> None:
    """The caller's comes back, in the header and in a problem; one is made for none or an unfit one."""
    door = await start()

    async def echoed(**headers: str) -> str:
        content = BODY if method == "POST" else None
        response = await door.client.request(method, path, json=content, headers=headers)
        assert response.status_code == status
        if status >= 400:
            assert response.json()["request_id"] == response.headers["x-request-id"]
        return str(response.headers["x-request-id"])

    assert await echoed(**{"X-Request-Id": "mine-7"}) == "mine-7"
    made = [
        await echoed(),
        await echoed(**{"X-Request-Id": "a b"}),
        await echoed(**{"X-Request-Id": "x" * 129}),
    ]
    assert [len(one) for one in made] == [32] * 3
    assert len(set(made)) == 3


async def test_the_access_log_counts_what_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Of an answer to HEAD that is no byte of its body."""
    caplog.set_level("INFO", ACCESS.name)
    written = AccessLog(1.0)
    entrance = Entrance(Recognizer(), Limits(Shares()), written, Metrics(CollectorRegistry()))
    edge = Edge(Response("12345"), entrance, 30.0, 30.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://rest") as client:
        await client.get("/")
        await client.head("/")
    written.flush()
    told = [vars(record)["fields"]["bytes_out"] for record in caplog.records if record.name == ACCESS.name]
    assert told == [5, 0]


@pytest.mark.parametrize(("method", "path", "status"), [row for row in EVERY if row[0] == "GET"])
async def test_head_is_get_without_a_body(start: Any, method: str, path: str, status: int) -> None:
    door = await start()
    got, head = await door.client.get(path), await door.client.head(path)
    assert (head.status_code, head.content) == (status, b"")
    alike = ("content-type", "content-length") if path != "/metrics" and status == 200 else ("content-type",)
    assert [head.headers[name] for name in alike] == [got.headers[name] for name in alike]


async def test_a_fault_of_ours_is_logged_whole_and_shown_without_its_insides(
    start: Any, log_lines: io.StringIO
) -> None:
    door = await start()
    door.gateway.models = lambda *_: 1 / 0
    response = await door.client.get("/v1/models", headers={"X-Request-Id": "mine-8"})
    assert (response.status_code, response.json()["reason"]) == (500, "UNEXPECTED")
    assert "division" not in response.text
    logged = json.loads(log_lines.getvalue())
    assert "ZeroDivisionError" in logged["exception"]
    assert logged["request_id"] == "mine-8"


@pytest.mark.parametrize("path", [path for method, path, _ in EVERY if method == "GET"])
async def test_a_deadline_that_is_none_is_refused_on_every_path(start: Any, path: str) -> None:
    door = await start()
    problem = (await door.client.get(path, headers={"Grpc-Timeout": "soon"})).json()
    assert (problem["status"], problem["reason"]) == (400, "OPTION_OUT_OF_RANGE")
    assert "'soon'" in problem["detail"]


@pytest.mark.parametrize(
    ("settings", "given"),
    [({}, "50m"), ({}, "50000u"), ({"max_timeout": 0.05}, "1H"), ({"default_timeout": 0.05}, None)],
)
async def test_an_answer_that_comes_too_late(
    start: Any, settings: dict[str, float], given: str | None
) -> None:
    """The deadline is the caller's, at most the service's longest, or the service's own where none came."""
    door = await start(**settings)
    door.backend.gates[1].clear()
    headers = {"Grpc-Timeout": given} if given else {}
    async with asyncio.timeout(20):
        response = await door.client.post(CALL, json=BODY, headers=headers)
    assert (response.status_code, response.json()["reason"]) == (504, "DEADLINE_EXCEEDED")


async def test_a_body_that_comes_too_late(start: Any) -> None:
    """The deadline counts from the first line of the request on."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    door = await start(default_timeout=0.05)
    headers = {"Content-Type": "application/json"}
    async with asyncio.timeout(20):
        response = await door.client.post(CALL, content=endless(), headers=headers)
    assert (response.status_code, response.json()["reason"]) == (504, "DEADLINE_EXCEEDED")
    assert "before the body had come" in response.json()["detail"]


class Gate(asyncio.Event):
    """A closed gate, which says when somebody stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


async def called(door: Any, *messages: dict[str, Any], then: asyncio.Event) -> None:
    """Call CALL as a server does, with messages of a body; the connection closes at `then`."""
    given = iter(messages)

    async def receive() -> dict[str, Any]:
        for message in given:
            return {"type": "http.request", **message}
        await then.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        pass  # nobody is there to get it

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CALL, "headers": headers, "query_string": b""}
    await door.app(scope, receive, send)


async def test_a_caller_who_goes_while_it_is_answered_is_cancelled(start: Any) -> None:
    """As its server cancels it: what it asked for leaves the gateway at once, counted once."""
    door, gate = await start(), Gate()
    door.backend.gates[1] = gate
    call = asyncio.create_task(called(door, {"body": json.dumps(BODY).encode()}, then=asyncio.Event()))
    async with asyncio.timeout(20):
        await gate.reached.wait()
        assert series(door.metrics, "in_flight") == {("rest",): 1}
        call.cancel()
        await asyncio.wait({call})
    assert series(door.metrics, "in_flight") == {("rest",): 0}
    labels = ("totals", "1", "predict", "rest", "CANCELLED", "CANCELLED")
    assert series(door.metrics, "requests_total") == {labels: 1}


async def test_a_caller_who_goes_while_its_body_is_read(
    start: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fault of ours, and no model is asked."""
    monkeypatch.setattr(access_log, "MOST_TOGETHER", 1)
    door = await start()
    gone = asyncio.Event()
    gone.set()
    with caplog.at_level("INFO", "seqserve"):
        await called(door, {"body": b"{", "more_body": True}, then=gone)
    (line,) = (vars(record)["fields"] for record in caplog.records)
    assert (line["reason"], line["bytes_in"], line["model"]) == ("CANCELLED", 1, "")
    assert series(door.metrics, "requests_total") == {}
