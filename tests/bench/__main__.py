"""`make bench`: what the gateway costs, and how near it comes to what the model allows.

One run, one table; every ratio is to something measured in the same run, in turns within seconds of each
other: its median, with the lowest and the highest turn's. Where the machine's speed changed by more than a
tenth meanwhile, turns go on, up to half as many again, and are marked "drift" if it went on changing.
Callers have one core, all that serves has another. Rows:

a  what a call costs more than the backend's, through each door\n
b  texts a second by callers, beside the model's own pace (ideal) and a perfect scheduler's (ceiling)\n
c  waiting at 80 % load, beside a queue that takes rows as they come (FIFO)\n
d  padding, beside FIFO's (measured with c)\n
e  the same model behind what people would write or pick\n
f  the events model, as b and e\n
g  five times the load that can be done\n
h  memory and start\n
i  before a model server\n
j  processor time of a request and of a refusal, beside an empty endpoint's and an empty method's\n
k  single texts beside a request of 1,000, and beside another principal's flood\n
l  another build of this project (--against)\n
m  what another principal keeps beside 2,000 connections of one, with keys and limits\n
n  appends to live sessions, in memory and in Redis, beside the same events by `:predict`

Examples: make bench QUICK=1; make bench BENCH="--only a,b --report docs";
make bench BENCH="--model ROOT/NAME/1 --texts FILE";
make bench BENCH="--only l --against ../older/.venv/bin/seqserve".
An older build may not read the made model's manifest: have it export one that both can read, as by its own
`make demo`, and give that with --model and --texts.
"""

import asyncio
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from tests.bench import against, fair, live, load, place, processor, report, speed
from tests.bench.bench import QUICK, Asked, Bench, Plan
from tests.bench.processes import COMMAND, FIRST_COME, NotStarted, cores, worker
from tests.bench.subject import CACHE, Subject, made, real

ROWS: dict[str, tuple[Callable[[Bench], None], ...]] = {
    "a": (speed.tax,),
    "b": (speed.speed,),
    "c": (load.waits,),
    "d": (load.waits,),
    "e": (against.peers,),
    "f": (speed.events, against.events_peers),
    "g": (load.overload,),
    "h": (place.footprint,),
    "i": (place.model_server,),
    "j": (processor.processor,),
    "k": (fair.fair,),
    "l": (against.other_build,),
    "m": (fair.principals,),
    "n": (live.live,),
}
SLOW = "himn"
"""Rows that take long, or much to start."""
WIDE, FAILED = 180, "failed"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "GRPC_VERBOSITY": "NONE"}
FIGURES = CACHE.with_suffix(".json")
app = typer.Typer(add_completion=False, rich_markup_mode="rich")
console = Console(width=None if sys.stdout.isatty() else WIDE)


@app.command(help=__doc__)
def main(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="three minutes, less exact; of the peers plain FastAPI only"),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(help="rows, with commas between; if absent all, or all but h, i, m and n if quick"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="a translation version, ROOT/NAME/NUMBER, in the made one's place; needs --texts"),
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="what to send it: a file of lines, .gz or not")] = None,
    plain: Annotated[
        Path | None, typer.Option(help="the same model exported without compaction, for row e")
    ] = None,
    tfserving: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="a TensorFlow Serving that has the version, for row i"),
    ] = None,
    other: Annotated[
        str,
        typer.Option(
            "--against", metavar="COMMAND", help="another build's seqserve, for row l; words as in a shell"
        ),
    ] = "",
    out: Annotated[Path, typer.Option(help="the figures as JSON")] = FIGURES,
    report_to: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="write performance-table.md and performance.png there"),
    ] = None,
) -> None:
    usual = [row for row in ROWS if not (quick and row in SLOW)]
    rows = usual if only is None else only.split(",")
    unknown = [row for row in rows if row not in ROWS]
    if unknown or (model is None) != (texts is None):
        raise typer.BadParameter(
            f"no row {', '.join(unknown)}" if unknown else "--model and --texts go together"
        )
    os.environ.update(QUIET)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else what was started would outlive this
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = time.perf_counter()
    figures = report.machine()
    try:
        chosen = real(model, texts, plain) if model is not None and texts is not None else None
        _run(figures, QUICK if quick else Plan(), rows, chosen, tfserving, tuple(shlex.split(other)))
    except NotStarted as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        figures.append(
            report.Figure("machine", "the run", f"{FAILED}: stopped; what it has measured is here")
        )
    figures.append(report.Figure("machine", "the run took", time.perf_counter() - began, "s"))
    _told(figures, out, report_to)


def _told(figures: list[report.Figure], out: Path, report_to: Path | None) -> None:
    """Write and show what has been measured; end with 1 where something could not be."""
    report.write_json(figures, out)
    report.show(figures, console)
    if report_to is not None:
        report.write_report(figures, report_to)
    console.print(f"{out}: {len(figures)} figures")
    if any(str(figure.value).startswith(FAILED) for figure in figures):
        raise typer.Exit(1)


def _run(
    figures: list[report.Figure],
    plan: Plan,
    rows: list[str],
    chosen: Subject | None,
    tfserving: str | None,
    other: tuple[str, ...],
) -> None:
    mine = cores()
    with ExitStack() as stack:
        status = stack.enter_context(console.status("the models, made once (a minute or two)"))
        translation, events = made()
        texts, events = (replace(s, items=s.items[: plan.items]) for s in (chosen or translation, events))
        model = stack.enter_context(worker(mine.server))
        os.sched_setaffinity(0, {mine.callers})
        loop = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        bench = Bench(plan, mine, texts, events, model, loop, status, stack, tfserving, other, figures)
        asked = [(function, row) for row in rows for function in ROWS[row]]
        fifo: Asked = texts, FIRST_COME, {}
        wanted: dict[str, Asked] = {"f": (events, COMMAND, {}), "c": fifo, "d": fifo}
        status.update("starting")
        bench.start((texts, COMMAND, {}), *(wanted[row] for row in rows if row in wanted))
        for function in dict.fromkeys(function for function, _ in asked):  # c and d are measured together
            _row(bench, function, dict(reversed(asked))[function])


def _row(bench: Bench, function: Callable[[Bench], None], row: str) -> None:
    """Measure a row; one that cannot be measured says so, and the others go on."""
    try:
        function(bench)
    except (NotStarted, OSError, RuntimeError) as error:
        bench.add(row, function.__name__, f"{FAILED}: {error}"[:300])


if __name__ == "__main__":
    app()
