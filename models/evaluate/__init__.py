"""Quality of a version, measured through the pipeline that serves it: a table, then one JSON line.

There is one module for each kind of model. Each figure comes with its 95 % interval; a version's card records
the figures of its validation rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from seqserve.models.check.pipeline import Pipeline, pipeline
from seqserve.models.config import (
    ClassifierConfig,
    Config,
    ConfigInvalid,
    EventsConfig,
    ForecasterConfig,
    TaggerConfig,
    read_config,
)
from seqserve.models.evaluate import classifier, events, forecaster, plots, tagger, translation
from seqserve.models.evaluate.figures import Measured, as_json


class Measurer(Protocol):
    """What each kind's module has. Rows are of its own type."""

    def held_out(self, config: Any, data: Path | None, /) -> Any:
        """Return the validation part of the data that a configuration trains on."""

    def to_measure(self, config: Any, data: Path | None, card: Mapping[str, Any], /) -> Any:
        """Return the rows to measure on, of data that may be new."""

    async def measure(self, loaded: Pipeline, config: Any, rows: Any, /) -> Measured:
        """Answer the rows by a version, and compare the answers with the truth."""


async def evaluate_version(folder: Path, data: Path | None, pictures: Path | None = None) -> dict[str, Any]:
    """Measure a version on data, read as its card says.

    Args:
        data: a folder of parallel texts (its `test` files, else `val`), or a log or labelled sequences (all
            of them; only the validation part of the file that the version was trained on), or a table (see
            `models.evaluate.forecaster.to_measure`); None for generated data.
        pictures: a folder to draw into.

    Raises:
        ConfigInvalid: the data cannot be read, or the card does not say how to.
    """
    async with pipeline(folder) as loaded:
        card = loaded.served.manifest.card or {}
        if "config" not in card:
            raise ConfigInvalid(f"{folder}: the version was not trained here (its card has no config)")
        config = read_config(card["config"], str(folder))
        measurer = _measurer(config)
        measured = await measurer.measure(loaded, config, measurer.to_measure(config, data, card))
    if pictures is not None:
        plots.save({name: draw() for name, draw in measured.pictures.items()}, pictures)
    return as_json(measured.figures)


async def measure(loaded: Pipeline, config: Config, data: Path | None) -> dict[str, Any]:
    """Measure a version on the validation part of the data it was trained with."""
    measurer = _measurer(config)
    return as_json((await measurer.measure(loaded, config, measurer.held_out(config, data))).figures)


def _measurer(config: Config) -> Measurer:
    match config:
        case EventsConfig():
            return events
        case ClassifierConfig():
            return classifier
        case TaggerConfig():
            return tagger
        case ForecasterConfig():
            return forecaster
    return translation
