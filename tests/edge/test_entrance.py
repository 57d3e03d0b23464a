"""The entrance: who is let in, what is counted, and what the access log has of each call."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.types import Call, Principal
from seqserve.service.edge import entrance as module
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials, Recognizer
from seqserve.service.metrics import Metrics
from tests.core.fakes import series
from tests.edge.fakes import open_entrance

LATER = 1e6


class Door:
    """One that strangers are turned away from; whoever brings a key bears its name."""

    def __init__(self, share: float, caplog: pytest.LogCaptureFixture, **shares: Any) -> None:
        caplog.set_level(logging.INFO, "seqserve")
        self._caplog = caplog
        self.metrics = Metrics(CollectorRegistry())
        self._log = AccessLog(share)
        self._entrance = Entrance(_Named(), Limits(Shares(**shares)), self._log, self.metrics)

    @contextmanager
    def call(
        self, id: str = "an-id", key: str = "ann", deadline: float = LATER, is_open: bool = False
    ) -> Iterator[Call]:
        credentials = Credentials("192.0.2.7", api_key=key)
        with self._entrance.crossing(credentials, "rest", lambda: deadline, id, is_open) as call:
            call.visit.method = "POST /v1/models/{model}:predict"
            yield call

    def lines(self) -> list[dict[str, Any]]:
        self._log.flush()
        return [vars(record)["fields"] for record in self._caplog.records]


class _Named(Recognizer):
    def principal(self, credentials: Credentials) -> Principal:
        if not credentials.api_key:
            raise errors.Unauthenticated("no key came")
        return Principal(credentials.api_key)


async def test_a_line_says_who_asked_for_what_and_how_it_ended(caplog: pytest.LogCaptureFixture) -> None:
    door = Door(1.0, caplog)
    with door.call() as call:
        call.visit.model, call.visit.version = "totals", 3
        call.visit.items, call.visit.cells = 2, 40
        call.visit.bytes_in, call.visit.bytes_out = 100, 200
    (line,) = door.lines()
    assert 0 <= line.pop("seconds") < 1
    assert line == {
        "request_id": "an-id",
        "transport": "rest",
        "principal": "ann",
        "method": "POST /v1/models/{model}:predict",
        "model": "totals",
        "version": 3,
        "items": 2,
        "cells": 40,
        "bytes_in": 100,
        "bytes_out": 200,
        "code": "OK",
        "reason": "",
    }


ENDS: list[tuple[BaseException, float, str, str]] = [
    (errors.EmptyRequest("none"), LATER, "INVALID_ARGUMENT", "EMPTY_REQUEST"),
    (ZeroDivisionError("a secret"), LATER, "INTERNAL", "UNEXPECTED"),
    (asyncio.CancelledError(), LATER, "CANCELLED", "CANCELLED"),
    (GeneratorExit(), LATER, "CANCELLED", "CANCELLED"),
    (asyncio.CancelledError(), 0.0, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
]


@pytest.mark.parametrize(("error", "deadline", "code", "reason"), ENDS)
async def test_every_failure_is_written_and_goes_on(
    error: BaseException, deadline: float, code: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(0.0, caplog)
    with pytest.raises(type(error)), door.call(deadline=deadline):
        raise error
    assert [(line["code"], line["reason"]) for line in door.lines()] == [(code, reason)]
    assert "secret" not in str(door.lines())


async def test_successes_are_a_share_chosen_by_their_ids(caplog: pytest.LogCaptureFixture) -> None:
    door, again = Door(0.25, caplog), Door(0.25, caplog)
    for number in range(1000):
        with door.call(str(number)):
            pass
    chosen = [line["request_id"] for line in door.lines()]
    assert 200 < len(chosen) < 300
    caplog.clear()
    for id in chosen:
        with again.call(id):
            pass
    assert len(again.lines()) == len(chosen)


@pytest.mark.parametrize("method", ["GET /healthz", "HEAD /metrics", "/grpc.health.v1.Health/Watch"])
async def test_a_probe_is_written_only_where_it_failed(method: str, caplog: pytest.LogCaptureFixture) -> None:
    door = Door(1.0, caplog)
    for error in (None, asyncio.CancelledError(), errors.NotReady("not yet")):
        try:
            with door.call() as call:
                call.visit.method = method
                if error is not None:
                    raise error
        except type(error):  # type: ignore[misc]
            pass
    assert [line["reason"] for line in door.lines()] == ["NOT_READY"]


async def test_who_is_turned_away_is_counted_and_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger by its address; one past its share by its name; a deadline that is none once it is known."""
    door = Door(0.0, caplog, requests=1)
    with pytest.raises(errors.Unauthenticated), door.call(key=""):
        raise AssertionError("let in")
    with (
        door.call(),
        pytest.raises(errors.RateLimited, match="1 requests are open, and SEQSERVE_PRINCIPAL_REQUESTS"),
        door.call(),
    ):
        raise AssertionError("let in")
    with door.call(), door.call(key="bob"):
        pass
    away = [(line.get("principal"), line.get("address"), line["reason"]) for line in door.lines()]
    assert away == [(None, "192.0.2.7", "UNAUTHENTICATED"), ("ann", None, "RATE_LIMITED")]
    turned = {("rest", "UNAUTHENTICATED"): 1, ("rest", "RATE_LIMITED"): 1}
    assert series(door.metrics, "turned_away_total") == turned
    assert series(door.metrics, "limit_hits_total") == {("principal_requests",): 1}


@pytest.mark.parametrize("kind", [errors.RateLimited, errors.QueueFull])
async def test_a_refusal_is_told_when_it_is_due(
    kind: type[errors.ResourceExhausted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the service leaves, as many wait as may, or it is another kind of error."""
    monkeypatch.setattr(module, "MOST_HELD", 2)
    loop, entrance, error = asyncio.get_running_loop(), open_entrance(), kind("too often")
    error.told_after, began = 0.05, loop.time()
    await entrance.held(error)
    assert 0.045 < loop.time() - began < 5
    error.told_after = LATER
    waiting = [asyncio.create_task(entrance.held(error)) for _ in range(4)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert done == set(waiting[2:])
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    again = asyncio.create_task(entrance.held(error))
    entrance.leave()
    async with asyncio.timeout(5):
        await asyncio.gather(waiting[1], again, entrance.held(error))


async def test_who_need_not_say_who_it_is_has_no_scope(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it brings: it goes by its address, past limits, and may do no more than anybody."""
    door = Door(1.0, caplog, requests=0)
    for key in ("", "ann"):
        with door.call(key=key, is_open=True) as call:
            assert call.principal == Principal("192.0.2.7", frozenset())


async def test_where_nobody_keeps_logs_nothing_is_written(caplog: pytest.LogCaptureFixture) -> None:
    door = Door(1.0, caplog)
    caplog.set_level(logging.WARNING, "seqserve")
    with door.call():
        pass
    assert door.lines() == []
