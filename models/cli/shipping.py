"""`seqserve export`, `check` and `publish`: make a version of a model, certify, copy it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from seqserve.models.cli.show import (
    RootOption,
    VersionArgument,
    card_of,
    console,
    errors_shown,
    hear_greeting,
    ok,
    warn,
)
from seqserve.models.config import ConfigInvalid

app = typer.Typer(rich_markup_mode="rich")


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(help="a Keras model's file, a SavedModel, or a folder of a model's parts")
    ],
    contract: Annotated[Path, typer.Option("--contract", help="what its inputs and outputs mean: TOML")],
    out: RootOption,
    version: Annotated[
        int | None, typer.Option(min=1, help="the number; the next free one if absent")
    ] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option("--import", help="a Python file with the model's own layers. It is RUN: trust it"),
    ] = None,
    allow_leak: Annotated[
        bool,
        typer.Option("--allow-leak", help="ship a model that padding changes: its rows are run one by one"),
    ] = False,
    expect: Annotated[
        Path | None,
        typer.Option(help="what your own code answers; the served answers must be the same (docs/bring.md)"),
    ] = None,
    shortlist_from: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXTS",
            help="a translator's training texts, a folder or a file of two columns: they say which words "
            "each row may write (docs/bring.md)",
        ),
    ] = None,
) -> None:
    """Export a model of your own, certified, as the next version.

    docs/bring.md says what stands in the contract file.

    Example: seqserve export model.keras --contract model.toml --out build/models
    """
    with errors_shown():
        hear_greeting()
        export_own(model, contract, out, version, imports or [], allow_leak, expect, shortlist_from)


def export_own(
    model: Path,
    contract: Path,
    root: Path,
    version: int | None,
    imports: list[Path],
    allow_leak: bool = False,
    expect: Path | None = None,
    shortlist_from: Path | None = None,
) -> Path:
    """Export a user's model and print how it was understood and checked; returns the version's directory."""
    from seqserve.models.bring import bring
    from seqserve.models.bring.load import load_contract
    from seqserve.models.check.padding import PaddingLeak
    from seqserve.models.export import export_version, next_version, no_measure

    read = load_contract(contract)
    number = version or next_version(root, read.name)
    brought = bring(model, read, number, imports, expect, shortlist_from, console)
    table = Table("model", "shape", "contract", title=f"{read.name}: {model.name}", title_justify="left")
    for row in brought.table:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in brought.notes:
        console.print(escape(line), highlight=False, soft_wrap=True)
    for line in brought.warnings:
        warn(line)
    try:
        target = export_version(brought.draft, root, brought.proof or no_measure, allow_leak, ok)
    except PaddingLeak as leak:
        raise PaddingLeak(f"{leak.message}{brought.leak_advice}") from leak
    compared = (card_of(target).get("metrics") or {}).get("compared")
    if compared:
        ok(f"{compared} answers are those of your own code")
    _warn_of_leak(target)
    typer.echo(target)
    return target


def _warn_of_leak(target: Path) -> None:
    card = card_of(target)
    if "padding_leak" in card:
        warn(f"{card['padding_leak']}: its rows are run one by one, slow under load (batching: single)")


@app.command()
def check(
    folder: VersionArgument,
    tfserving: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="a running TensorFlow Serving that has a copy of the version computes"
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="what that server runs on, cpu or gpu: its tolerance counts")
    ] = "cpu",
) -> None:
    """Certify a version: files unchanged, golden examples hold, padding invisible, runs on CPU and GPU alike.

    At a server on a GPU, golden examples and padding are held to the manifest's tolerance for GPUs.

    Example: seqserve check build/models/shop/1 --tfserving localhost:8500
    """
    with errors_shown():
        from seqserve.models.check import check_version
        from seqserve.models.check.pipeline import Server, name_and_version

        host, _, port = (tfserving or ":").rpartition(":")
        if tfserving is not None and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigInvalid(f"--tfserving: {tfserving!r} is not HOST:PORT with a port of 1 to 65535")
        if device not in ("cpu", "gpu"):
            raise ConfigInvalid(f"--device: {device!r} is neither cpu nor gpu")
        name_and_version(folder)
        hear_greeting()
        for line in check_version(folder, Server(tfserving, device) if tfserving is not None else None):
            ok(line)


@app.command()
def publish(
    source: VersionArgument,
    root: Annotated[Path, typer.Argument(help="the model root to copy it to")],
    version: Annotated[
        int | None, typer.Option(min=1, help="the number to take; the next free one if absent")
    ] = None,
) -> None:
    """Copy a version to a model root, whole or not at all: a roll-out, or a roll-back under a new number.

    Example: seqserve publish build/models/shop/1 /srv/models
    """
    with errors_shown():
        from seqserve.models.export import publish as copy

        typer.echo(f"published {copy(source, root, version)}")
