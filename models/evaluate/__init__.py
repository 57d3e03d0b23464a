"""Quality of a version, measured through the pipeline that serves it: a table, then one JSON line.

`python -m models evaluate` measures a version directory, `models.export` the staged one for its card. One
module a task; each figure comes with its 95 % interval.
"""

from pathlib import Path
from typing import Any

from models.check.loaded import Pipeline, pipeline
from models.config import (
    ClassifierConfig,
    Config,
    ForecasterConfig,
    TaggerConfig,
    TranslationConfig,
    read_config,
)
from models.evaluate.classes import measure_series, measure_tags, series_to_measure
from models.evaluate.events import cases_to_measure, measure_cases
from models.evaluate.figures import as_json
from models.evaluate.forecasts import measure_stretch, stretch_to_measure, validation_stretch
from models.evaluate.texts import measure_texts, texts_to_measure
from models.recipes.classifier import read_split
from models.recipes.events import read_cases
from models.recipes.translation import read_texts


async def evaluate_version(folder: Path, data: Path | None) -> dict[str, Any]:
    """Measure a version on data; its card says how that is to be read.

    Args:
        data: a folder of parallel texts (its `test` files, else `val`), or a log or labelled sequences (all
            of them; the validation part where it is the very file that the version was trained on), or a
            table (see `models.evaluate.forecasts.stretch_to_measure`); None for generated data.

    Raises:
        ConfigInvalid: the data cannot be read, or the card does not say how to.
    """
    async with pipeline(folder) as loaded:
        card = loaded.served.manifest.card or {}
        config = read_config(card.get("config", {}), str(folder))
        if isinstance(config, TranslationConfig):
            return as_json(await measure_texts(loaded, texts_to_measure(config, data)))
        if isinstance(config, ForecasterConfig):
            stretch = stretch_to_measure(config.data, data, card)
            return as_json(await measure_stretch(loaded, stretch, config.data))
        if isinstance(config, ClassifierConfig):
            return as_json(await measure_series(loaded, series_to_measure(data, card), config))
        if isinstance(config, TaggerConfig):
            return as_json(await measure_tags(loaded, cases_to_measure(config, data, card), config))
        return as_json(await measure_cases(loaded, cases_to_measure(config, data, card), config.data))


async def measure(loaded: Pipeline, config: Config, data: Path | None) -> dict[str, Any]:
    """Measure a version on the validation part of the data it was trained with."""
    if isinstance(config, TranslationConfig):
        return as_json(await measure_texts(loaded, read_texts(config.data, data, "val")))
    if isinstance(config, ForecasterConfig):
        return as_json(await measure_stretch(loaded, validation_stretch(config.data, data), config.data))
    if isinstance(config, ClassifierConfig):
        return as_json(await measure_series(loaded, read_split(data, "val"), config))
    if isinstance(config, TaggerConfig):
        return as_json(await measure_tags(loaded, read_cases(config.data, data, "val"), config))
    return as_json(await measure_cases(loaded, read_cases(config.data, data, "val"), config.data))
