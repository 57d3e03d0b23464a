"""`seqserve translate`, `predict` and `models`: calls of a running service, through either door.

Keys and certificates come from the environment (`service.caller`), never from arguments.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from seqserve.service.cli.show import console, failed

if TYPE_CHECKING:  # `seqserve --help` imports this module, and is to be quick
    from seqserve.client import Client, ServiceError, Tls
    from seqserve.client.asking import Translating

app = typer.Typer(rich_markup_mode="rich")
HTTPS = "https://"
REST_ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:9000"

GrpcOption = Annotated[bool, typer.Option("--grpc", help="use the gRPC door instead of REST")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="HOST:PORT, after https:// where it has TLS; "
        f"{REST_ADDRESS}, or {GRPC_ADDRESS} with --grpc, if absent",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="the model's name; may be left out where one fits")
]
LinesOption = Annotated[
    bool,
    typer.Option(
        "--line-buffered",
        help="answer each line of stdin before the next is read; so it is at a terminal. "
        "If absent, some dozens are sent together, while others are read",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print whole answers, one JSON object a line")]


ACCESS = (
    "Where the service asks who calls: SEQSERVE_API_KEY=KEY, or SEQSERVE_API_KEY_FILE=FILE. SEQSERVE_CA=PEM "
    "turns TLS on and trusts that authority; SEQSERVE_CLIENT_CERT and SEQSERVE_CLIENT_KEY are for mutual TLS."
)


@app.command(epilog=ACCESS)
def models(grpc: GrpcOption = False, address: AddressOption = None) -> None:
    """List the models of a running service, their versions, and why a version is refused.

    Example: seqserve models --address localhost:8000
    """
    table = Table("model", "task", "version", "standing", "digest or reason")
    with _client(grpc, address) as client:
        listed = client.models()
    for model in listed:
        for version in model.versions:
            why = version.reason and f"{version.reason}: {version.message}"
            marks = " (current)" if version.version == model.current else ""
            table.add_row(
                escape(model.name),
                model.task or "",
                f"{version.version}{marks}",
                version.standing,
                escape(why or (version.digest or "")[:19]),
            )
    console.print(table)


@app.command(epilog=ACCESS)
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
    line_buffered: LinesOption = False,
) -> None:
    """Translate texts, one line out for each; those of stdin, however many, while they are read.

    Example: seqserve translate --grpc "Tuesday, November 24, 2026"
    """
    part, parallel = _pace(line_buffered)
    with _client(grpc, address, parallel) as client:
        chosen = model or _only_model(client, "translation")
        options: Translating = {"beam_size": beam_size, "n_best": n_best, "alignment": alignment}
        if texts:
            items: Iterable[Any] = client.translate(chosen, texts, **options).items
        else:
            lines = (line.rstrip("\n") for line in sys.stdin)
            items = client.translate_stream(chosen, lines, part=part, **options)
        _print_items(items, lambda item: _as_json(item) if as_json else item.text)


@app.command(epilog=ACCESS)
def predict(
    sequences: Annotated[
        list[str] | None, typer.Argument(help="each a JSON object of features; lines of stdin if absent")
    ] = None,
    model: ModelOption = None,
    grpc: GrpcOption = False,
    address: AddressOption = None,
    top_k: Annotated[int, typer.Option(help="how many labels to list, best first")] = 3,
    line_buffered: LinesOption = False,
) -> None:
    """Predict from event sequences, one JSON object out for each; those of stdin while they are read.

    Example: seqserve predict '{"event": ["visit", "search"], "minutes": [0, 1.5]}'
    """
    given = map(_sequence, sequences or sys.stdin)
    part, parallel = _pace(line_buffered)
    with _client(grpc, address, parallel) as client:
        chosen = model or _only_model(client, "sequence")
        if sequences:
            items: Iterable[Any] = client.predict(chosen, list(given), top_k=top_k).items
        else:
            items = client.predict_stream(chosen, given, part=part, top_k=top_k)
        _print_items(items, _as_json)


def _pace(line_buffered: bool) -> tuple[int, int]:
    """Return how many lines of stdin are of a request, and how many requests are open at once."""
    from seqserve.client.core import PARALLEL, PART

    return (1, 1) if line_buffered or sys.stdin.isatty() else (PART, PARALLEL)


def _sequence(text: str) -> dict[str, Any]:
    try:
        sequence = json.loads(text)
    except ValueError as error:
        raise failed(f"a sequence is not a JSON object: {error}") from None
    if not isinstance(sequence, dict):
        raise failed("a sequence is a JSON object of features")
    return sequence


@contextmanager
def _client(grpc: bool, address: str | None, parallel: int = 1) -> "Iterator[Client]":
    """Call by one of the doors; what fails ends the program with a line."""
    from seqserve.client import Client, ServiceError

    place = address or (GRPC_ADDRESS if grpc else REST_ADDRESS)
    key, tls = _access(place.startswith(HTTPS))
    scheme = ("grpc" if grpc else "http") + ("s" if tls is not None else "")
    try:
        client = Client(f"{scheme}://{place.removeprefix(HTTPS)}", key=key, tls=tls, parallel=parallel)
    except OSError as error:
        raise failed(f"SEQSERVE_CA, SEQSERVE_CLIENT_CERT or SEQSERVE_CLIENT_KEY: {error}") from None
    except ValueError as error:
        raise failed(f"--address or SEQSERVE_API_KEY: {error}") from None
    with client:
        try:
            yield client
        except ServiceError as error:
            raise failed(str(error)) from None


def _access(tls: bool) -> "tuple[str, Tls | None]":
    """Return what the environment says of keys and certificates."""
    from seqserve.client import Tls
    from seqserve.service.caller import CallerSettings

    given = CallerSettings.read()
    key = given.api_key
    try:
        if not key and given.api_key_file is not None:
            key = given.api_key_file.read_text().strip()
    except (OSError, ValueError) as error:
        raise failed(f"SEQSERVE_API_KEY_FILE: {error}") from None
    if not (tls or given.ca is not None):
        return key, None
    try:
        return key, Tls(given.ca, given.client_cert, given.client_key)
    except ValueError as error:
        raise failed(f"SEQSERVE_CLIENT_CERT, SEQSERVE_CLIENT_KEY: {error}") from None


def _only_model(client: "Client", task: str) -> str:
    names = [model.name for model in client.models() if model.task == task]
    if len(names) != 1:
        raise failed(f"--model is needed: models for {task} are {', '.join(names) or 'none'}")
    return names[0]


def _print_items(items: "Iterable[Any | ServiceError]", show: Callable[[Any], str]) -> None:
    """Print a line for each item, an empty one for an item that failed; end with 1 if any did."""
    from seqserve.client import ServiceError

    faults = []
    for item in items:
        if isinstance(item, ServiceError):
            told = {"code": item.code, "reason": item.reason, "message": item.message}
            faults.append({**told, "pointer": item.errors[0].pointer} if item.errors else told)
        typer.echo("" if isinstance(item, ServiceError) else show(item))
    if faults:
        raise failed("\n".join(json.dumps(fault, ensure_ascii=False) for fault in faults))


def _as_json(item: Any) -> str:
    """Return an answer in the form of the REST door, which leaves out what was not asked for."""

    def present(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        kept = ("warnings", "labels", "intervals")
        return {name: value for name, value in pairs if name in kept or value not in (None, ())}

    return json.dumps(asdict(item, dict_factory=present), ensure_ascii=False)
