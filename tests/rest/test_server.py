"""The REST server on the wire: requests as clients send them, and what attacks by them come to."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.types import Receive, Scope, Send

from seqserve.service.core.turns import Turnstile
from seqserve.service.rest.exchange import HIGH_WATER
from seqserve.service.rest.shared import MOST_BEGUN
from tests.rest.wire import GET, OFFER, chunked, house, in_uvloop, post, reason, resident

# --- clients as they are --------------------------------------------------------------------------


class TestClients:
    """What real clients send is one request, in whatever pieces it comes."""

    BODY = b'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n{"texts": []}'
    REQUESTS = (
        post(BODY),
        post(BODY, headers=OFFER),
        chunked(BODY, headers=OFFER),
        post(BODY, headers="Connection: upgrade\r\nUpgrade: websocket\r\n"),
        chunked(BODY[:9], BODY[9:], extension=";a=b", trailers="X-Sum: 1\r\n"),
        GET.encode(),
        GET.replace("Host: a", f"Host: a\r\n{OFFER}".strip()).encode(),
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=6),
        st.lists(st.integers(1, 900), max_size=6),
    )
    def test_requests_in_any_pieces_are_answered_in_order(
        self, asked: Sequence[int], cuts: Sequence[int]
    ) -> None:
        """Offers, chunks, pipelining: as many answers as requests, with the bodies that were sent."""

        @in_uvloop
        async def run() -> None:
            async with house() as here:
                caller = await here.caller()
                data = b"".join(self.REQUESTS[which] for which in asked)
                for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
                    caller.say(data[start:end])
                    await asyncio.sleep(0)  # each piece is a segment of its own
                for which in asked:
                    answer = await caller.hear()
                    posts = self.REQUESTS[which].startswith(b"POST")
                    assert (answer.status, answer.json["path"]) == (200, "/post" if posts else "/healthz")
                    assert answer.json["got"] == (len(self.BODY) if posts else 0)
                    assert "x-sum" not in answer.json["headers"]
                    assert not answer.closes
                assert len(here.seen) == len(asked)

        run()

    @in_uvloop
    async def test_100_continue_is_sent_when_the_body_is_wanted(self) -> None:
        """Not before the handler reads; where it never does, the final status alone, and the end."""
        async with house() as here:
            caller = await here.caller()
            caller.say(post(path="/post", length=4, headers="Expect: 100-continue\r\n"))
            assert (await caller.hear()).status == 100
            caller.say(b"1234")
            assert (await caller.hear()).json["got"] == 4
            caller.say(post(path="/unread", length=4, headers="Expect: 100-continue\r\n"))
            answer = await caller.hear()
            assert answer.status == 200
            assert answer.closes
            assert await caller.rest() == b""
            old = await here.caller()
            old.say(post(b"12", headers="Expect: 100-continue\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert ((answer := await old.hear()).status, answer.json["got"]) == (200, 2)

    @in_uvloop
    async def test_a_probe_is_answered_between_the_requests_of_a_flood(self) -> None:
        """Most of those that came before it in the same turn come after it."""
        async with house() as here:
            here.server._shared.turnstile = Turnstile(MOST_BEGUN, seconds=0.0)  # each takes long
            flood = [await here.caller() for _ in range(5 * MOST_BEGUN)]
            prober = await here.caller()
            for caller in flood:
                caller.say(post(b"{}"))
            prober.say(GET)
            for caller in (prober, *flood):
                assert (await caller.hear()).status == 200
        paths = [path for _, path, _ in here.seen]
        assert len(paths) == len(flood) + 1
        assert paths.index("/healthz") <= 2 * MOST_BEGUN

    @pytest.mark.parametrize("size", [2, HIGH_WATER])
    def test_nobody_is_answered_who_has_gone(self, size: int) -> None:
        """The application is cancelled once it has the whole body, even one that stopped the reading."""

        @in_uvloop
        async def run() -> None:
            waits, cancelled = asyncio.Event(), asyncio.Event()

            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                await here.until(lambda: here.in_flight.used == size)
                assert not (await receive())["more_body"]
                waits.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()

            async with house(app) as here, asyncio.timeout(20):
                caller = await here.caller()
                caller.say(post(b"1" * size))
                await waits.wait()
                caller.writer.transport.abort()
                await cancelled.wait()

        run()

    @in_uvloop
    async def test_no_100_continue_comes_into_an_answer(self) -> None:
        """Who answers first, and reads then, has the connection closed."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            reading = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"2"})
            assert (await reading)["type"] == "http.disconnect"

        async with house(app) as here:
            caller = await here.caller()
            caller.say(post(length=4, headers="Expect: 100-continue\r\n"))
            answer = await caller.hear()
            assert (answer.body, answer.closes, await caller.rest()) == (b"12", True, b"")

    @in_uvloop
    async def test_an_unread_body_is_passed_over_or_ends_the_connection(self) -> None:
        """A short one is no reason to close; a long one is not read to its end."""
        async with house() as here:
            caller = await here.caller()
            caller.say(post(path="/unread", length=1000), b"x" * 10)
            assert not (await caller.hear()).closes
            caller.say(b"x" * 990, GET)
            assert (await caller.hear()).json["path"] == "/healthz"
            here.gates["/unread/late"] = asyncio.Event()
            caller.say(post(b"x" * 60_000, path="/unread/late"), GET)
            await here.until(lambda: here.in_flight.used > HIGH_WATER)  # no more is read, for now
            here.gates["/unread/late"].set()
            assert [(await caller.hear()).json["path"] for _ in range(2)] == ["/unread/late", "/healthz"]
            caller.say(post(path="/unread", length=10**9), b"x" * 10)
            assert (await caller.hear()).closes
            await caller.said(b"x" * 10**6)  # read and thrown away, so that the answer is not lost
            assert await caller.rest() == b""

    @in_uvloop
    async def test_old_and_absolute_forms(self) -> None:
        """HTTP/1.0 is answered and closed; a target may be a whole URL; HEAD has no body."""
        async with house() as here:
            caller = await here.caller()
            caller.say("GET http://a/x%20y?q=1 HTTP/1.1\r\nHost: a\r\n\r\nGET http://a HTTP/1.1\r\n\r\n")
            assert (told := (await caller.hear()).json)["path"] == "/x y"
            assert told["query"] == "q=1"
            assert (await caller.hear()).json["path"] == "/"
            caller.say("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.0\r\n\r\n")
            assert int((await caller.hear(head=True)).headers["content-length"]) > 0
            answer = await caller.hear()
            assert answer.closes
            assert await caller.rest() == b""

    @in_uvloop
    async def test_both_families_are_listened_on(self) -> None:
        """`::` is every address; a caller by IPv4 is named as such."""
        async with house(host="::", open="all") as here:
            for host in ("127.0.0.1", "::1"):
                caller = await here.caller(host)
                caller.say(GET)
                assert (await caller.hear()).json["client"][0] == host


