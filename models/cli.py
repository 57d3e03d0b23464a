"""`python -m models …`: train, export, evaluate, check and publish versions, and train the demo."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqserve.models.config import CONFIGS, ClassifierConfig, Config, ConfigInvalid, EventsConfig, load_config
from seqserve.service.contract.digest import sha256
from seqserve.service.errors import SeqserveError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
console = Console()
DEMO = ("demo_translation", "demo_events")

ConfigArgument = Annotated[
    Path, typer.Argument(help="a TOML file, or the name of a shipped one, as multi30k or helpdesk")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="a folder of texts, a CSV log or table, or a .ts file; none if generated"),
]
RootOption = Annotated[Path, typer.Option("--out", help="the model root: NAME/VERSION is made in it")]
VersionArgument = Annotated[Path, typer.Argument(help="a version directory, ROOT/NAME/NUMBER")]


@contextmanager
def _told() -> Iterator[None]:
    """End a command with the error's own sentence and status 1."""
    try:
        yield
    except SeqserveError as error:
        reason = getattr(error, "reason", error.code.value)
        stderr = Console(stderr=True)
        stderr.print(f"[bold red]{reason}[/]:", escape(error.message), highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def train(
    config: ConfigArgument,
    out: RootOption,
    data: DataOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on after the last finished epoch")] = False,
) -> None:
    """Train a model, export it as the next version, certify it, and print its quality.

    Example: python -m models train helpdesk --data helpdesk.csv --out build/models
    """
    with _told():
        train_model(_configuration(config), data, out, resume)


@app.command()
def demo(out: RootOption = Path("build/models")) -> None:
    """Train the two demo models on generated data, where they are missing (about two minutes)."""
    with _told():
        for name in DEMO:
            config = load_config(CONFIGS / f"{name}.toml")
            if not any((out / config.name).glob("[0-9]*")):
                train_model(config, None, out, resume=False)


@app.command()
def evaluate(
    folder: VersionArgument,
    data: DataOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="a folder to draw into, as PNGs: attention, confusion, forecast, …")
    ] = None,
) -> None:
    """Measure a version through the pipeline that serves it: a table, then one JSON object.

    Example: python -m models evaluate build/models/helpdesk/1 --data helpdesk.csv --plot build/plots
    """
    from seqserve.models.evaluate import evaluate_version

    with _told():
        figures = asyncio.run(evaluate_version(folder, data, plot))
        _print_figures(f"{folder.parent.name} version {folder.name}", figures)
        typer.echo(orjson.dumps(figures))


@app.command()
def crossvalidate(
    config: ConfigArgument,
    data: DataOption = None,
    folds: Annotated[int, typer.Option(min=2, help="how many parts the cases are dealt into")] = 5,
    ways: Annotated[
        str | None,
        typer.Option(
            help="of an event model: ways of using time to train, with commas between; all if absent"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="a file to write the JSON object to as well")] = None,
) -> None:
    """Train on all folds but one and score that one, for each: figures over all cases or sequences.

    Of an event model two tables: every way of using time and every n-gram of activities, on the same folds of
    whole cases, and each way's difference from the best n-gram by log loss, prefix by prefix. Of a classifier
    one. With 95 % intervals; then one JSON object.

    Example: python -m models crossvalidate helpdesk --data helpdesk.csv --ways concat,none --out folds.json
    """
    with _told():
        read = _configuration(config)
        if isinstance(read, EventsConfig):
            found = _crossvalidate_events(read, data, folds, ways)
        elif not isinstance(read, ClassifierConfig):
            raise ConfigInvalid(f"task is {read.task}: only events and classifier can be cross-validated")
        elif ways is not None:
            raise ConfigInvalid(f"--ways: {ways!r}: a classifier uses time in one way")
        else:
            found = _crossvalidate_series(read, data, folds)
        if out is not None:
            out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        typer.echo(orjson.dumps(found))


