"""`seqserve …`: serve models, and call a running service from the shell."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqserve.service.contract.digest import digest_of
from seqserve.service.contract.manifest import FILE_NAME, Manifest, parse_manifest
from seqserve.service.errors import SeqserveError
from seqserve.service.keeper import command as keeper
from seqserve.service.settings import Settings, SettingsUnusable

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.add_typer(keeper.app)
console = Console()
problems = Console(stderr=True)
REST_ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:9000"

GrpcOption = Annotated[bool, typer.Option("--grpc", help="use the gRPC door instead of REST")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help=f"HOST:PORT; {REST_ADDRESS}, or {GRPC_ADDRESS} with --grpc, if absent"),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="the model's name; may be left out where one fits")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print whole answers, one JSON object a line")]


def _settings_help() -> str:
    """Return every setting's variable, default and meaning."""
    lines = [
        f"{(Settings.model_config['env_prefix'] + name).upper()}={field.default}  {field.description}"
        for name, field in Settings.model_fields.items()
    ]
    return "Settings, read from the environment:\n\n" + "\n\n".join(lines)


@app.command(epilog=_settings_help())
def serve(
    root: Annotated[Path | None, typer.Option(help="folder of MODEL/VERSION directories")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    rest_port: Annotated[int | None, typer.Option(help="REST port; 0 takes a free one")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port; 0 takes a free one")] = None,
    tfserving: Annotated[
        str | None, typer.Option(help="HOST:PORT,… of TensorFlow Serving, which then runs the models")
    ] = None,
    models: Annotated[str | None, typer.Option(help="NAME,… of the models at TensorFlow Serving")] = None,
) -> None:
    """Serve every model over REST and gRPC until SIGTERM or Ctrl-C: those under a root, in this process, or
    those of TensorFlow Serving.

    Versions that appear are examined and take over; those that vanish are unloaded.
    An option here wins over its environment variable.
    """
    from seqserve.service.logs import configure_logging
    from seqserve.service.main import run

    options: dict[str, Any] = {"root": root, "host": host, "rest_port": rest_port, "grpc_port": grpc_port}
    options |= {"tfserving": tfserving, "models": models}
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise _failed(f"settings: {faults}") from None
    configure_logging(settings.log_level)
    try:
        run(settings, lambda started: _greet(started, settings))
    except SettingsUnusable as error:
        raise _failed(f"settings: {error}") from None
    except OSError as error:  # only binding lets one through
        raise _failed(f"cannot listen on {settings.host}: {error}") from None


def _greet(started: Any, settings: Settings) -> None:
    """Print where the service listens and, from the models' own examples, calls to paste."""
    base = f"http://{settings.host}:{started.rest_port}"
    typer.echo(f"\nREST on {base} (docs: {base}/docs), gRPC on {settings.host}:{started.grpc_port}")
    reports = started.gateway.models()
    if not reports:
        where = settings.model_config_file or settings.tfserving or settings.root
        console.print(f"No model at {where} yet: python -m models train --help", style="yellow")
    for report in reports:
        if report.current is None:
            console.print(f"{report.name}: no version can be called", style="yellow")
        elif report.current.manifest.examples:
            _print_calls(report.name, report.current.manifest, base, f"{settings.host}:{started.grpc_port}")
    console.print()


def _print_calls(name: str, manifest: Manifest, base: str, address: str) -> None:
    verb = "translate" if manifest.task == "translation" else "predict"
    request = manifest.examples[len(manifest.examples) // 2].request
    body = shlex.quote(json.dumps(request, ensure_ascii=False))
    item = request["texts"][0] if verb == "translate" else json.dumps(request["sequences"][0])
    header = shlex.quote("Content-Type: application/json")
    program = shlex.quote(sys.argv[0])
    typer.echo(f"\ncurl -s {base}/v1/models/{name}:{verb} -H {header} -d {body}")
    typer.echo(f"{program} {verb} --grpc --address {address} --model {name} {shlex.quote(item)}")


@app.command()
def models(grpc: GrpcOption = False, address: AddressOption = None) -> None:
    """List the models of a running service, their versions, and why one is refused."""
    table = Table("model", "task", "version", "standing", "digest or reason")
    for model in _call(grpc, address, "models"):
        for version in model["versions"]:
            why = version.get("reason") and f"{version['reason']}: {version['message']}"
            marks = " (current)" if str(version["version"]) == str(model.get("current")) else ""
            table.add_row(
                escape(model["name"]),
                model.get("task") or "",
                f"{version['version']}{marks}",
                str(version["standing"]).removeprefix("STANDING_"),
                escape(why or version.get("digest", "")[:19]),
            )
    console.print(table)


@app.command()
def translate(
    texts: Annotated[
        list[str] | None, typer.Argument(help="what to translate; lines of stdin if absent")
    ] = None,
    model: ModelOption = None,
    grpc: GrpcOption = False,
    address: AddressOption = None,
    beam_size: Annotated[int, typer.Option(help="hypotheses kept while decoding; 1 is greedy")] = 1,
    n_best: Annotated[int, typer.Option(help="hypotheses returned, at most --beam-size")] = 1,
    alignment: Annotated[bool, typer.Option(help="which source word each target word attends to")] = False,
    as_json: JsonOption = False,
) -> None:
    """Translate texts, one line out for each.

    Example: seqserve translate --grpc "Tuesday, November 24, 2026"
    """
    body = {
        "texts": texts or [line.rstrip("\n") for line in sys.stdin],
        "beam_size": beam_size,
        "n_best": n_best,
        "alignment": alignment,
    }
    chosen = model or _only_model(grpc, address, "translation")
    answers = _call(grpc, address, "translate", chosen, body)
    _print_items(answers, lambda a: json.dumps(a, ensure_ascii=False) if as_json else a["text"])


@app.command()
def predict(
    sequences: Annotated[
        list[str] | None, typer.Argument(help="each a JSON object of features; lines of stdin if absent")
    ] = None,
    model: ModelOption = None,
    grpc: GrpcOption = False,
    address: AddressOption = None,
    top_k: Annotated[int, typer.Option(help="how many labels to list, best first")] = 3,
) -> None:
    """Predict from event sequences, one JSON object out for each.

    Example: seqserve predict '{"event": ["visit", "search"], "minutes": [0, 1.5]}'
    """
    try:
        given = [json.loads(text) for text in sequences or sys.stdin]
    except ValueError as error:
        raise _failed(f"a sequence is not a JSON object: {error}") from None
    if not all(isinstance(sequence, dict) for sequence in given):
        raise _failed("a sequence is a JSON object of features")
    chosen = model or _only_model(grpc, address, "sequence")
    answers = _call(grpc, address, "predict", chosen, {"sequences": given, "top_k": top_k})
    _print_items(answers, lambda answer: json.dumps(answer, ensure_ascii=False))


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="a version directory, ROOT/NAME/NUMBER")],
) -> None:
    """Show what a model version says about itself, without loading it."""
    path = folder / "assets" / FILE_NAME
    try:
        data = path.read_bytes()
        manifest = parse_manifest(data)
    except OSError as error:
        raise _failed(f"MANIFEST_MISSING: {error}") from None
    except SeqserveError as error:
        raise _failed(f"{error.reason}: {error.message}") from None
    table = Table(show_header=False)
    for name, value in _facts(folder, manifest, digest_of(data)).items():
        table.add_row(escape(name), escape(str(value)))
    console.print(table)


