"""`seqserve serve`: settings from options and environment; when the service is ready, calls to paste."""

import json
import logging
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from seqserve.service.cli.show import console, failed
from seqserve.service.settings import THEMES, Settings, SettingsUnusable, read_settings
from seqserve.service.settings.environment import variable

if TYPE_CHECKING:  # `seqserve --help` imports this module, and is to be quick
    from seqserve.service.core.types import Served

log = logging.getLogger(__name__)
app = typer.Typer(rich_markup_mode="rich")
MODELS, LISTENS = "Models", "Where it listens"


def _settings_help() -> str:
    """Return every setting's variable, default and meaning, by theme."""
    lines = ["Settings, read from the environment:"]
    for name, field in Settings.model_fields.items():
        if name in THEMES:
            lines.append(f"[bold]{THEMES[name]}[/bold]")
        lines.append(escape(f"{variable(name)}={field.default}  {field.description}"))
    return "\n\n".join(lines)


@app.command(epilog=_settings_help())
def serve(
    root: Annotated[
        Path | None, typer.Option(help="folder of MODEL/VERSION directories", rich_help_panel=MODELS)
    ] = None,
    tfserving: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT,… of TensorFlow Serving, which then runs the models", rich_help_panel=MODELS
        ),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="NAME,… of the models at TensorFlow Serving", rich_help_panel=MODELS)
    ] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on", rich_help_panel=LISTENS)] = None,
    rest_port: Annotated[
        int | None, typer.Option(help="REST port; 0 takes a free one", rich_help_panel=LISTENS)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="gRPC port; 0 takes a free one", rich_help_panel=LISTENS)
    ] = None,
) -> None:
    """Serve models over REST and gRPC until SIGTERM or Ctrl-C.

    This process runs the models in a folder, or TensorFlow Serving runs its own. New versions are examined
    and take over; versions that disappear are unloaded. An option here wins over its environment variable.

    Example: seqserve serve --root build/models

    Example: seqserve serve --tfserving localhost:8500 --models en-de,shop

    Example: SEQSERVE_KEYS=keys SEQSERVE_TLS_CERT=crt.pem SEQSERVE_TLS_KEY=key.pem seqserve serve --host ::
    """
    from seqserve.service.logs import configure_logging

    options: dict[str, Any] = {"root": root, "host": host, "rest_port": rest_port, "grpc_port": grpc_port}
    options |= {"tfserving": tfserving, "models": models}
    try:
        settings, warnings = read_settings({name: v for name, v in options.items() if v is not None})
        _check_installed(settings)
        configure_logging(settings.log_level)
        from seqserve.service.main import run  # grpc is imported here, and reads the environment

        for warning in warnings:
            log.warning(warning)
        run(settings, lambda started: _welcome(started, settings))
    except SettingsUnusable as error:
        raise failed(f"settings: {error}") from None
    except OSError as error:  # only binding lets one through
        asked = f"{variable('host')}={settings.host}, {variable('rest_port')}, {variable('grpc_port')}"
        raise failed(f"cannot listen on {settings.host} (choose by {asked}): {error}") from None


def _check_installed(settings: Settings) -> None:
    """Refuse what this installation cannot do."""
    if not settings.tfserving_addresses and find_spec("tensorflow") is None:
        raise failed(
            "without --tfserving the models run in this process, which needs TensorFlow: "
            "pip install 'seqserve[embedded]'"
        )


def _welcome(started: Any, settings: Settings) -> None:
    """Greet, unless nobody can read it: a full disk, or a reader that has gone, is no reason not to serve."""
    try:
        _greet(started, settings)
    except OSError as error:
        log.warning("standard output takes no greeting: %s", error)
        sys.stdout = None  # else the interpreter tries again at its end, and fails


def _greet(started: Any, settings: Settings) -> None:
    """Print where the service listens and, from the models' own examples, calls to paste."""
    base = f"{'https' if settings.tls_cert else 'http'}://{settings.host}:{started.rest_port}"
    docs = f"http://{settings.host}:{started.ops_port}/docs" if started.ops_port else f"{base}/docs"
    typer.echo(f"\nREST on {base} (docs: {docs}), gRPC on {settings.host}:{started.grpc_port}")
    if settings.keys or settings.jwt_jwks:
        typer.echo('Calls need a key: export SEQSERVE_API_KEY=…; curl -H "X-API-Key: $SEQSERVE_API_KEY"')
    reports = started.gateway.models()
    if not reports:
        where = settings.model_config_file or settings.tfserving or settings.root
        console.print(f"No model at {where} yet: seqserve demo, or seqserve train --help", style="yellow")
    for report in reports:
        if report.current is None:
            console.print(f"{report.name}: no version can be called", style="yellow")
        elif report.current.manifest.examples:
            scheme = "https://" if settings.tls_cert else ""
            _print_calls(report.current, base, f"{scheme}{settings.host}:{started.grpc_port}")
    console.print()


def _print_calls(served: "Served", base: str, address: str) -> None:
    name, verb = served.model, served.task.verb
    request = served.manifest.examples[len(served.manifest.examples) // 2].request
    body = shlex.quote(json.dumps(request, ensure_ascii=False))
    first = request[served.task.body_member][0]
    item = first if isinstance(first, str) else json.dumps(first)
    header = shlex.quote("Content-Type: application/json")
    program = shlex.quote(sys.argv[0])
    typer.echo(f"\ncurl -s {base}/v1/models/{name}:{verb} -H {header} -d {body}")
    typer.echo(f"{program} {verb} --grpc --address {address} --model {name} {shlex.quote(item)}")
