"""`seqserve …`: one command for serving and calling, and for training and shipping.

A command's module is imported when that command is wanted, by its name in `COMMANDS`: so the gateway imports
nothing of training, and `seqserve models` does not wait for what `seqserve train` needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command is: a module whose `app` has it; `panel` is its part of `seqserve --help`."""

    panel: str
    module: str


SERVE, TRAIN = "Serve and call", "Train and ship"
COMMANDS = {
    "serve": Place(SERVE, "seqserve.service.cli.serving"),
    "translate": Place(SERVE, "seqserve.service.cli.calling"),
    "predict": Place(SERVE, "seqserve.service.cli.calling"),
    "models": Place(SERVE, "seqserve.service.cli.calling"),
    "inspect": Place(SERVE, "seqserve.service.cli.inspecting"),
    "keys": Place(SERVE, "seqserve.service.cli.keys"),
    "models-config": Place(SERVE, "seqserve.service.keeper.command"),
    "train": Place(TRAIN, "seqserve.models.cli.training"),
    "evaluate": Place(TRAIN, "seqserve.models.cli.measuring"),
    "crossvalidate": Place(TRAIN, "seqserve.models.cli.measuring"),
    "demo": Place(TRAIN, "seqserve.models.cli.training"),
    "export": Place(TRAIN, "seqserve.models.cli.shipping"),
    "check": Place(TRAIN, "seqserve.models.cli.shipping"),
    "publish": Place(TRAIN, "seqserve.models.cli.shipping"),
}


class _Loaded(Mapping[str, Any]):
    """The commands by name; to take one is to import it."""

    def __getitem__(self, name: str) -> Any:
        place = COMMANDS[name]
        command: Any = get_group(import_module(place.module).app).commands[name]
        command.rich_help_panel = place.panel
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Loaded()  # type: ignore[assignment]  # typer only reads it


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seqserve {metadata.version('seqserve')}")
        raise typer.Exit


@app.callback()
def seqserve(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Serve trained sequence models over REST and gRPC, call them, train them and ship them.

    Start with `seqserve demo`, which trains two small models, and `seqserve serve`, which serves them.

    Training and shipping need an extra: pip install 'seqserve\\[models]'.

    So does serving, unless TensorFlow Serving runs the models: pip install 'seqserve\\[embedded]'.
    """
