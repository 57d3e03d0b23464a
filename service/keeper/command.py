"""`seqserve models-config …`: check TensorFlow Serving's model config file, once or again and again."""

import logging
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
models_config = typer.Typer(
    help="Check TensorFlow Serving's model config file, and keep a checked copy of it.\n\n"
    "Example: seqserve models-config check deploy/tfserving/models.config --root build/models",
    no_args_is_help=True,
)
app.add_typer(models_config, name="models-config")
log = logging.getLogger(__name__)

FileArgument = Annotated[Path, typer.Argument(help="the model config file", metavar="FILE")]
RootOption = Annotated[
    Path | None,
    typer.Option(help="folder that holds the models' folders here; absent: they lie at their base_path"),
]


@models_config.command("check")
def check_file(file: FileArgument, root: RootOption = None) -> None:
    """Say what would keep TensorFlow Serving from starting, or from taking an edit; a line for each fault.

    Example: seqserve models-config check deploy/tfserving/models.config --root build/models
    """
    from seqserve.service.keeper.checked import check
    from seqserve.service.keeper.readable import Reader

    try:
        checked = check(file.read_text(), Reader(), root)
    except (OSError, ValueError) as error:
        typer.echo(f"CONFIG_INVALID: {file}: {error}", err=True)
        raise typer.Exit(1) from None
    for name, numbers in checked.versions.items():
        typer.echo(f"{name}: {', '.join(map(str, sorted(numbers))) or 'not looked at, or none'}")
    for fault in checked.faults:
        typer.echo(str(fault), err=True)
    raise typer.Exit(1 if checked.faults else 0)


@models_config.command()
def keep(
    file: FileArgument,
    out: Annotated[Path, typer.Option(help="folder for the checked copy, models.config")],
    root: RootOption = None,
    host: Annotated[str, typer.Option(help="address of the metrics; 0.0.0.0 for all")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(help="port of the metrics; 0 takes a free one")] = 8002,
    poll_seconds: Annotated[float, typer.Option(help="seconds between looks", min=0.01)] = 1.0,
    hold_seconds: Annotated[
        float,
        typer.Option(
            help="seconds for which a version is left out once it has become whole, and for which a label "
            "waits for a version that only this file brings; more than TensorFlow Serving's "
            "--model_config_file_poll_wait_seconds"
        ),
    ] = 30.0,
) -> None:
    """Write a checked copy of the file, and follow the file and the models until SIGTERM or Ctrl-C.

    What TensorFlow Serving could not load or would wait for is left out of the copy until it can be had, and
    reported once: in the log and as the metric seqserve_keeper_fault.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    from seqserve.service.keeper.keeper import Keeper, Report
    from seqserve.service.keeper.moves import Moves
    from seqserve.service.keeper.readable import Reader
    from seqserve.service.logs import configure_logging
    from seqserve.service.metrics import KeeperMetrics

    configure_logging("INFO")
    registry, stop = CollectorRegistry(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    report = Report(KeeperMetrics(registry))
    keeper = Keeper(file, out, root, report, Reader(hold_seconds), Moves(hold_seconds))
    server, thread = start_http_server(metrics_port, host, registry)
    log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    keeper.look()
    while not stop.wait(poll_seconds):
        keeper.look()
    server.shutdown()
    server.server_close()
    thread.join()
