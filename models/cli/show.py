"""What the commands share: how they begin and fail, what they print, and options that several have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seqserve.models.config import CONFIGS, Config, ConfigInvalid, load_config
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.errors import SeqserveError

console, problems = Console(), Console(stderr=True)
EXTRA = ("babel", "h5py", "keras", "matplotlib", "num2words", "sacrebleu", "tensorflow", "tensorflow_serving")
"""The modules of the extra `models`."""

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
def errors_shown() -> Iterator[None]:
    """Run a command: without the extra, or at an error of ours, it ends with one line and status 1."""
    missing = [module for module in EXTRA if find_spec(module) is None]
    if missing:
        raise _failed("error", f"not installed: {', '.join(missing)}; pip install 'seqserve[models]'")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported: it greets otherwise
    try:
        yield
    except SeqserveError as error:
        raise _failed(getattr(error, "reason", error.code.value), error.message) from None
    except OSError as error:  # a folder that may not be written, a disk that is full
        raise _failed(
            "error", f"{error.filename}: {error.strerror}" if error.filename else str(error)
        ) from None


def hear_greeting() -> None:
    """Let TensorFlow say where nobody hears it what it says at the first session of a process.

    It does so at any level of its log. Faults of the session are raised as ever.
    """
    import tensorflow as tf

    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            session.run(tf.constant(0))
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _failed(reason: str, message: str) -> typer.Exit:
    problems.print(f"[bold red]{reason}[/]:", escape(message), highlight=False, soft_wrap=True)
    return typer.Exit(1)


def ok(line: str) -> None:
    """Print that something holds."""
    console.print(f"[green]ok[/] {escape(line)}", highlight=False, soft_wrap=True)


def warn(line: str) -> None:
    """Print on stderr what the user should know of."""
    problems.print(f"[yellow]warning[/]: {escape(line)}", highlight=False, soft_wrap=True)


def configuration(given: Path) -> Config:
    """Read a configuration, from a file or a shipped one by its name.

    Raises:
        ConfigInvalid: there is none, or it is wrong.
    """
    if given.suffix == ".toml":
        return load_config(given)
    shipped = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    if str(given) not in shipped:
        raise ConfigInvalid(f"{given} is no TOML file, and the shipped ones are {', '.join(shipped)}")
    return load_config(CONFIGS / f"{given}.toml")


def card_of(version: Path) -> dict[str, Any]:
    """Return the model card in a version directory."""
    return parse_manifest((version / "assets" / FILE_NAME).read_bytes()).card or {}


def print_figures(title: str, figures: dict[str, Any]) -> None:
    """Print a row for each figure, with its interval."""
    table = Table(title=title, title_justify="left")
    for column in ("", "value", "95 % interval"):
        table.add_column(column)
    intervals = figures["intervals"]
    for name, value in figures.items():
        if name != "intervals":
            table.add_row(name, str(value), " to ".join(map(str, intervals.get(name, ()))))
    console.print(table)


def print_models(title: str, models: dict[str, dict[str, Any]]) -> None:
    """Print a row for each model and a column for each figure, with its interval below it."""
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
