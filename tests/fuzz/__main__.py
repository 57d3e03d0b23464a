"""`make fuzz`: hostile inputs, in this process and by sockets, until a number of them has been tried.

No input may bring about a 5xx, a hang, an error that is not ours, or a wrong answer to a neighbour. What does
is printed with its number, SEED/NAME/PLACE.

Example: make fuzz FUZZ="--in-process 100000 --sockets 10000 --seed 7"
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.fuzz.attack import attack
from tests.fuzz.findings import Findings

TOGETHER = 32
"""Inputs by sockets that are under way at once."""
app = typer.Typer(add_completion=False)


@app.command(help=__doc__)
def main(
    in_process: Annotated[int, typer.Option(help="inputs without a socket")] = 1_000_000,
    by_sockets: Annotated[int, typer.Option("--sockets", help="inputs by sockets")] = 100_000,
    seed: Annotated[int, typer.Option(help="of all that is drawn")] = 0,
    schemathesis: Annotated[
        Path | None, typer.Option(help="its program, which then tries /openapi.json first")
    ] = None,
    cases: Annotated[int, typer.Option(help="schemathesis' most for each operation and kind of data")] = 300,
) -> None:
    """Try them all; end with 1 where anything was found."""
    os.environ["GRPC_VERBOSITY"] = "NONE"  # the client's complaints of what it was told to send
    from tests.fuzz import inprocess, schema, sockets

    failed = schemathesis is not None and asyncio.run(schema.run(schemathesis, cases, seed)) != 0

    console, findings = Console(stderr=True), Findings()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as bars,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        tasks = {}

        def told(name: str, tried: int, wanted: int) -> None:
            if (where, name) not in tasks:
                tasks[where, name] = bars.add_task(f"{where} {name}", total=wanted)
            bars.update(tasks[where, name], completed=tried)

        where = "in process"
        tried = runner.run(attack(inprocess.trials, in_process, seed, findings, told=told))
        where = "by sockets"
        tried += runner.run(attack(sockets.trials, by_sockets, seed, findings, TOGETHER, told))
    for line in findings.lines():
        console.print(line, markup=False)
    print(f"{tried} inputs, seed {seed}: {len(findings.by_kind)} kinds of fault")
    sys.exit(1 if findings.by_kind or failed else 0)


if __name__ == "__main__":
    app()
