"""The REST server's connections: how many, how long, who holds them, and how they end."""

import asyncio
import contextlib
import re
import ssl
from typing import Any

import pytest
import trustme
from prometheus_client import CollectorRegistry

from seqserve.service.edge.tls import Tls, certificate_name
from seqserve.service.rest import connection
from tests.edge.fakes import write_certificate
from tests.rest.wire import GET, LARGE, WAIT, Caller, house, in_uvloop, post, reason


@in_uvloop
async def test_an_idle_connection_is_kept_for_its_time_after_an_answer() -> None:
    """Answers are not bound by it, and each begins it anew."""
    async with house(idle_seconds=0.2, head_seconds=0.1, body_seconds=0.1) as here:
        here.gates["/slow"] = asyncio.Event()
        caller, loop = await here.caller(), asyncio.get_running_loop()
        caller.say("GET /slow HTTP/1.1\r\n\r\n")
        loop.call_later(0.5, here.gates["/slow"].set)
        assert (await caller.hear()).status == 200
        answered = loop.time()
        assert await caller.rest() == b""
        assert 0.15 < loop.time() - answered < 5


@in_uvloop
async def test_who_does_not_read_its_answer_is_dropped() -> None:
    """An answer that nobody takes holds memory for body_seconds, not for good."""
    async with house(body_seconds=0.1) as here:
        caller = await here.caller()
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        caller.say("GET /large HTTP/1.1\r\n\r\n" * 20)
        await here.until(lambda: here.open == 0)


@in_uvloop
async def test_who_asks_again_without_reading_is_dropped_too() -> None:
    """A further request does not make the answer before it a read one."""
    async with house(body_seconds=0.2) as here:
        caller = await here.slow_caller()
        caller.say("GET /large HTTP/1.1\r\n\r\n")
        await here.until(lambda: here.is_unread())
        caller.say(GET)
        await here.until(lambda: here.open == 0)


@in_uvloop
async def test_who_reads_again_is_kept() -> None:
    """Also who took a while, and also where nothing is asked meanwhile."""
    async with house(body_seconds=5, idle_seconds=0.3) as here:
        caller = await here.slow_caller()
        caller.say("GET /large HTTP/1.1\r\n\r\n")
        later(0.6, caller)
        assert len((await caller.hear()).body) == LARGE
        assert await caller.rest() == b""  # it is idle, by then


@in_uvloop
async def test_a_body_has_its_time_once_it_is_read() -> None:
    """Not while an earlier request is answered, for so long nothing of it is read."""
    async with house(body_seconds=0.4) as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller()
        caller.say("GET /slow HTTP/1.1\r\n\r\n", post(b"x" * 2**20))
        asyncio.get_running_loop().call_later(1.0, here.gates["/slow"].set)
        assert (await caller.hear()).status == 200
        assert (await caller.hear()).json["got"] == 2**20


@in_uvloop
async def test_an_answer_before_what_is_no_http_has_its_time() -> None:
    """It is no idle connection that somebody is answered on."""
    async with house(idle_seconds=0.2, head_seconds=0.2) as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller()
        caller.say("GET /slow HTTP/1.1\r\n\r\nnonsense\r\n")
        asyncio.get_running_loop().call_later(0.5, here.gates["/slow"].set)
        assert (await caller.hear()).status == 200
        assert reason(await caller.hear()) == "MALFORMED_HTTP"


def later(seconds: float, caller: Caller) -> None:
    """Let a slow caller read, after a while."""
    transport: Any = caller.writer.transport
    asyncio.get_running_loop().call_later(seconds, transport.resume_reading)


# --- attacks: connections -------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["rest_connections", "rest_connections_per_address"])
@in_uvloop
async def test_connections_beyond_the_limit_are_told_so(limit: str) -> None:
    """503 with a hint; whoever is in stays, and who leaves makes room."""
    async with house(**{limit: 3}) as here:
        callers = [await here.caller() for _ in range(3)]
        for caller in callers:
            caller.say(GET)
            assert (await caller.hear()).status == 200
        late = await here.caller()
        late.say(GET)
        answer = await late.hear()
        assert (answer.status, reason(answer), answer.closes) == (503, "TOO_MANY_CONNECTIONS", True)
        assert limit in answer.json["detail"]
        assert answer.headers["retry-after"] == "1"
        assert await late.rest() == b""
        assert here.refused("TOO_MANY_CONNECTIONS") == 1
        callers.pop().writer.close()
        await here.until(lambda: here.server._shared.room.taken == 2)
        again = await here.caller()
        again.say(GET)
        assert (await again.hear()).status == 200


@in_uvloop
async def test_a_trusted_proxy_has_no_address_of_its_own() -> None:
    """Its connections are those of many callers."""
    async with house(rest_connections_per_address=1, trusted_proxies="127.0.0.0/8") as here:
        for caller in [await here.caller() for _ in range(3)]:
            caller.say(GET)
            assert (await caller.hear()).status == 200


