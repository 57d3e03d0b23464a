"""Training and shipping from the shell: the commands that need the extra `models`.

The commands import Keras and TensorFlow when they run, so that help is quick and needs no extra.
"""

import typer

from seqserve.models.cli import measuring, shipping, training
from seqserve.models.cli.shipping import export_own
from seqserve.models.cli.training import train_model

__all__ = ["app", "export_own", "train_model"]

app = typer.Typer(
    help="Train, evaluate, export, check and publish models: `seqserve` with these commands alone.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)
for family in (training, measuring, shipping):
    app.add_typer(family.app)