# --- what is no HTTP ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        f"POST / HTTP/1.1\r\n{OFFER}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na".encode(),
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nContent-Length : 1\r\n\r\na",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET x:y HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
@in_uvloop
async def test_what_is_no_http_is_refused(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """400 with a reason, the end, and no traceback; what was asked before it is answered first."""
    async with house() as here:
        here.gates["/slow"] = asyncio.Event()
        caller = await here.caller()
        caller.say("GET /slow HTTP/1.1\r\n\r\n", sent)
        await here.until(lambda: here.server._shared.tasks != set())
        here.gates["/slow"].set()
        assert (await caller.hear()).json["path"] == "/slow"
        answer = await caller.hear()
        assert (answer.status, reason(answer), answer.closes) == (400, "MALFORMED_HTTP", True)
        assert await caller.rest() == b""
        assert not any(record.exc_info for record in caplog.records)


@in_uvloop
async def test_connect_is_refused() -> None:
    """A tunnel is nothing that is offered; what follows is no request."""
    async with house() as here:
        caller = await here.caller()
        caller.say("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", GET)
        assert (await caller.hear()).status == 405
        assert await caller.rest() == b""
        assert here.seen == []


# --- attacks: bytes -------------------------------------------------------------------------------

ENDLESS = {
    "headers": (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
    "one header": (b"GET / HTTP/1.1\r\nA: ", b"b" * 1000),
    "a header's name": (b"GET / HTTP/1.1\r\n", b"b" * 1000),
    "a target": (b"GET /", b"b" * 1000),
    "line ends": (b"", b"\r\n" * 500),
    "trailers": (chunked(b"x").removesuffix(b"\r\n"), b"A: b\r\n"),
    "one trailer": (chunked(b"x").removesuffix(b"\r\n") + b"A: ", b"b" * 1000),
    "an extension": (chunked(b"x").removesuffix(b"0\r\n\r\n") + b"1;", b"b" * 1000),
}


@pytest.mark.parametrize("what", ENDLESS)
@in_uvloop
async def test_endless_heads_are_refused(what: str) -> None:
    """431 long before they take memory, and the end."""
    async with house() as here:
        caller, (start, again) = await here.caller(), ENDLESS[what]
        before = resident()
        caller.say(start)
        sent = 0
        while not caller.reader._buffer:  # type: ignore[attr-defined]
            await caller.said(again * 20)
            sent += 20 * len(again)
            assert sent < 10**7
        answer = await caller.hear()
        assert (answer.status, reason(answer), answer.closes) == (431, "HEADERS_TOO_LARGE", True)
        assert await caller.rest() == b""
        assert resident() - before < 20 * 2**20


@pytest.mark.parametrize(
    ("size", "count", "status"), [(1900, 1, 200), (2100, 1, 431), (1, 9, 200), (1, 11, 431)]
)
@in_uvloop
async def test_the_limits_of_a_head(size: int, count: int, status: int) -> None:
    """Up to the limits a head in one segment is taken, beyond them it is not; the message says the limit."""
    async with house(max_header_bytes=2000, max_headers=10) as here:
        caller = await here.caller()
        caller.say("GET / HTTP/1.1\r\n", "".join(f"A{n}: {'x' * size}\r\n" for n in range(count)), "\r\n")
        answer = await caller.hear()
        assert answer.status == status
        if status == 431:
            assert ("2000" if count == 1 else "10") in answer.json["detail"]


@in_uvloop
async def test_deep_pipelining_is_refused_after_its_answers() -> None:
    """As many as may wait are answered, then 429; nothing else is kept."""
    async with house() as here:
        caller = await here.caller()
        caller.say(GET * 5000)
        answers = [await caller.hear() for _ in range(65)]
        assert [answer.status for answer in answers] == [200] * 64 + [429]
        assert reason(answers[-1]) == "QUEUE_FULL"
        assert await caller.rest() == b""


@in_uvloop
async def test_unfinished_bodies_hold_no_more_than_allowed() -> None:
    """Sixty at once: those that hold most give way, a small one is answered, and nothing stays."""
    limit, part = 4 * 2**20, b"x" * 100_000
    async with house(body_bytes_in_flight=limit) as here:
        top, callers = 0, [await here.caller() for _ in range(60)]
        for caller in callers:
            caller.say(post(length=15 * len(part)))
        for _ in range(14):
            for caller in callers:
                caller.say(part)
                await asyncio.sleep(0)
                top = max(top, here.in_flight.used)
        polite = await here.caller()
        polite.say(post(b"x" * 10_000))
        assert (await polite.hear()).status == 200
        heard = [bytes(caller.reader._buffer) for caller in callers]  # type: ignore[attr-defined]
        assert sum(b" 429 " in answer and b"QUEUE_FULL" in answer for answer in heard) > 50
        assert limit / 2 < top <= limit
        for caller in callers:
            caller.writer.transport.abort()
        await here.until(lambda: here.open == 1)
        assert here.in_flight.used == 0


# --- attacks: time --------------------------------------------------------------------------------


@in_uvloop
async def test_slow_heads_and_silence_end(caplog: pytest.LogCaptureFixture) -> None:
    """A head that does not come whole: 408, in the access log; one without a byte: closed. None is left."""
    caplog.set_level("INFO")
    async with house(head_seconds=0.15, idle_seconds=0.3) as here:
        silent, slow = [], []
        for _ in range(100):
            silent.append(await here.caller())
            slow.append(await here.caller())
            slow[-1].say("GET / HT")
        answers = [await caller.hear() for caller in slow]
        assert {(a.status, reason(a), a.closes) for a in answers} == {(408, "REQUEST_TIMEOUT", True)}
        assert "0.15 seconds that head_seconds" in answers[0].json["detail"]
        assert [await caller.rest() for caller in (*silent, *slow)] == [b""] * 200
        await here.until(lambda: here.open == 0)
        assert here.refused("REQUEST_TIMEOUT") == 100
        assert [r.fields["reason"] for r in caplog.records if r.message == "call"] == [
            "REQUEST_TIMEOUT"
        ] * 100


@in_uvloop
async def test_a_trickle_does_not_prolong_a_head() -> None:
    """The time is that of the whole head, not of each byte."""
    async with house(head_seconds=0.1) as here:
        caller = await here.caller()
        caller.say("GET / HTTP/1.1\r\n")
        async with asyncio.timeout(5):
            while not caller.reader._buffer:  # type: ignore[attr-defined]
                caller.say("A: b\r\n")
                await asyncio.sleep(0.01)
        assert (await caller.hear()).status == 408


@in_uvloop
async def test_a_slow_body_ends_whatever_timeout_is_asked_for() -> None:
    """408 after body_seconds; a body that comes in that time is taken."""
    async with house(body_seconds=0.1) as here:
        caller = await here.caller()
        caller.say(post(length=10, headers="Grpc-Timeout: 300S\r\n"), b"12345")
        answer = await caller.hear()
        assert (answer.status, reason(answer), answer.closes) == (408, "REQUEST_TIMEOUT", True)
        assert "body_seconds" in answer.json["detail"]
        assert await caller.rest() == b""


@in_uvloop
async def test_what_a_refused_caller_sent_is_freed_at_once() -> None:
    """It does not wait for the garbage collector, which may run long after: no cycle holds it."""
    kept = list[weakref.ref[bytearray]]()

    class Sent(bytearray):
        """Bytes that can be watched."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent = Sent()
        kept.append(weakref.ref(sent))
        while True:
            sent += (await receive())["body"]

    async with house(app, body_seconds=0.1, body_bytes_in_flight=1000) as here:
        gc.disable()
        try:
            slow, large = await here.caller(), await here.caller()
            slow.say(post(length=900), b"x" * 100)
            assert (await slow.hear()).status == 408
            large.say(post(length=9000), b"x" * 900)
            await here.until(lambda: here.in_flight.used == 900)
            large.say(b"x" * 900)
            assert (await large.hear()).status == 429
            await here.until(lambda: not here.server._shared.tasks)
            assert [ref() for ref in kept] == [None, None]
        finally:
            gc.enable()
