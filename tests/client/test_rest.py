"""What the REST client makes of connections, headers and answers, by a server that says what it is told."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from seqserve.client import AsyncClient, Client, ServiceError, errors
from tests.client.calling import Called, called

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
MODELS = {"models": []}
SESSION = {"id": "abc", "model": {"name": "m", "version": 1, "digest": "d"}, "next_event": 0}


def answer(status: str, content: Any, **headers: str) -> bytes:
    """Return a response."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    sent = {"Content-Length": str(len(body)), **{name.replace("_", "-"): v for name, v in headers.items()}}
    return (
        "\r\n".join([f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in sent.items()), "", ""]).encode() + body
    )


def problem(status: str, code: str, reason: str, **headers: str) -> bytes:
    """Return a problem of the service."""
    return answer(status, {"code": code, "reason": reason, "detail": "as asked"}, **headers)


@dataclass
class Scripted:
    """A server that gives these answers in turn; an empty one cuts the connection off, None says nothing."""

    answers: list[bytes | None]
    asked: list[list[str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next((int(h.split(":")[1]) for h in head if h.startswith("content-length")), 0)
                await reader.readexactly(length)
                self.asked.append(head)
                told = self.answers.pop(0)
                if told is None:
                    await reader.read()
                if not told:
                    return
                writer.write(told)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            await ended(writer)


async def ended(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whoever has."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def served(serve: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    """Yield the address of a server whose connections end before it does."""
    open_now = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(asyncio.current_task())
        await serve(reader, writer)

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*open_now)


@asynccontextmanager
async def talking(
    kind: Any, *answers: bytes | None, **options: Any
) -> AsyncIterator[tuple[Called, Scripted, list[float]]]:
    """Yield a client, the server that it calls, and the seconds that it waits for, which are no time."""
    scripted, waits = Scripted(list(answers)), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with served(scripted.serve) as address, called(address, kind, **options) as call:
        call.client._sleep = waits.append if kind is Client else sleep
        call.client._core.chance = lambda: 0.0
        yield call, scripted, waits


@KINDS
async def test_a_refusal_is_waited_out_as_the_service_asks(kind: Any) -> None:
    """By Retry-After, as often as it takes."""
    full = problem("429 X", "RESOURCE_EXHAUSTED", "QUEUE_FULL", Retry_After="3")
    ready = problem("503 X", "UNAVAILABLE", "NOT_READY", Retry_After="1")
    async with talking(kind, full, ready, answer("200 OK", MODELS)) as (call, scripted, waits):
        assert await call("models") == ()
        assert waits == [3.0, 1.0]
        assert len(scripted.asked) == 3


@KINDS
@pytest.mark.parametrize(("method", "tries"), [("models", 2), ("session", 1)])
async def test_a_connection_that_broke_may_have_brought_the_request(
    kind: Any, method: str, tries: int
) -> None:
    """What changes nothing is asked again; a session is not made twice."""
    async with talking(kind, b"", answer("200 OK", MODELS)) as (call, scripted, _):
        came = await call(method, *(["m"] if method == "session" else []))
        assert len(scripted.asked) == tries
        assert came == () if tries == 2 else isinstance(came, errors.Unreachable) and came.sent


@KINDS
async def test_where_nobody_listens_nothing_was_sent(kind: Any) -> None:
    """So that anything may be tried again; in the end the address is told."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with called(address, kind, retries=0) as call:
            came = await call("session", "m")
    assert isinstance(came, errors.Unreachable)
    assert not came.sent
    assert f"no service answers at {address}" in str(came)


@KINDS
async def test_an_answer_that_does_not_come_in_time_is_given_up(kind: Any) -> None:
    """Once, for there is no time left."""
    async with talking(kind, None, timeout=0.5) as (call, scripted, _):  # a busy one takes 0.1
        assert isinstance(await call("models"), errors.DeadlineExceeded)
        assert len(scripted.asked) == 1


@KINDS
async def test_key_and_deadline_go_with_a_request(kind: Any) -> None:
    """The deadline in milliseconds; names are quoted."""
    options = {"key": "secret", "timeout": 2.5}
    async with talking(kind, problem("404 X", "NOT_FOUND", "MODEL_NOT_FOUND"), **options) as (
        call,
        scripted,
        _,
    ):
        assert isinstance(await call("session", "a/b c", label="x/y"), errors.ModelNotFound)
        line, *headers = scripted.asked[0]
        assert line == "post /v1/models/a%2fb%20c/labels/x%2fy/sessions http/1.1"
        assert "x-api-key: secret" in headers
        (timeout,) = (h.removeprefix("grpc-timeout: ") for h in headers if h.startswith("grpc-timeout"))
        assert 2000 < int(timeout.removesuffix("m")) <= 2500
        assert "secret" not in repr(call.client._door)


@KINDS
@pytest.mark.parametrize(
    ("told", "error", "reason"),
    [
        (answer("502 Bad Gateway", b"<html>"), errors.Unavailable, "HTTP_502"),
        (answer("503 Busy", b"<html>", Retry_After="soon"), errors.Unavailable, "HTTP_503"),
        (answer("413 Large", b"<html>"), errors.BodyTooLarge, "BODY_TOO_LARGE"),
        (answer("404 Not Found", {"detail": "Not Found"}), errors.NoAnswer, "NO_ANSWER"),
        (answer("200 OK", b"<html>"), errors.NoAnswer, "NO_ANSWER"),
        (answer("200 OK", b"no gzip", Content_Encoding="gzip"), errors.NoAnswer, "NO_ANSWER"),
        (answer("200 OK", {"other": 1}), errors.NoAnswer, "NO_ANSWER"),
        (answer("200 OK", [1]), errors.NoAnswer, "NO_ANSWER"),
        (problem("418 X", "TEAPOT", "LATER_INVENTED", X_Request_Id="42"), ServiceError, "LATER_INVENTED"),
    ],
)
async def test_what_is_no_answer_of_the_service_is_told(
    kind: Any, told: bytes, error: type[ServiceError], reason: str
) -> None:
    """What stands between is known by its status; a newer service's reasons are kept."""
    async with talking(kind, told, retries=0) as (call, _, _):
        came = await call("models")
        assert (type(came), came.reason) == (error, reason)
        assert came.request_id == ("42" if reason == "LATER_INVENTED" else "")


@KINDS
async def test_members_that_are_not_known_are_left(kind: Any) -> None:
    """A newer service may say more."""
    more = {**SESSION, "expires": "2026-12-07T09:00:00.000Z", "colour": "red"}
    async with talking(kind, answer("200 OK", {"session": more, "more": 1})) as (call, _, _):
        session = await call("session", "m")
        assert (session.id, session.state.expires.isoformat()) == ("abc", "2026-12-07T09:00:00+00:00")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", ""])
@KINDS
def test_an_address_names_its_door(kind: Any, url: str) -> None:
    """Else it is refused, and told how one begins."""
    with pytest.raises(ValueError, match="http://, https://, grpc://, grpcs://"):
        kind(url)


async def test_a_stream_that_is_left_sends_nothing_again() -> None:
    """It does not wait for the time to do so either; nor is a task left that waits."""
    first = {"model": SESSION["model"], "translations": [{"text": "A"}]}
    full = problem("429 X", "RESOURCE_EXHAUSTED", "QUEUE_FULL", Retry_After="300")
    async with talking(Client, answer("200 OK", first), full, timeout=None) as (call, scripted, _):
        threads: list[threading.Thread] = []

        def left() -> Iterator[str]:
            yield from "ab"
            while len(scripted.asked) < 2:
                pass
            threads.extend(t for t in threading.enumerate() if t.name.startswith("seqserve-client"))
            raise RuntimeError("the caller has enough")

        with pytest.raises(RuntimeError, match="has enough"):
            await asyncio.to_thread(list, call.client.translate_stream("m", left(), part=1))
        assert len(threads) == 1
        await asyncio.to_thread(threads[0].join, 20)
        assert not threads[0].is_alive()
        assert len(scripted.asked) == 2


async def test_a_long_list_goes_by_a_few_connections_at_once() -> None:
    """No more than `parallel`, whichever client."""
    model = {"name": "m", "version": 1, "digest": "d"}
    for kind in (Client, AsyncClient):
        open_now, most = 0, 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            while not reader.at_eof():
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                except asyncio.IncompleteReadError:
                    break
                length = int(head.partition("content-length:")[2].split()[0])
                texts = json.loads(await reader.readexactly(length))["texts"]
                open_now += 1
                most = max(most, open_now)
                for _ in range(50):
                    await asyncio.sleep(0)  # others may come meanwhile
                open_now -= 1
                items = [{"text": text} for text in texts]
                writer.write(answer("200 OK", {"model": model, "translations": items}))
            await ended(writer)

        async with served(serve) as address, called(address, kind, parallel=3) as call:
            call.client._core._most_items = 1
            answers = await call("translate", "m", [str(i) for i in range(20)])
        assert [item.text for item in answers.items] == [str(i) for i in range(20)]
        assert 1 < most <= 3
