"""What happens round a gateway under load of both doors: to its model server, its disk, its clock."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

from tests.bench.processes import COMMAND
from tests.chaos.callers import OK, OUTAGE, SECONDS, SPOILT, Load, calling, counted
from tests.chaos.world import Finding, Gateway, Wire, World, paused
from tests.tfserving.process import Server

BACK_SECONDS = 10.0
"""In which all is well again, once the fault is over."""
CALLS = 100
CLOCK = Path(__file__).with_name("clock.c")
HOUR = 3600


def _shell(script: str) -> tuple[str, ...]:
    """Return the command as a shell runs it, with something about it changed."""
    return ("bash", "-c", f"{script.format(command=chr(34) + '$@' + chr(34))}", "-", *COMMAND)


FULL_DISK = _shell("exec {command} 2>/dev/full")
NOBODY_READS = _shell("exec {command} 2> >(sleep 600)")
FEW_DESCRIPTORS = _shell("ulimit -n 256; exec {command}")
CONNECTIONS = 400
"""More than there are descriptors."""


async def _judged(
    load: Load, began: float, gateway: Gateway, what: str, allowed: set[str] = OUTAGE
) -> Finding:
    """Look at the calls that were open since a fault began; wait until one is answered again."""
    back = await load.until(BACK_SECONDS, lambda call: call.outcome == OK)
    calls = [call for call in load.calls if call.ended >= began]
    in_time = all(call.ended - call.began < SECONDS + 1 for call in calls)
    strange = {call.outcome for call in calls} - allowed
    seen = f"{counted(calls)}; good again {'never' if back is None else f'after {back:.2f} s'}"
    alive = gateway.process.poll() is None
    wanted = "answers, or the truth in time; good again"
    return Finding(what, wanted, seen, alive and in_time and not strange and back is not None)


async def model_server(world: World) -> list[Finding]:
    """The model server is killed and comes back, stands still, and answers slowly through a spoilt wire."""
    findings = []
    async with world.model_server() as first:
        wire = Wire(first.address, world.random)
        async with (
            wire.listening() as address,
            world.gateway(address) as gateway,
            calling(lambda: gateway, world.random) as load,
        ):
            await load.more(CALLS)
            for what, spoil in _SPOILT.items():
                world.say(f"the model server: {what}")
                began = perf_counter()
                await spoil(wire, first, load)
                wire.delay = wire.rubbish = 0.0
                findings.append(await _judged(load, began, gateway, f"the model server {what}", SPOILT))
            world.say("the model server: killed")
            began = perf_counter()
            first.process.kill()
            await load.more(CALLS)
            async with world.model_server(int(first.address.rpartition(":")[2])):
                findings.append(await _judged(load, began, gateway, "the model server killed, then back"))
            faults = gateway.faults()
    findings.append(Finding("… tracebacks in the log", "none", str(faults), faults == 0))
    return findings


async def _pause(wire: Wire, server: Server, load: Load) -> None:
    with paused(server):
        await asyncio.sleep(2.0)


async def _slow(wire: Wire, server: Server, load: Load) -> None:
    wire.delay = 0.3
    await load.more(CALLS // 2)


async def _corrupt(wire: Wire, server: Server, load: Load) -> None:
    wire.rubbish = 0.2
    await load.more(CALLS)


async def _cut(wire: Wire, server: Server, load: Load) -> None:
    for _ in range(5):
        wire.cut()
        await load.more(CALLS // 5)


_SPOILT = {"paused": _pause, "slow": _slow, "corrupt (bytes put in)": _corrupt, "cut off 5 times": _cut}


async def root_removed(world: World) -> list[Finding]:
    """The model root is renamed away and back under an embedded gateway: the last good versions go on."""
    world.say("the model root is removed, and comes back")
    root, away = world.root / "own", world.root / "away"
    shutil.copytree(world.root / "shop", root / "shop")
    async with world.gateway(root=root) as gateway, calling(lambda: gateway, world.random) as load:
        await load.more(CALLS)
        began = perf_counter()
        root.rename(away)
        await asyncio.sleep(2.0)
        away.rename(root)
        await asyncio.sleep(1.0)
        found = await _judged(load, began, gateway, "the model root removed for 2 s (embedded)", {OK})
    return [found]


async def hostile_places(world: World) -> list[Finding]:
    """A full disk, a log that nobody reads, few descriptors: calls are answered, and SIGTERM is heeded."""
    places: dict[str, tuple[tuple[str, ...], Callable[[Gateway], AbstractAsyncContextManager[None]]]] = {
        "a full disk under its log": (FULL_DISK, _misuse),
        "a log that nobody reads": (NOBODY_READS, _misuse),
        "256 descriptors, 400 connections": (FEW_DESCRIPTORS, _crowd),
    }
    findings = []
    async with world.model_server() as server:
        for what, (command, disturbed) in places.items():
            world.say(what)
            settings = {"log_level": "DEBUG", "lame_duck_seconds": 0}
            async with world.gateway(server.address, command=command, **settings) as gateway:
                async with disturbed(gateway):
                    began = perf_counter()
                    async with calling(lambda: gateway, world.random) as load:
                        await load.more(CALLS)
                        found = await _judged(load, began, gateway, what, {OK})
                gateway.process.send_signal(signal.SIGTERM)
                code = await gateway.ended(40)
                findings.append(_with_code(found, code))
    return findings


def _with_code(found: Finding, code: int | None) -> Finding:
    is_good = bool(found.is_good) and code == 0
    return Finding(found.what, "answers, and ends with 0", f"{found.seen}; exit status {code}", is_good)


@asynccontextmanager
async def _misuse(gateway: Gateway) -> AsyncIterator[None]:
    """Send 2,000 requests that are at fault, each of which may be worth a line; for a minute at most."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.rest_port)
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            for number in range(2000):
                path = f"/v1/models/no-such-model-{number}{'x' * 200}:predict"
                writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
    yield
    writer.transport.abort()


