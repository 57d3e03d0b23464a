"""All that lies between a configuration and a version: data, rows, network, draft. One module a task."""

from pathlib import Path
from typing import Any, Protocol

from seqserve.models.config import ClassifierConfig, Config, EventsConfig, ForecasterConfig, TaggerConfig
from seqserve.models.draft import Draft
from seqserve.models.train import Task

SPLITS = ("train", "val")


class Recipe(Protocol):
    """What `models.train` needs of a task."""

    @property
    def task(self) -> Task:
        """The network and its batches."""

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the trained model as a version to be written."""


def recipe_for(config: Config, data: Path | None) -> Recipe:
    """Read the data and build the recipe; only the task asked for is imported.

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
