"""What the gRPC client makes of what no message can say, of connections, deadlines and ids."""

import asyncio
import socket
from typing import Any

import pytest

from seqserve.client import AsyncClient, Client, Prediction, errors
from tests.client.calling import called, url
from tests.sessions import visiting

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
GOOD = {"event": ["visit"], "minutes": [1]}


@KINDS
async def test_rows_of_different_widths_are_their_items_fault(kind: Any) -> None:
    """No message has such; it fails in its place, and the others are answered."""
    wrong = {"event": ["visit"], "minutes": [[1, 2], [3]]}
    async with visiting() as both, called(url(both.started, "grpc"), kind) as call:
        answers = await call("predict", "visits", [GOOD, wrong, GOOD])
        assert [type(item) for item in answers.items] == [Prediction, errors.WrongWidth, Prediction]
        assert [fault.pointer for fault in answers.items[1].errors] == ["#/sequences/1/minutes"]
        assert isinstance(await call("predict", "visits", [wrong]), errors.WrongWidth)


@KINDS
async def test_where_nobody_listens_nothing_was_sent(kind: Any) -> None:
    """So that anything may be tried again; in the end the address is told."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        async with called(f"grpc://{address}", kind, retries=0) as call:
            came = await call("session", "m")
    assert isinstance(came, errors.Unreachable)
    assert not came.sent
    assert f"no service answers at {address}" in str(came)


@KINDS
async def test_an_answer_that_does_not_come_in_time_is_given_up(kind: Any) -> None:
    """And the call has ended at the service too."""
    async with visiting() as both, called(url(both.started, "grpc"), kind, timeout=0.2) as call:
        both.backend.gate = asyncio.Event()
        assert isinstance(await call("predict", "visits", [GOOD]), errors.DeadlineExceeded)
        both.backend.gate.set()


@KINDS
async def test_an_error_tells_the_id_that_the_log_has(kind: Any) -> None:
    """By either door."""
    async with visiting() as both:
        for door in ("http", "grpc"):
            async with called(url(both.started, door), kind) as call:
                came = await call("predict", "nope", [GOOD])
                assert isinstance(came, errors.ModelNotFound)
                assert len(came.request_id) > 8
