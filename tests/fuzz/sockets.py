"""Inputs sent to a running service by sockets: HTTP as bytes, gRPC as messages, and HTTP/2 as bytes.

All the while a polite caller asks at both doors, and must be answered rightly each time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import grpc

from seqserve.service.main import Running
from seqserve.v1 import sequence_pb2, sequence_pb2_grpc
from tests.fuzz import inputs, world
from tests.fuzz.findings import Findings
from tests.fuzz.inprocess import HONEST, POLITE, POLITE_ANSWER

SECONDS = 10.0
"""How long anything may be without an answer or an end."""
QUIET_SECONDS = 0.2
HEADERS = (
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 5",
    b"Content-Encoding: gzip",
    b"Content-Type: text/plain",
    b"X-Request-Id: " + b"y" * 3000,
    b"Accept-Encoding: gzip",
    b"Accept: application/x-ndjson",
    b"Accept: text/event-stream",
    b"Origin: https://app.example",
    b'Forwarded: for="[::1]"',
    b"Host: elsewhere",
    b"Grpc-Timeout: 1S",
    b"X: \xff\x80",
    b": nothing",
    b" folded",
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
ANSWERS_WHEN_BACKEND_IS_WELL = {503: {"DRAINING", "TOO_MANY_CONNECTIONS"}, 501: {"UNIMPLEMENTED"}}
Trial = Callable[[Random], Awaitable[None]]


@asynccontextmanager
async def trials(findings: Findings) -> AsyncIterator[dict[str, Trial]]:
    """Start a service, and yield, by name, what sends it one input that is drawn from a `Random`."""
    async with world.service() as started, _channel(started) as channel:
        sender = _Sender(started, channel, findings)
        polite = asyncio.create_task(sender.politely())
        try:
            yield {"http": sender.http, "grpc": sender.grpc, "http2": sender.http2}
        finally:
            polite.cancel()
            await asyncio.gather(polite, return_exceptions=True)


def _channel(started: Running) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}")


class _Sender:
    def __init__(self, started: Running, channel: grpc.aio.Channel, findings: Findings) -> None:
        self._started = started
        self._findings = findings
        self._channel = channel

    async def http(self, random: Random) -> None:
        """Send one or two requests that are nearly HTTP, perhaps in pieces, and read what comes."""
        raw = b"".join(_request(random) for _ in range(random.choice((1, 1, 1, 2))))
        raw = inputs.mutated(raw, random) if random.random() < 0.3 else raw
        got = await self._exchange(self._started.rest_port, raw, random)
        for status, reason in _statuses(got):
            is_poison = reason == "BACKEND_FAILED" and b"666" in raw
            if status >= 500 and not is_poison and reason not in ANSWERS_WHEN_BACKEND_IS_WELL.get(status, ()):
                self._findings.add(f"HTTP answered {status} {reason}", got[:500], raw)

    async def http2(self, random: Random) -> None:
        """Send frames that are nearly HTTP/2 to the gRPC door."""
        frames = b"".join(_frame(random) for _ in range(random.randrange(6)))
        raw = PREFACE + frames
        await self._exchange(
            self._started.grpc_port, inputs.mutated(raw, random) if random.random() < 0.3 else raw, random
        )

    async def _exchange(
        self, port: int, raw: bytes, random: Random, patience: float = QUIET_SECONDS
    ) -> bytes:
        """Return all that came until the other side was done, or had nothing to say for so long."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = bytearray()
        try:
            async with asyncio.timeout(SECONDS):
                cut = random.randrange(len(raw) + 1) if random.random() < 0.3 else len(raw)
                writer.write(raw[:cut])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(raw[cut:])
                while part := await _read(reader, patience):
                    got += part
                if not reader.at_eof():  # it waits for the rest of a request, which it now hears not to come
                    writer.write_eof()
                while part := await reader.read(65536):
                    got += part
        except OSError:
            pass  # the other side has closed before it was told all
        except TimeoutError:
            self._findings.add("a connection hung", bytes(got[:300]), raw)
        finally:
            writer.transport.abort()
        return bytes(got)

    async def grpc(self, random: Random) -> None:
        """Call a method with bytes and metadata."""
        path = name = random.choice(list(HONEST))
        if random.random() < 0.02:
            path = random.choice(("/a/b", "/seqserve.v1.SequenceService/None", f"{path}x"))
        raw = inputs.message(random.choice(HONEST[name]), random)
        # that of appends, which is asked once here, answers once
        many = path.endswith("Stream") and not path.endswith("AppendStream")
        asked = {"timeout": SECONDS, "metadata": _metadata(random)}
        try:
            if many:
                _ = [part async for part in self._channel.unary_stream(path, _same, _same)(raw, **asked)]
            else:
                await self._channel.unary_unary(path, _same, _same)(raw, **asked)
        except grpc.aio.AioRpcError as error:
            code, is_ours = error.code(), "grpc-status-details-bin" in dict(error.trailing_metadata() or ())
            if code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._findings.add(f"gRPC answered {code.name}", error.details(), raw)
            if code is grpc.StatusCode.INTERNAL and not (is_ours and b"\x84@" in raw):  # 666.0's end
                self._findings.add(f"gRPC answered {code.name}", error.details(), raw)

    async def politely(self) -> None:
        """Ask at both doors again and again."""
        stub = sequence_pb2_grpc.SequenceServiceStub(self._channel)
        message = sequence_pb2.PredictRequest(
            model={"name": "totals"},
            sequences=[{"features": {"x": {"numbers": {"values": [1, 2, 3]}}}}],
            heads=["total"],
        )
        body = json.dumps(POLITE).encode()
        raw = (
            b"POST /v1/models/totals:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        while True:
            try:
                answer: Any = await stub.Predict(message, timeout=SECONDS)
                by_grpc = answer.results[0].prediction.heads["total"].value_answer.value
                got = await self._exchange(self._started.rest_port, raw, Random(0), SECONDS)
                by_rest = json.loads(got.partition(b"\r\n\r\n")[2])
                by_rest = by_rest["predictions"][0]["heads"]["total"]["value"]
            except Exception as error:
                self._findings.add("a polite call failed", repr(error), b"")
            else:
                if (by_grpc, by_rest) != (POLITE_ANSWER, POLITE_ANSWER):
                    self._findings.add("a polite call beside it was answered", (by_grpc, by_rest), b"")
            await asyncio.sleep(0.02)


async def _read(reader: asyncio.StreamReader, patience: float) -> bytes:
    """Return what comes next; nothing where the other side has ended or is quiet."""
    try:
        async with asyncio.timeout(patience):
            return await reader.read(65536)
    except TimeoutError:
        return b""


def _same(raw: bytes) -> bytes:
    return raw


def _request(random: Random) -> bytes:
    model, verb, body = inputs.body(random)
    method = random.choice(
        (b"POST", b"POST", b"POST", b"POST", b"GET", b"HEAD", b"OPTIONS", b"PUT", b"po st")
    )
    path = random.choice(
        tuple(one.format(m=model) for one in inputs.PATHS.get(verb, (f"/v1/models/{model}:{verb}",))) * 5
        + (
            "/healthz",
            "/metrics",
            "/docs",
            "/v1/models",
            f"/v1/models/visits/sessions/{inputs.SESSION}",
            "/%00%ff",
            "*",
            "http://x/healthz",
            "/" + "a" * 3000,
        )
    )
    lines = [b"%b %b HTTP/1.1" % (method, path.encode()), b"Host: x", b"Content-Type: application/json"]
    if random.random() < 0.9:
        lines.append(b"Content-Length: %d" % len(body))
    lines += [b"Connection: close"] if random.random() < 0.7 else []
    lines += random.sample(HEADERS, random.randrange(3)) if random.random() < 0.4 else []
    return b"\r\n".join((*lines, b"", body))


def _frame(random: Random) -> bytes:
    payload = random.randbytes(random.randrange(40))
    length = len(payload) if random.random() < 0.8 else random.randrange(2**14)
    kind, flags, stream = random.randrange(11), random.randrange(256), random.randrange(8)
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _metadata(random: Random) -> tuple[tuple[str, str | bytes], ...]:
    values: tuple[tuple[str, str | bytes], ...] = (
        ("x-request-id", "mine"),
        ("x-request-id", "y" * 3000),
        ("authorization", "Bearer " + "z" * 40),
        ("x-api-key", "k"),
        ("forwarded", 'for="[::1]"'),
        ("any-bin", random.randbytes(20)),
    )
    return tuple(random.sample(values, random.randrange(3))) if random.random() < 0.3 else ()


def _statuses(got: bytes) -> list[tuple[int, str]]:
    """Return the status and, of a problem, the reason of each response."""
    found = []
    for part in got.split(b"HTTP/1.1 ")[1:]:
        if not part[:3].isdigit():
            continue
        before, _, after = part.partition(b'"reason":"')
        found.append((int(part[:3]), after.partition(b'"')[0].decode("latin-1") if before != part else ""))
    return found
