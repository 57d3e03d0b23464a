"""From a configuration to a version: data, rows, network, calibration, draft. One module a kind of model."""

from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from seqserve.models.config import ClassifierConfig, Config, EventsConfig, ForecasterConfig, TaggerConfig
from seqserve.models.draft import Draft
from seqserve.models.train import Task

SPLITS = ("train", "val")


class Recipe(Protocol):
    """What it takes to train a version of a kind of model."""

    @property
    def task(self) -> Task:
        """The network and its batches."""

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Fit temperatures and intervals on rows that were not trained on; returns what the card says of it.

        It comes between training and `draft`, shows its progress, and may train networks for it.
        """

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the trained model as a version to be written."""


def recipe_for(config: Config, data: Path | None) -> Recipe:
    """Read the data and build the recipe; only the module of the kind needed is imported.

    Raises:
        ConfigInvalid: the data is missing or cannot be read.
    """
    if isinstance(config, EventsConfig):
        from seqserve.models.recipes.events import EventsRecipe, read_cases

        return EventsRecipe(config, *(read_cases(config.data, data, split) for split in SPLITS))
    if isinstance(config, ForecasterConfig):
        from seqserve.models.recipes.forecaster import ForecasterRecipe, read_series

        return ForecasterRecipe(config, *(read_series(config.data, data, split) for split in SPLITS))
    if isinstance(config, ClassifierConfig):
        from seqserve.models.recipes.classifier import ClassifierRecipe, read_split

        return ClassifierRecipe(config, *(read_split(data, split) for split in SPLITS))
    if isinstance(config, TaggerConfig):
        from seqserve.models.recipes.events import read_cases
        from seqserve.models.recipes.tagger import TaggerRecipe

        return TaggerRecipe(config, *(read_cases(config.data, data, split) for split in SPLITS))
    from seqserve.models.recipes.translation import TranslationRecipe, read_texts

    return TranslationRecipe(config, *(read_texts(config.data, data, split) for split in SPLITS))
