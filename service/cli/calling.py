"""`seqserve translate`, `predict` and `models`: calls of a running service, through either door.

Keys and certificates come from the environment (`service.caller`), never from arguments.
"""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from seqserve.service.cli.show import console, failed

if TYPE_CHECKING:  # `seqserve --help` imports this module, and is to be quick
    from seqserve.client import Access

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


@app.command(epilog=ACCESS)
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
        raise failed(f"a sequence is not a JSON object: {error}") from None
    if not all(isinstance(sequence, dict) for sequence in given):
        raise failed("a sequence is a JSON object of features")
    chosen = model or _only_model(grpc, address, "sequence")
    answers = _call(grpc, address, "predict", chosen, {"sequences": given, "top_k": top_k})
    _print_items(answers, lambda answer: json.dumps(answer, ensure_ascii=False))


def _call(grpc: bool, address: str | None, method: str, *arguments: Any) -> Any:
    from seqserve.client import CallFailed, Client, GrpcClient, RestClient

    place = address or (GRPC_ADDRESS if grpc else REST_ADDRESS)
    kind = GrpcClient if grpc else RestClient
    try:
        client: Client = kind(place.removeprefix(HTTPS), _access(place.startswith(HTTPS)))
        return getattr(client, method)(*arguments)
    except CallFailed as error:
        raise failed(str(error)) from None
    except (OSError, ValueError) as error:  # a file of the access
        raise failed(
            f"SEQSERVE_CA, SEQSERVE_CLIENT_CERT, SEQSERVE_CLIENT_KEY or SEQSERVE_API_KEY_FILE: {error}"
        ) from None


def _access(tls: bool) -> "Access":
    """Return what the environment says of keys and certificates."""
    from seqserve.client import Access
    from seqserve.service.caller import CallerSettings

    given = CallerSettings.read()
    key = given.api_key
    if not key and given.api_key_file is not None:
        key = given.api_key_file.read_text().strip()
    return Access(key, tls or given.ca is not None, given.ca, given.client_cert, given.client_key)


def _only_model(grpc: bool, address: str | None, task: str) -> str:
    names = [model["name"] for model in _call(grpc, address, "models") if model.get("task") == task]
    if len(names) != 1:
        raise failed(f"--model is needed: models for {task} are {', '.join(names) or 'none'}")
    return str(names[0])


def _print_items(answers: list[dict[str, Any]], show: Callable[[dict[str, Any]], str]) -> None:
    """Print a line for each item, an empty one for an item that failed; end with 1 if any did."""
    faults = [answer["error"] for answer in answers if "error" in answer]
    for answer in answers:
        typer.echo("" if "error" in answer else show(answer))
    if faults:
        raise failed("\n".join(json.dumps(fault, ensure_ascii=False) for fault in faults))