@asynccontextmanager
async def _crowd(gateway: Gateway) -> AsyncIterator[None]:
    """Open more connections than there are descriptors, and close them a second later, before the block."""
    held = []
    for _ in range(CONNECTIONS):
        one = socket.socket()
        one.setblocking(False)
        with suppress(BlockingIOError):
            one.connect(("127.0.0.1", gateway.rest_port))
        held.append(one)
    await asyncio.sleep(1.0)
    for one in held:
        one.close()
    await asyncio.sleep(0.5)
    yield


async def clock(world: World) -> list[Finding]:
    """The gateway's wall clock jumps an hour on and two back, again and again: nobody notices."""
    what = "the clock jumps: an hour on, two back"
    compiler = shutil.which("cc")
    if compiler is None:
        return [Finding(what, "answers", "not run: there is no C compiler", None)]
    world.say("the clock jumps")
    file, library = world.root / "seconds", world.root / "clock.so"
    _set(file, 0)
    build = (compiler, "-shared", "-fPIC", "-o", library, CLOCK)
    await asyncio.to_thread(subprocess.run, build, check=True)
    command = ("env", f"LD_PRELOAD={library}", f"CLOCK_FILE={file}", *COMMAND)
    async with (
        world.model_server() as server,
        world.gateway(server.address, command=command) as gateway,
        calling(lambda: gateway, world.random) as load,
    ):
        await load.more(CALLS)
        began = perf_counter()
        for number in range(10):
            _set(file, -HOUR if number % 2 else HOUR)
            await load.more(CALLS // 5)
        found = await _judged(load, began, gateway, what, {OK})
    return [found]


def _set(file: Path, seconds: int) -> None:
    """Set the clock of the processes that have the file mapped."""
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(seconds.to_bytes(8, sys.byteorder, signed=True))
