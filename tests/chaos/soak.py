"""A long mixed load with faults on one gateway: what it holds must not grow, and nobody waits long."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import grpc
import httpx

from seqserve.v1 import sequence_pb2, sequence_pb2_grpc
from tests.bench.processes import resident_mib
from tests.chaos.callers import SPOILT, calling, counted
from tests.chaos.world import MODEL, Finding, Gateway, Wire, World, paused
from tests.doors import SHOP
from tests.tfserving.process import Server

WARM_SHARE = 0.3
GROWTH = 0.02
FAULT_SECONDS = 5.0
"""Between two faults."""
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """What a gateway holds at a moment, and how long /healthz took."""

    at: float
    resident: float
    descriptors: int
    threads: int
    health_seconds: float


async def soak(world: World, seconds: float) -> list[Finding]:
    """Mixed calls with faults for so long."""
    looks: list[Look] = []
    async with world.model_server() as server:
        wire = Wire(server.address, world.random)
        async with wire.listening() as address, world.gateway(address) as gateway:
            began = perf_counter()
            async with asyncio.TaskGroup() as tasks:
                busy = [
                    tasks.create_task(_watch(gateway, looks)),
                    tasks.create_task(_misuse(world, gateway)),
                    tasks.create_task(_disturb(world, wire, server)),
                ]
                async with calling(lambda: gateway, world.random) as load:
                    while (passed := perf_counter() - began) < seconds:
                        world.say(f"soak: {passed:.0f} of {seconds:g} s, {len(load.calls)} calls")
                        await asyncio.sleep(min(30.0, seconds - passed))
                for task in busy:
                    task.cancel()
            faults = gateway.faults()
    strange = {call.outcome for call in load.calls} - SPOILT
    return [
        Finding("soak: calls", "answers, or the truth", counted(load.calls), not strange),
        *_held(looks, began + WARM_SHARE * seconds),
        Finding("… tracebacks in the log", "none", str(faults), faults == 0),
    ]


async def _watch(gateway: Gateway, looks: list[Look]) -> None:
    """Look at the process again and again, and ask whether it is alive."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.rest_port}", timeout=10) as client:
        while True:
            began = perf_counter()
            await client.get("/healthz")
            taken = perf_counter() - began
            pid = gateway.process.pid
            looks.append(Look(began, resident_mib(pid), gateway.descriptors(), gateway.threads(), taken))
            await asyncio.sleep(LOOK_SECONDS)


def _held(looks: list[Look], warm: float) -> list[Finding]:
    """Compare the last tenth with the first tenth after the warm-up."""
    looks = [look for look in looks if look.at >= warm]
    part = max(1, len(looks) // 10)
    first, last = looks[:part], looks[-part:]
    before, after = (statistics.median(look.resident for look in some) for some in (first, last))
    growth = after / before - 1
    waits = sorted(look.health_seconds * 1e3 for look in looks)
    found = [
        Finding(
            "… resident memory after warm-up",
            f"grows less than {GROWTH:.0%}",
            f"{before:.0f} to {after:.0f} MiB: {growth:+.1%}",
            growth < GROWTH,
        )
    ]
    for name in ("descriptors", "threads"):
        was, now = (statistics.median(getattr(look, name) for look in some) for some in (first, last))
        found.append(Finding(f"… {name}", "as many as before", f"{was:g} to {now:g}", now <= was + 2))
    seen = (
        f"p50 {waits[len(waits) // 2]:.1f}, p99 {waits[int(len(waits) * 0.99)]:.1f}, p100 {waits[-1]:.1f} ms"
    )
    return [*found, Finding("… /healthz", "told, as the machine may be busy", seen, None)]


async def _disturb(world: World, wire: Wire, server: Server) -> None:
    """Do something to the way to the model server, again and again."""

    async def pause() -> None:
        with paused(server):
            await asyncio.sleep(0.5)

    async def cut() -> None:
        wire.cut()

    async def spoil() -> None:
        wire.rubbish = 0.1
        await asyncio.sleep(0.5)
        wire.rubbish = 0.0

    kinds: list[Callable[[], Awaitable[None]]] = [pause, cut, spoil]
    while True:
        await asyncio.sleep(world.random.uniform(0.5, 1.5) * FAULT_SECONDS)
        await world.random.choice(kinds)()


async def _misuse(world: World, gateway: Gateway) -> None:
    """Be a bad caller of both doors: at fault, gone before the answer, cut off in the middle of a request."""
    base = f"http://127.0.0.1:{gateway.rest_port}"
    async with (
        httpx.AsyncClient(base_url=base, timeout=10) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as channel,
    ):
        predict = sequence_pb2_grpc.SequenceServiceStub(channel).Predict

        async def wrong() -> None:
            bodies = ({"sequences": [{}]}, {"sequences": [{"nope": [1]}]}, {"sequences": SHOP}, "no JSON")
            await client.post(f"/v1/models/{MODEL}:predict", json=world.random.choice(bodies))
            await client.post("/v1/models/nope:predict", json={"sequences": [SHOP]})

        async def gone() -> None:
            call = predict(sequence_pb2.PredictRequest(model={"name": MODEL}, sequences=[{}]), timeout=5)
            await asyncio.sleep(world.random.uniform(0, 0.005))
            call.cancel()
            with suppress(httpx.TimeoutException):
                await client.post(f"/v1/models/{MODEL}:predict", json={"sequences": [SHOP]}, timeout=0.002)

        async def cut() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.rest_port)
            writer.write(b"POST /v1/models/shop:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
            await asyncio.sleep(0.01)
            writer.transport.abort()

        while True:
            with suppress(httpx.HTTPError):
                await world.random.choice((wrong, gone, cut))()
            await asyncio.sleep(0.05)