def _crossvalidate_events(
    config: EventsConfig, data: Path | None, folds: int, ways: str | None
) -> dict[str, Any]:
    from seqserve.models.evaluate.crossvalidation.events import WAYS, parse_ways
    from seqserve.models.evaluate.crossvalidation.events import crossvalidate as compare

    report = compare(config, data, folds, WAYS if ways is None else parse_ways(ways), console)
    found = report.as_json()
    _print_models(f"pooled over {report.folds} folds of {report.cases} cases", found["models"])
    _print_models(f"less the {report.best_ngram}", found["differences"])
    return found


def _crossvalidate_series(config: ClassifierConfig, data: Path | None, folds: int) -> dict[str, Any]:
    from seqserve.models.data.series import read_series
    from seqserve.models.evaluate.crossvalidation.classifier import crossvalidate_series
    from seqserve.models.evaluate.figures import as_json

    if data is None:
        raise ConfigInvalid("data.kind is series: give --data FILE.ts")
    with console.status(f"{folds} folds"):
        found = as_json(crossvalidate_series(config, read_series(data), folds))
    _print_figures(f"{config.name}, over {folds} folds", found)
    return found


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="a Keras model's file, MODEL.keras")],
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
) -> None:
    """Export a Keras model of your own, certified, as the next version. docs/bring.md has the contract file.

    Example: python -m models export model.keras --contract model.toml --out build/models
    """
    with _told():
        export_keras(model, contract, out, version, imports or [], allow_leak)


def export_keras(
    model: Path, contract: Path, root: Path, version: int | None, imports: list[Path], allow_leak: bool
) -> Path:
    """Export a user's model, telling what was found and checked; returns its directory."""
    from seqserve.models.bring import bring
    from seqserve.models.bring.contract import load_contract
    from seqserve.models.export import export_version, next_version

    read = load_contract(contract)
    brought = bring(model, read, version or next_version(root, read.name), imports)
    table = Table("Keras", "shape", "contract", title=f"{read.name}: {model.name}", title_justify="left")
    for row in brought.table:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in brought.notes:
        console.print(escape(line), highlight=False, soft_wrap=True)
    for line in brought.warnings:
        _warn(line)
    target = export_version(brought.draft, root, allow_leak=allow_leak, report=_ok)
    _warn_of_leak(target)
    typer.echo(target)
    return target


def _warn_of_leak(target: Path) -> None:
    card = _card(target)
    if "padding_leak" in card:
        _warn(f"{card['padding_leak']}: its rows are run one by one, slow under load (batching: single)")


def _ok(line: str) -> None:
    console.print(f"[green]ok[/] {escape(line)}", highlight=False, soft_wrap=True)


def _warn(line: str) -> None:
    Console(stderr=True).print(f"[yellow]warning[/]: {escape(line)}", highlight=False, soft_wrap=True)


@app.command()
def check(
    folder: VersionArgument,
    tfserving: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="have a running TensorFlow Serving compute, by its copy"),
    ] = None,
    device: Annotated[
        str, typer.Option(help="what that server runs on, cpu or gpu: its tolerance counts")
    ] = "cpu",
) -> None:
    """Certify a version: files unchanged, goldens hold, padding invisible, no op of one device alone.

    On a GPU padding is held to the manifest's tolerance for it, as the goldens are.
    Example: python -m models check build/models/shop/1 --tfserving localhost:8500
    """
    from seqserve.models.check import check_version
    from seqserve.models.check.pipeline import Server

    with _told():
        host, _, port = (tfserving or ":").rpartition(":")
        if tfserving is not None and not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigInvalid(f"--tfserving: {tfserving!r} is not HOST:PORT with a port of 1 to 65535")
        if device not in ("cpu", "gpu"):
            raise ConfigInvalid(f"--device: {device!r} is neither cpu nor gpu")
        for line in check_version(folder, Server(tfserving, device) if tfserving is not None else None):
            _ok(line)


