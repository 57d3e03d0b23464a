"""Gateways that are stopped, killed and replaced under load of both doors."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from time import perf_counter

import httpx

from tests.chaos.callers import GRPC, OK, REST, Load, Made, calling, counted, in_turns
from tests.chaos.world import Finding, Gateway, World

LAME_DUCKS = (0.0, 0.5)
STOP_SECONDS = 45.0
KILLS = 3
PATIENCE = 30.0
"""That callers give a call: with few seconds, a busy machine makes the queue refuse some as hopeless."""
LOOK_SECONDS = 0.2
"""Between two looks of a balancer at /readyz."""
ROLLING_LAME_DUCK = 2.0


async def sigterms(world: World, rounds: int) -> list[Finding]:
    """SIGTERM at random moments: what was sent before is answered by both doors, and the status is 0."""
    before: list[Made] = []
    after: list[Made] = []
    codes: Counter[int | None] = Counter()
    faults = under_way = 0
    async with world.model_server() as server:
        for number in range(rounds):
            lame_duck = world.random.choice(LAME_DUCKS)
            world.say(f"SIGTERM {number + 1} of {rounds}, {lame_duck:g} s of lame duck")
            async with world.gateway(server.address, lame_duck_seconds=lame_duck) as gateway:
                load, at = await _signalled(world, gateway, signal.SIGTERM)
                codes[await gateway.ended(STOP_SECONDS)] += 1
                faults += gateway.faults()
            before += [call for call in load.calls if call.began < at]
            under_way += sum(call.began < at < call.ended for call in load.calls)
            after += load.since(at)
    return [
        *(answered(f"{rounds} SIGTERMs under load, {door}", before, door) for door in (REST, GRPC)),
        Finding("… under way when it came", "some", str(under_way), under_way > 0),
        Finding("… exit status", "0 each time", _words(codes), set(codes) == {0}),
        Finding("… calls sent later", "answered, or told to go elsewhere", counted(after), None),
        Finding("… tracebacks in the log", "none", str(faults), faults == 0),
    ]


async def _signalled(world: World, gateway: Gateway, number: signal.Signals) -> tuple[Load, float]:
    """Send a signal at a random moment under load; return the load, over by then, and the moment."""
    async with calling(lambda: gateway, world.random, PATIENCE) as load:
        await load.more(24)
        await asyncio.sleep(world.random.uniform(0.0, 0.5))
        at = perf_counter()
        gateway.process.send_signal(number)
        await gateway.ended(STOP_SECONDS)
    return load, at


def answered(what: str, calls: list[Made], door: str) -> Finding:
    """Judge the calls of one door that had to be answered."""
    mine = [call for call in calls if call.door == door]
    unanswered = Counter(call.outcome for call in mine if call.outcome != OK)
    seen = f"{len(mine)} sent before, {unanswered.total()} not answered {_words(unanswered)}"
    return Finding(what, "every call sent before is answered", seen, bool(mine) and not unanswered)


def _words(counter: Counter[int | None] | Counter[str]) -> str:
    return ", ".join(f"{count} × {value}" for value, count in counter.items())


async def sigkills(world: World) -> list[Finding]:
    """SIGKILL: no caller hangs, and the next gateway is as good as the first."""
    calls: list[Made] = []
    async with world.model_server() as server:
        for number in range(KILLS):
            world.say(f"SIGKILL {number + 1} of {KILLS}")
            async with world.gateway(server.address) as gateway:
                load, at = await _signalled(world, gateway, signal.SIGKILL)
                calls += [call for call in load.calls if call.ended >= at]
        async with world.gateway(server.address) as gateway, calling(lambda: gateway, world.random) as load:
            good = {call.outcome for call in await load.more(50)} == {OK}
    longest = max(call.ended - call.began for call in calls)
    return [
        Finding(
            f"{KILLS} SIGKILLs under load",
            "no caller hangs, the next gateway answers",
            f"{counted(calls)}; the next {'answers' if good else 'does not answer'}",
            longest < 1 and good,
        )
    ]


async def rolling_update(world: World) -> list[Finding]:
    """Two gateways are replaced in turn behind a balancer that looks at /readyz: nothing is lost."""
    known: list[Gateway] = []
    ready: list[Gateway] = []
    codes: Counter[int | None] = Counter()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(world.model_server())

        async def start() -> None:
            started = world.gateway(server.address, lame_duck_seconds=ROLLING_LAME_DUCK)
            known.append(await stack.enter_async_context(started))
            await asyncio.sleep(3 * LOOK_SECONDS)  # until the balancer has found it

        balancer = asyncio.create_task(_look(known, ready))
        stack.callback(balancer.cancel)
        await start()
        await start()
        async with calling(in_turns(ready), world.random, PATIENCE) as load:
            for number, old in enumerate(tuple(known), 1):
                world.say(f"rolling update: gateway {number} is replaced")
                await start()
                old.process.send_signal(signal.SIGTERM)
                codes[await old.ended(STOP_SECONDS)] += 1
                known.remove(old)
                await load.more(100)
    lost = [call for call in load.calls if call.outcome != OK]
    seen = f"{counted(load.calls)}; exit status {_words(codes)}"
    return [
        Finding("a rolling update of two gateways", "nothing is lost", seen, not lost and set(codes) == {0})
    ]


async def _look(known: list[Gateway], ready: list[Gateway]) -> None:
    """Keep the list of those that say they are ready, as a balancer does."""
    async with httpx.AsyncClient(timeout=LOOK_SECONDS * 5) as client:
        while True:
            ready[:] = [gateway for gateway in tuple(known) if await _is_ready(client, gateway)]
            await asyncio.sleep(LOOK_SECONDS)


async def _is_ready(client: httpx.AsyncClient, gateway: Gateway) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{gateway.rest_port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False