def _facts(folder: Path, manifest: Manifest, digest: str) -> dict[str, Any]:
    lies, exported = "/".join(folder.absolute().parts[-2:]), f"{manifest.name}/{manifest.version}"
    card = manifest.card or {}
    return {
        "model": lies if lies == exported else f"{lies} (exported as {exported})",
        "task": manifest.task,
        "digest": digest,
        "signatures": ", ".join(manifest.serving_signatures),
        **{f"feature {name}": feature.kind for name, feature in manifest.features.items()},
        **{f"head {name}": f"{head.kind} per {head.per}" for name, head in manifest.heads.items()},
        "limits": manifest.limits.model_dump(exclude_none=True),
        "buckets": ", ".join(map(str, manifest.buckets)),
        "batching": manifest.batching,
        "golden examples": len(manifest.examples),
        "files": len(manifest.files),
        **{f"quality: {name}": value for name, value in card.get("metrics", {}).items()},
    }


def _call(grpc: bool, address: str | None, method: str, *arguments: Any) -> Any:
    from seqserve.service.client import CallFailed, Client, GrpcClient, RestClient

    client: Client = GrpcClient(address or GRPC_ADDRESS) if grpc else RestClient(address or REST_ADDRESS)
    try:
        return getattr(client, method)(*arguments)
    except CallFailed as error:
        raise _failed(str(error)) from None


def _only_model(grpc: bool, address: str | None, task: str) -> str:
    names = [model["name"] for model in _call(grpc, address, "models") if model.get("task") == task]
    if len(names) != 1:
        raise _failed(f"--model is needed: models for {task} are {', '.join(names) or 'none'}")
    return str(names[0])


def _print_items(answers: list[dict[str, Any]], show: Callable[[dict[str, Any]], str]) -> None:
    """Print a line for each item, an empty one for an item that failed; end with 1 if any did."""
    faults = [answer["error"] for answer in answers if "error" in answer]
    for answer in answers:
        typer.echo("" if "error" in answer else show(answer))
    if faults:
        raise _failed("\n".join(json.dumps(fault, ensure_ascii=False) for fault in faults))


def _failed(message: str) -> typer.Exit:
    problems.print("[bold red]error[/]", escape(message), highlight=False, soft_wrap=True)
    return typer.Exit(1)