@app.command()
def publish(
    source: VersionArgument,
    root: Annotated[Path, typer.Argument(help="the model root to copy it to")],
    version: Annotated[
        int | None, typer.Option(min=1, help="the number to take; the next free one if absent")
    ] = None,
) -> None:
    """Copy a version to a model root, whole or not at all: a roll-out, or a roll-back under a new number."""
    from seqserve.models.export import publish as copy

    with _told():
        typer.echo(f"published {copy(source, root, version)}")


def _configuration(given: Path) -> Config:
    if given.suffix == ".toml":
        return load_config(given)
    shipped = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    if str(given) not in shipped:
        raise ConfigInvalid(f"{given} is no TOML file, and the shipped ones are {', '.join(shipped)}")
    return load_config(CONFIGS / f"{given}.toml")


def train_model(config: Config, data: Path | None, root: Path, resume: bool) -> Path:
    """Train, export and certify the next version of a configuration's model; returns its directory."""
    started = time.perf_counter()
    from seqserve.models.evaluate import measure
    from seqserve.models.export import export_version, next_version
    from seqserve.models.recipes import recipe_for
    from seqserve.models.train import fit, make_reproducible

    console.rule(f"{config.name}: training")
    make_reproducible(config.training.seed)
    recipe = recipe_for(config, data)
    digest = _data_digest(data)
    fitted = fit(recipe.task, config, root / ".training" / config.name, console, resume, digest)
    card = {
        "config": config.model_dump(mode="json"),
        "training": fitted,
        "data_sha256": digest,
        "code": _revision(),
        **recipe.calibrate(console),
    }
    draft = recipe.draft(next_version(root, config.name), card)
    with console.status("export: graph, goldens, quality, certification"):
        target = export_version(draft, root, lambda loaded: measure(loaded, config, data))
    _print_card(target)
    typer.echo(f"{target} in {time.perf_counter() - started:.0f} s")
    return target


def _revision() -> str:
    """Return the version of this code, and the commit where it runs from a clone."""
    version, clone = f"seqserve {metadata.version('seqserve')}", Path(__file__).resolve().parents[1]
    if not (clone / ".git").exists():  # installed: a repository around it would be another project's
        return version
    git = ["git", "-C", str(clone), "rev-parse", "--short=12", "HEAD"]
    try:
        return f"{version} {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}"
    except (OSError, subprocess.CalledProcessError):
        return version


def _data_digest(data: Path | None) -> str:
    """Return the SHA-256 of a file, or of a folder's files in order of their names; empty without data."""
    if data is None or not data.exists():
        return ""
    files = sorted(path for path in data.iterdir() if path.is_file()) if data.is_dir() else [data]
    return sha256(b"".join(path.read_bytes() for path in files))


def _print_card(target: Path) -> None:
    _print_figures(f"{target.parent.name} version {target.name}, held out", _card(target)["metrics"])


def _card(target: Path) -> dict[str, Any]:
    from seqserve.service.contract.manifest import FILE_NAME, parse_manifest

    return parse_manifest((target / "assets" / FILE_NAME).read_bytes()).card or {}


def _print_figures(title: str, figures: dict[str, Any]) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "value", "95 % interval"):
        table.add_column(column)
    intervals = figures["intervals"]
    for name, value in figures.items():
        if name != "intervals":
            table.add_row(name, str(value), " to ".join(map(str, intervals.get(name, ()))))
    console.print(table)


def _print_models(title: str, models: dict[str, dict[str, Any]]) -> None:
    """Print a row a model, a column a figure, with its interval below it."""
    table = Table(title=title, title_justify="left")
    names = [name for name in next(iter(models.values())) if name != "intervals"]
    for column in ("", *names):
        table.add_column(column)
    for model, figures in models.items():
        table.add_row(model, *(_with_interval(figures, name) for name in names))
    console.print(table)


def _with_interval(figures: dict[str, Any], name: str) -> str:
    interval = figures["intervals"].get(name)
    return f"{figures[name]}" + (f"\n{interval[0]} to {interval[1]}" if interval else "")
