"""How the service leaves: unready, still answering, then refusing, then gone, whatever hangs meanwhile."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Any, Literal

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from seqserve.service import stopping
from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from tests.core.fakes import FakeBackend, as_files, sequence_manifest, totals

BODY = {"sequences": [{"x": [1.0, 2.0]}]}
PREDICT = "/v1/models/totals:predict"


@pytest.fixture
def backend() -> FakeBackend:
    """A backend with `totals`, which answers when its gate is open."""
    made = FakeBackend(totals)
    made.put("totals", 1, as_files(sequence_manifest()))
    made.gates[1] = asyncio.Event()
    made.gates[1].set()
    return made


@asynccontextmanager
async def serving(backend: Any, **given: Any) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """Run the service over it on free ports."""
    settings = Settings(rest_port=0, grpc_port=0, **given)
    async with httpx.AsyncClient() as client, running(settings, backend) as service:
        client.base_url = httpx.URL(f"http://127.0.0.1:{service.rest_port}")
        yield service, client


async def test_who_leaves_is_unready_and_answers_and_who_drains_refuses(backend: FakeBackend) -> None:
    """REST says `Connection: close` and health NOT_SERVING while new calls are still answered."""
    async with serving(backend) as (service, client):
        assert (await client.get("/readyz")).status_code == 200
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{service.grpc_port}")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        service.leave()
        service.leave()
        unready = await client.get("/readyz")
        assert (unready.status_code, unready.json()["reason"]) == (503, "DRAINING")
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        answered = await client.post(PREDICT, json=BODY)
        assert answered.status_code == 200
        assert answered.headers.get_list("connection") == ["close"]
        await service.gateway.drain(1)
        refused = await client.post(PREDICT, json=BODY)
        assert (refused.status_code, refused.json()["reason"]) == (503, "DRAINING")
        watch.cancel()
        await channel.close()


async def test_the_drain_waits_for_what_is_open_and_no_longer_than_it_may(backend: FakeBackend) -> None:
    async with serving(backend) as (service, client):
        gate = backend.gates[1] = Gate()
        open_call = asyncio.create_task(client.post(PREDICT, json=BODY))
        await gate.entered.wait()
        await service.gateway.drain(0.01)
        assert not open_call.done()
        drained = asyncio.create_task(service.gateway.drain(20))
        gate.set()
        await drained
        assert (await open_call).status_code == 200


class Gate(asyncio.Event):
    """Tells that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()

    async def wait(self) -> Literal[True]:
        """Wait as an event does."""
        self.entered.set()
        return await super().wait()


class Hanging(FakeBackend):
    """Never lets go."""

    def __init__(self) -> None:
        super().__init__(totals)
        self.put("totals", 1, as_files(sequence_manifest()))

    async def close(self) -> None:
        """Hang, and heed no cancelling."""
        ended = asyncio.get_running_loop().create_future()
        while True:
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError:
                ended.set_result(None)
                return


async def test_a_step_that_hangs_is_told_and_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping.within, "__defaults__", (1.0,))
    async with asyncio.timeout(10), serving(Hanging()) as (_, client):
        assert (await client.get("/healthz")).status_code == 200
    assert "closing the backend took more than 1 s: given up" in caplog.text


async def test_a_step_that_fails_says_so_itself() -> None:
    async def fails() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await stopping.within(fails(), "it")


async def test_what_had_been_sent_is_seen_before_the_drain_begins() -> None:
    """However late the loop is: it looks at its sockets several times after the signal."""
    passes = 0

    def count() -> None:
        nonlocal passes
        passes += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    loop.call_soon(count)
    began = loop.time()
    await stopping.settle(0)
    assert loop.time() - began >= stopping.SETTLE_SECONDS
    assert passes >= stopping.PASSES


def test_only_a_nearer_end_replaces_one_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal after the second does not put off what that one has bounded."""
    forced: SimpleQueue[float] = SimpleQueue()
    monkeypatch.setattr(stopping, "_force", forced.put)
    bound = stopping.Bound()
    for seconds in (600, 0.01, 600):
        bound.within(seconds)
    assert forced.get(timeout=30) == 0.01


FULL = """
import os
os.set_blocking(2, False)
try:
    while True:
        os.write(2, bytes(4096))
except BlockingIOError:
    os.set_blocking(2, True)
"""
FORCED = """
import os, threading
from seqserve.service.stopping import Bound
bound = Bound()
bound.within(600)
bound.within(0.1)
threading.Event().wait()  # hangs for good, as does the interpreter's end on such a thread
"""


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False])
def test_a_process_that_hangs_for_good_is_ended_by_force_with_a_word(reads: bool) -> None:
    """With status 1; and also where nobody reads its standard error, and the pipe is full."""
    code = FORCED if reads else FULL + FORCED
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == stopping.FORCED
        assert process.stderr is not None
        assert (b"ends by force" in process.stderr.read()) is reads