@in_uvloop
async def test_a_flood_of_connections_beyond_the_limit_takes_no_descriptors() -> None:
    """Those that are told so are few at a time; the others are closed at once."""
    async with house(rest_connections=1) as here:
        caller = await here.caller()
        flood = [await here.caller() for _ in range(200)]
        await here.until(lambda: here.open <= 33)
        caller.say(GET)
        assert (await caller.hear()).status == 200
        assert [await late.rest() for late in flood[100:]] == [b""] * 100
        assert here.refused("TOO_MANY_CONNECTIONS") >= 168


@in_uvloop
async def test_resets_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a caller was doing when it went."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        sent = (b"", b"GET / HT", post(length=10) + b"12", GET.encode(), b"GET /slow HTTP/1.1\r\n\r\n")
        for data in sent * 5:
            caller = await here.caller()
            await caller.said(data)
            caller.writer.transport.abort()
        await here.until(lambda: here.open == 0)
        here.gates["/slow"].set()
        await here.until(lambda: not here.server._shared.tasks)
        assert here.in_flight.used == here.server._shared.room.taken == 0
        assert not any(record.exc_info for record in caplog.records)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The one that everybody here trusts."""
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a server is given that asks callers for certificates."""
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(authority, folder / "cert", folder / "key")
    authority.cert_pem.write_to_path(folder / "ca")
    files = Tls(folder / "cert", folder / "key", folder / "ca", CollectorRegistry())
    return {"tls": files.ssl_context(), "certificate": certificate_name}


def trusting(authority: trustme.CA, name: str | None = None) -> ssl.SSLContext:
    """Return a caller's context."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if name is not None:
        authority.issue_cert(name).configure_cert(context)
    return context


@in_uvloop
async def test_a_certificate_names_its_caller(authority: trustme.CA, tls: dict[str, Any]) -> None:
    """In every request of its connection, and a refusal arrives here too."""
    async with house(server=tls) as here:
        context = trusting(authority, "caller.example")
        caller = await here.caller("localhost", ssl=context)
        for _ in range(3):
            caller.say(post(b"12"))
            told = (await caller.hear()).json
            assert (told["got"], told["scheme"]) == (2, "https")
            assert told["tls"] == {"tls": {"client_cert_name": "caller.example"}}
        caller.say("nonsense\r\n")
        assert reason(await caller.hear()) == "MALFORMED_HTTP"
        assert await caller.rest() == b""
        await here.until(lambda: here.open == here.server._shared.room.taken == 0)


@in_uvloop
async def test_who_shakes_no_hands_goes(
    authority: trustme.CA, tls: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Silence, nonsense, resets, strangers and the whole flood take room, end, and leave no traceback."""
    async with house(server=tls, head_seconds=0.3, rest_connections=20) as here:
        silent = [await here.caller() for _ in range(30)]
        await here.until(lambda: here.refused("TOO_MANY_CONNECTIONS") == 10)
        assert [await caller.rest() for caller in silent] == [b""] * 30
        await here.until(lambda: here.server._shared.room.taken == 0)
        plain = await here.caller()
        plain.say(GET * 10)
        await plain.rest()
        gone = await here.caller()
        await gone.said(b"\x16\x03\x01")
        gone.writer.transport.abort()
        for context in (trusting(authority), ssl.create_default_context()):
            with contextlib.suppress(OSError):  # by TLS 1.3 a caller hears of it later
                await (await here.caller("localhost", ssl=context)).rest()
        await here.until(lambda: here.server._shared.room.taken == 0 and not here.server._shared.tasks)
        assert here.seen == []
        assert here.open == 0
        known = await here.caller("localhost", ssl=trusting(authority, "caller.example"))
        known.say(GET)
        assert (await known.hear()).status == 200
        known.writer.transport.abort()
        await here.until(lambda: here.open == 0)
        assert not [record for record in caplog.records if record.name == "asyncio" or record.exc_info]


# --- callers who end what they send ---------------------------------------------------------------

SLOW = "GET /slow HTTP/1.1\r\n\r\n"
WHOLE = {
    "one": (SLOW, ["200"]),
    "one of HTTP/1.0": ("GET /slow HTTP/1.0\r\n\r\n", ["200"]),
    "several": (SLOW + GET + post(b"12").decode(), ["200", "200", "200"]),
    "one before what is no HTTP": (SLOW + "nonsense\r\n", ["200", "400"]),
}


