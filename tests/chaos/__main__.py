"""`make chaos`: what may befall a gateway, done to it under load of both doors, and what came of it.

Gateways are stopped and killed at random moments and replaced behind a balancer; their model server is
killed, paused, slowed, spoilt; sessions live through kills and a swap; their root, disk, descriptors and
clock fail them. With --soak the same mixed load goes on for a time, with faults, and memory, descriptors,
threads and waits are watched. Ends with 1 where something was not as wanted.

Examples: make chaos; make chaos SHORT=1; make chaos SOAK=600; make chaos CHAOS="--only clock --seed 7"
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.processes import NotStarted, cores
from tests.chaos import faults, stops
from tests.chaos.sessions import live_sessions
from tests.chaos.soak import soak
from tests.chaos.world import MODEL, Finding, World

WIDE = 200
SECONDS = 900.0
"""For one part; a longer one has failed."""
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "GRPC_VERBOSITY": "NONE"}
Part = Callable[[World], Awaitable[list[Finding]]]
app = typer.Typer(add_completion=False, rich_markup_mode="rich")
console = Console(width=None if sys.stdout.isatty() else WIDE)


def parts(rounds: int) -> dict[str, Part]:
    """Return what can be done, by name."""
    return {
        "sigterm": lambda world: stops.sigterms(world, rounds),
        "sigkill": stops.sigkills,
        "rolling": stops.rolling_update,
        "sessions": lambda world: _live_sessions(world, rounds),
        "server": faults.model_server,
        "root": faults.root_removed,
        "places": faults.hostile_places,
        "clock": faults.clock,
    }


@app.command(help=__doc__)
def main(
    short: Annotated[bool, typer.Option("--short", help="10 SIGTERMs instead of 100")] = False,
    soak_seconds: Annotated[float, typer.Option("--soak", help="seconds of mixed load instead")] = 0,
    only: Annotated[str, typer.Option(help="parts, with commas between")] = ",".join(parts(0)),
    seed: Annotated[int | None, typer.Option(help="of an earlier run, to do the same again")] = None,
) -> None:
    chosen = parts(10 if short else 100)
    if soak_seconds:
        chosen = {"soak": lambda world: soak(world, soak_seconds)}
    unknown = set(only.split(",")) - set(parts(0))
    if unknown:
        raise typer.BadParameter(f"no part {', '.join(unknown)}")
    seed = seed if seed is not None else int.from_bytes(os.urandom(4))
    console.print(f"seed {seed}")
    os.environ.update(QUIET)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else what was started would outlive this
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        world = World(_root(Path(folder)), cores(), Random(seed), console)
        asked = {name: part for name, part in chosen.items() if soak_seconds or name in only.split(",")}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            findings = [found for name, part in asked.items() for found in _done(runner, world, name, part)]
    _show(findings)
    console.print(f"seed {seed}; {time.perf_counter() - began:.0f} s")
    raise typer.Exit(any(found.is_good is False for found in findings))


def _done(runner: asyncio.Runner, world: World, name: str, part: Part) -> list[Finding]:
    """Do one part; one that cannot be done, or takes too long, says so, and the others go on."""

    async def bounded() -> list[Finding]:
        async with asyncio.timeout(SECONDS + 2 * SECONDS * (name == "soak")):
            return await part(world)

    try:
        return runner.run(bounded())
    except (NotStarted, OSError, TimeoutError, ExceptionGroup) as error:
        return [Finding(name, "to be done", f"{type(error).__name__}: {error}"[:300], False)]


def _root(folder: Path) -> Path:
    """Return a root with the small `shop` of the tests, trained unless it is kept."""
    from tests.conftest import EVENTS, write_log
    from tests.trained import provide, wanted

    (folder / "root").mkdir()
    console.print("the model, trained once", style="dim")
    return provide(folder / "root", wanted(EVENTS, write_log(folder / "shop.csv", {})))


async def _live_sessions(world: World, rounds: int) -> list[Finding]:
    """Let sessions live, and another version come: of the same model, trained on other labels."""
    from tests.conftest import EVENTS, write_log
    from tests.trained import provide, wanted

    other = world.root.parent / "other"
    other.mkdir()
    log = write_log(other / "shop.csv", {"pay": "a_payment"})
    successor = await asyncio.to_thread(provide, other, wanted(EVENTS, log))
    return await live_sessions(world, successor / MODEL / "1", 10 * rounds, max(2, rounds // 10))


def _show(findings: list[Finding]) -> None:
    table = Table("what", "wanted", "seen", "")
    marks = {True: "[green]ok[/]", False: "[red]FAILED[/]", None: ""}
    for found in findings:
        table.add_row(found.what, found.wanted, found.seen, marks[found.is_good])
    console.print(table)


if __name__ == "__main__":
    app()
