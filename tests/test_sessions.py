"""Sessions at both doors: streams, limits, bodies, the access log. What they answer: tests/test_parity.py."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from seqserve.service.core.limits import Shares
from seqserve.service.edge.key_file import add
from seqserve.service.edge.keys import new_key
from seqserve.v1 import session_pb2
from tests.doors import Both, reset
from tests.edge.fakes import key_line
from tests.edge.test_access_log import Lines, lines as lines  # a fixture
from tests.reasons import reason_of
from tests.rest.test_edge import Gate
from tests.sessions import PATH, made, message, streamed, stub, visiting

SEVERAL = 30


async def test_a_stream_answers_appends_to_many_sessions() -> None:
    """Those to one session in order, each by its place; one that fails harms no other."""
    async with visiting() as both:
        sessions = [await made(both) for _ in range(SEVERAL)]
        asked = [message(id, n, "visit") for n in range(3) for id in sessions]
        asked.insert(7, message(sessions[0], 9, "pay"))
        answers = {a.request: a async for a in stub(both).AppendStream(streamed(*asked), timeout=20)}
        assert sorted(answers) == list(range(len(asked)))
        for place, request in enumerate(asked):
            answer = answers[place]
            assert answer.WhichOneof("outcome") == ("error" if request.first_event == 9 else "appended")
            if request.first_event < 9:
                assert answer.appended.session.id == request.session_id
                assert answer.appended.session.next_event == request.first_event + 1
        assert answers[7].error.code == grpc.StatusCode.ABORTED.value[0]


async def test_what_no_message_is_and_what_finds_no_room_is_answered_in_its_place() -> None:
    async with visiting(grpc_append_streams=1) as both:
        session = await made(both)
        call: Any = both.channel.stream_stream("/seqserve.v1.SessionService/AppendStream")()
        await call.write(b"\xff\xff")
        first = session_pb2.AppendStreamResponse.FromString(await call.read())
        assert (first.request, first.error.code) == (0, grpc.StatusCode.INVALID_ARGUMENT.value[0])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [a async for a in stub(both).AppendStream(streamed(message(session, 0, "visit")))]
        assert reason_of(caught.value) == "RATE_LIMITED"
        await call.write(next(streamed(message(session, 0, "visit"))).SerializeToString())
        second = session_pb2.AppendStreamResponse.FromString(await call.read())
        assert second.appended.session.next_event == 1
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_each_append_of_a_stream_is_a_call_of_its_own(lines: Lines) -> None:
    """A principal's limits count it, and the access log has a line for it, without anything of its events."""
    async with visiting(access_log=1) as both:
        session = await made(both)
        await lines.next(1)
        limits = both.started.gateway._limits
        limits._shares = Shares(requests_per_second=1.0)  # and two saved up: one is the stream's own
        asked = streamed(*(message(session, n, "a secret") for n in range(3)))
        answers = [answer async for answer in stub(both).AppendStream(asked, timeout=20)]
        told = await lines.next(4)
    outcomes = [answer.WhichOneof("outcome") for answer in sorted(answers, key=lambda a: a.request)]
    assert outcomes == ["appended", "error", "error"]
    *each, whole = told
    assert sorted(line["reason"] for line in each) == ["", "RATE_LIMITED", "RATE_LIMITED"]
    answered = next(line for line in each if not line["reason"])
    assert {name: answered[name] for name in ("method", "model", "version", "items", "cells")} == {
        "method": "/seqserve.v1.SessionService/AppendStream",
        "model": "visits",
        "version": 1,
        "items": 1,
        "cells": 1,
    }
    assert (whole["method"], whole["items"]) == (answered["method"], 0)
    assert "secret" not in str(told)
    assert session not in str(told)


async def test_a_caller_who_leaves_a_stream_leaves_nothing() -> None:
    async with visiting() as both:
        session = await made(both)
        both.backend.gate = gate = Gate()
        call = stub(both).AppendStream()
        await call.write(next(streamed(message(session, 0, "visit"))))
        async with asyncio.timeout(20):
            await gate.reached.wait()
            call.cancel()
            await both.started.gateway._open.none()
        reset(both)
        assert (await both.rest.get(f"{PATH}/{session}")).json()["session"]["next_event"] == 0


ROUTES = (("POST", ""), ("POST", "/{id}:append"), ("GET", "/{id}"), ("DELETE", "/{id}"))
APPEND = {"first_event": 0, "sequence": {"event": ["visit"], "minutes": [0]}}


