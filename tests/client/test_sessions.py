"""Sessions by each client, over a recurrent model that is a function."""

import asyncio
from typing import Any

import pytest

from seqserve.client import AsyncClient, Client, Prediction, SessionState, errors
from tests.client.calling import NAMES, WAYS, awaited, called, url
from tests.sessions import visiting

pytestmark = pytest.mark.parametrize(("door", "kind"), WAYS, ids=NAMES)


def visit(*labels: str) -> dict[str, Any]:
    """Return events a minute apart."""
    return {"event": list(labels), "minutes": [1.0] * len(labels)}


async def made(client: Any, *arguments: Any, **options: Any) -> Any:
    """Make a session, or take one up."""
    if isinstance(client, AsyncClient):
        return await client.session(*arguments, **options)
    return await asyncio.to_thread(client.session, *arguments, **options)


async def test_each_event_is_answered_as_the_whole_history_is(door: str, kind: Any) -> None:
    """By numbers that the session counts; another program may take it up."""
    async with visiting() as both, called(url(both.started, door), kind) as call:
        session = await made(call.client, "visits", label=None)
        first = await awaited(session.append, visit("visit"), top_k=2)
        second = await awaited(session.append, visit("search", "pay"), heads=["wait"])
        assert isinstance(session.state, SessionState)
        assert session.state.next_event == 3
        whole = await call("predict", "visits", [visit("visit"), visit("visit", "search", "pay")], top_k=2)
        assert first == whole.items[0]
        assert second == Prediction({"wait": whole.items[1].heads["wait"]})
        again = await made(call.client, "visits", session.id)
        assert again.state == session.state
        await awaited(again.append, visit("visit"))
        assert (await awaited(session.refresh)).next_event == 4


async def test_an_append_that_failed_may_be_sent_again(door: str, kind: Any) -> None:
    """Under the number that it had: where it was done after all, it is not done twice."""
    async with visiting() as both, called(url(both.started, door), kind) as call:
        session = await made(call.client, "visits")
        with pytest.raises(errors.NegativeElapsed) as raised:
            await awaited(session.append, {"event": ["visit"], "minutes": [-1.0]})
        assert raised.value.errors[0].pointer == "#/sequence/minutes/0"
        before = session.state
        first = await awaited(session.append, visit("visit"))
        session.state = before  # as if the answer had not come
        assert await awaited(session.append, visit("visit")) == first
        assert session.state.next_event == 1
        session.state = before
        with pytest.raises(errors.EventConflict):
            await awaited(session.append, visit("pay"))


async def test_a_block_forgets_its_session_at_the_end(door: str, kind: Any) -> None:
    """An error inside is not hidden by one of forgetting; one that is gone already is no fault."""
    async with visiting() as both, called(url(both.started, door), kind) as call:
        ids = (
            await asyncio.to_thread(_blocks, call.client)
            if kind is Client
            else await _async_blocks(call.client)
        )
        for id in ids:
            assert isinstance(await call("session", "visits", id), errors.SessionNotFound)


def _blocks(client: Client) -> list[str]:
    with client.session("visits") as first:
        first.append(visit("visit"))
    with client.session("visits") as second:
        second.delete()
    with pytest.raises(errors.EmptySequence), client.session("visits") as third:
        third.append(visit())
    return [first.id, second.id, third.id]


async def _async_blocks(client: AsyncClient) -> list[str]:
    async with client.session("visits") as first:
        await first.append(visit("visit"))
    async with client.session("visits") as second:
        await second.delete()
    with pytest.raises(errors.EmptySequence):
        async with client.session("visits") as third:
            await third.append(visit())
    return [first.id, second.id, third.id]
