"""`seqserve evaluate` and `crossvalidate`: figures with their intervals, as a table and as JSON."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from seqserve.models.cli.show import (
    ConfigArgument,
    DataOption,
    VersionArgument,
    configuration,
    console,
    errors_shown,
    hear_greeting,
    print_figures,
    print_models,
)
from seqserve.models.config import ClassifierConfig, Config, ConfigInvalid, EventsConfig

app = typer.Typer(rich_markup_mode="rich")


@app.command()
def evaluate(
    folder: VersionArgument,
    data: DataOption = None,
    plot: Annotated[
        Path | None, typer.Option(help="a folder to draw into, as PNGs: attention, confusion, forecast, …")
    ] = None,
) -> None:
    """Measure a version through the pipeline that serves it: a table, then one JSON object.

    Example: seqserve evaluate build/models/helpdesk/1 --data helpdesk.csv --plot build/plots
    """
    with errors_shown():
        from seqserve.models.evaluate import evaluate_version

        hear_greeting()
        figures = asyncio.run(evaluate_version(folder, data, plot))
        print_figures(f"{folder.parent.name} version {folder.name}", figures)
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
    """Score each fold by a model trained on the other folds: figures over all cases or sequences.

    For an event model it prints two tables: every way of using time and every n-gram of activities, on the
    same folds of whole cases; then each way's difference from the best n-gram by log loss, prefix by prefix.
    For a classifier it prints one. Figures have 95 % intervals. The last line is one JSON object.

    Example: seqserve crossvalidate helpdesk --data helpdesk.csv --ways concat,none --out folds.json
    """
    with errors_shown():
        figures = _crossvalidated(configuration(config), data, folds, ways)
        if out is not None:
            out.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        typer.echo(orjson.dumps(figures))


def _crossvalidated(config: Config, data: Path | None, folds: int, ways: str | None) -> dict[str, Any]:
    if isinstance(config, EventsConfig):
        return _crossvalidate_events(config, data, folds, ways)
    if not isinstance(config, ClassifierConfig):
        raise ConfigInvalid(f"task is {config.task}: only events and classifier can be cross-validated")
    if ways is not None:
        raise ConfigInvalid(f"--ways: {ways!r}: a classifier uses time in one way")
    return _crossvalidate_series(config, data, folds)


def _crossvalidate_events(
    config: EventsConfig, data: Path | None, folds: int, ways: str | None
) -> dict[str, Any]:
    from seqserve.models.evaluate.crossvalidation.events import WAYS, crossvalidate as compare, parse_ways

    report = compare(config, data, folds, WAYS if ways is None else parse_ways(ways), console)
    figures = report.as_json()
    print_models(f"pooled over {report.folds} folds of {report.cases} cases", figures["models"])
    print_models(f"less the {report.best_ngram}", figures["differences"])
    return figures


def _crossvalidate_series(config: ClassifierConfig, data: Path | None, folds: int) -> dict[str, Any]:
    from seqserve.models.data.series import read_series
    from seqserve.models.evaluate.crossvalidation.classifier import crossvalidate_series
    from seqserve.models.evaluate.figures import as_json

    if data is None:
        raise ConfigInvalid("data.kind is series: give --data FILE.ts")
    with console.status(f"{folds} folds"):
        figures = as_json(crossvalidate_series(config, read_series(data), folds))
    print_figures(f"{config.name}, over {folds} folds", figures)
    return figures