async def test_every_route_and_method_asks_who_calls(tmp_path: Path) -> None:
    """Who may predict may; another's session is none; a key without that scope, or none, may nothing."""
    keys = {"ann": new_key(), "ben": new_key(), "tim": new_key()}
    scopes = {"ann": "predict:visits", "ben": "predict:*", "tim": "translate:visits"}
    for name, key in keys.items():
        add(tmp_path / "keys", key_line(name, key, scopes[name]))
    wanted = {"": ("UNAUTHENTICATED",) * 4, "tim": ("PERMISSION_DENIED",) * 4}
    wanted |= {"ben": ("", *("SESSION_NOT_FOUND",) * 3), "ann": ("",) * 4}
    async with visiting(keys=tmp_path / "keys") as both:
        for who, reasons in wanted.items():
            naming = {"x-api-key": keys[who]} if who else {}
            id = await made(both, {"x-api-key": keys["ann"]})
            got = [
                (
                    await both.rest.request(
                        m, PATH + at.format(id=id), json=APPEND if ":" in at else None, headers=naming
                    )
                )
                for m, at in ROUTES
            ]
            assert tuple(answer.json().get("reason", "") for answer in got) == reasons
            id = await made(both, {"x-api-key": keys["ann"]})
            assert await by_grpc(both, id, tuple(naming.items())) == reasons


async def by_grpc(both: Both, id: str, metadata: Any) -> tuple[str, ...]:
    """Call each method of one request, and return the reasons; a stream of one append says the same."""
    calls, model = stub(both), {"name": "visits"}
    asked = (
        (calls.CreateSession, session_pb2.CreateSessionRequest(model=model)),
        (calls.Append, message(id, 0, "visit")),
        (calls.GetSession, session_pb2.GetSessionRequest(model=model, session_id=id)),
        (calls.DeleteSession, session_pb2.DeleteSessionRequest(model=model, session_id=id)),
    )
    reasons = [await outcome(call(request, metadata=metadata, timeout=20)) for call, request in asked]
    streaming = calls.AppendStream(streamed(message(id, 0, "visit")), metadata=metadata, timeout=20)
    streamed_one = await outcome(streaming.read())
    assert streamed_one == (reasons[1] if reasons[1] == "UNAUTHENTICATED" else "")
    return tuple(reasons)


async def outcome(call: Any) -> str:
    """Return the reason of a call that failed; else nothing."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return ""


async def test_bodies_of_sessions(lines: Lines) -> None:
    """A new session needs none; what is too large or no JSON of an append is refused; routes are as told."""
    async with visiting(max_append_bytes=400) as both:
        for body, status in ((None, 200), ({}, 200), ({"x": 1}, 400)):
            assert (await both.rest.post(PATH, json=body)).status_code == status
        (line,) = await lines.next(1)
        assert (line["method"], line["reason"]) == ("POST /v1/models/{model}/sessions", "MALFORMED_JSON")
        session = await made(both)
        url = f"{PATH}/{session}:append"
        good = {"first_event": 0, "sequence": {"event": ["visit"], "minutes": [0]}}
        wrong: list[tuple[Any, str]] = [
            ({**good, "seed": 1}, "MALFORMED_JSON"),
            ({**good, "first_event": 0.5}, "MALFORMED_JSON"),
            ({"first_event": 0}, "MALFORMED_JSON"),
            ({**good, "heads": ["x" * 400]}, "BODY_TOO_LARGE"),
        ]
        for body, reason in wrong:
            assert (await both.rest.post(url, json=body)).json()["reason"] == reason
        answered = await both.rest.post(url, json=good)
        assert answered.json()["session"]["next_event"] == 1
        assert answered.json()["prediction"]["heads"]["wait"]["value"] == 1.0
        for method, place, reason in (
            ("GET", url, "METHOD_NOT_ALLOWED"),
            ("PUT", f"{PATH}/{session}", "METHOD_NOT_ALLOWED"),
            ("GET", f"/v1/models/visits/versions/2/sessions/{session}", "SESSION_NOT_FOUND"),
            ("DELETE", f"/v1/models/nope/sessions/{session}", "MODEL_NOT_FOUND"),
        ):
            assert (await both.rest.request(method, place)).json()["reason"] == reason
        assert (await both.rest.delete(f"{PATH}/{session}")).json() == {}
        assert (await both.rest.delete(f"{PATH}/{session}")).json()["reason"] == "SESSION_NOT_FOUND"