@pytest.mark.parametrize(("sent", "statuses"), WHOLE.values(), ids=WHOLE)
@in_uvloop
async def test_who_ends_what_it_sends_is_answered(sent: str, statuses: list[str]) -> None:
    """Each whole request is, and then the connection is closed; nothing is sent twice."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller()
        caller.say(sent)
        caller.writer.write_eof()
        asyncio.get_running_loop().call_later(0.1, here.gates["/slow"].set)
        told = (await caller.rest()).decode()
        assert told.startswith("HTTP/1.1 ")
        assert re.findall(r"HTTP/1.1 (\d+) ", told) == statuses
        assert told.count("connection: close") == 1


@pytest.mark.parametrize("how", ["at once", "later", "by TLS"])
@in_uvloop
async def test_who_goes_altogether_is_not_worked_for(
    how: str, authority: trustme.CA, tls: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A close looks as if it ended only what is sent, until something is sent to whom it was."""
    options = {"ssl": trusting(authority, "caller.example")} if how == "by TLS" else {}
    async with house(server=tls if options else None) as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller("localhost" if options else "127.0.0.1", **options)
        await caller.said(SLOW)
        await here.until(lambda: bool(here.server._shared.tasks))
        if how == "later":
            caller.writer.write_eof()
            assert await asyncio.wait_for(caller.reader.readexactly(1), WAIT) == b"H"
        caller.writer.close()
        await here.until(lambda: here.open == 0 and not here.server._shared.tasks)
        assert here.seen == []
        assert not [record for record in caplog.records if record.name == "asyncio" or record.exc_info]


# --- the end --------------------------------------------------------------------------------------

CLOSING = {
    "by the caller": b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n",
    "by the server, which has not read all": post(b"x" * 10, path="/unread/large", length=10**9),
}


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("asked", CLOSING.values(), ids=CLOSING)
@in_uvloop
async def test_a_slow_reader_has_all_of_an_answer_that_closes(
    asked: bytes,
    is_tls: bool,
    authority: trustme.CA,
    tls: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The close waits for whoever still reads, up to body_seconds; then it is cut off."""
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.05)
    options: dict[str, Any] = {"ssl": trusting(authority, "caller.example")} if is_tls else {}
    server = tls if is_tls else None
    async with house(body_seconds=5, server=server) as here:
        caller = await here.slow_caller("localhost", **options)
        caller.say(asked)
        later(0.4, caller)
        answer = await caller.hear()
        assert (len(answer.body), answer.closes) == (LARGE, True)
        assert await caller.rest() == b""
    async with house(body_seconds=0.2, server=server) as here:
        (await here.slow_caller("localhost", **options)).say(asked)
        await here.until(lambda: len(here.seen) == 1)
        await here.until(lambda: here.open == 0)


@in_uvloop
async def test_what_was_not_answered_does_not_cut_off_what_was() -> None:
    """Whatever a caller sent after the last request that is answered, it is read before the end."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller()
        caller.say("GET /slow HTTP/1.1\r\n\r\n", post(length=10**9))
        await here.until(lambda: here.server._shared.tasks != set())
        here.server.leave()
        here.gates["/slow"].set()
        assert (await caller.hear()).closes
        await caller.said(b"x" * 2**24)
        assert await caller.rest() == b""


@in_uvloop
async def test_the_stop_waits_for_who_reads() -> None:
    """An answer that was written before is read to its end."""
    async with house() as here:
        caller = await here.slow_caller()
        caller.say("GET /large HTTP/1.1\r\n\r\n")
        await here.until(lambda: here.is_unread())
        stopping = asyncio.create_task(here.server.stop(grace=5))
        later(0.1, caller)
        assert len((await caller.hear()).body) == LARGE
        await stopping


@in_uvloop
async def test_leaving_and_stopping() -> None:
    """While leaving, answers close; on the stop idle connections end at once, open requests are answered."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        idle, busy, late = [await here.caller() for _ in range(3)]
        idle.say(GET)
        assert not (await idle.hear()).closes
        busy.say("GET /slow HTTP/1.1\r\n\r\n")
        await here.until(lambda: len(here.server._shared.tasks) == 1)
        here.server.leave()
        late.say(GET)
        assert (await late.hear()).closes
        stopping = asyncio.create_task(here.server.stop(grace=5))
        assert await idle.rest() == b""
        here.gates["/slow"].set()
        assert (await busy.hear()).closes
        await stopping
        assert here.open == 0


@in_uvloop
async def test_the_stop_is_bounded() -> None:
    """Whatever is open, half sent, or unread."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        for data in (b"", b"GET / HT", post(length=10), b"GET /slow HTTP/1.1\r\n\r\n"):
            await (await here.caller()).said(data)
        deaf = await here.caller()
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.say("GET /large HTTP/1.1\r\n\r\n" * 20)
        await here.until(lambda: len(here.server._shared.tasks) == 3)
        async with asyncio.timeout(5):
            await here.server.stop(grace=0.1)
        await here.until(lambda: here.open == 0)
        assert not here.server._shared.tasks
