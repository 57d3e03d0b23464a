"""All that lies between a configuration and a version: data, rows, network, draft. One module a task."""

from pathlib import Path
from typing import Any, Protocol

from models.config import ClassifierConfig, Config, EventsConfig, ForecasterConfig, TaggerConfig
from models.draft import Draft
from models.train import Task

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
        from models.recipes.events import EventsRecipe, read_cases

        return EventsRecipe(config, *(read_cases(config.data, data, split) for split in SPLITS))
    if isinstance(config, ForecasterConfig):
        from models.recipes.forecaster import ForecasterRecipe, read_series

        return ForecasterRecipe(config, *(read_series(config.data, data, split) for split in SPLITS))
    if isinstance(config, ClassifierConfig):
        from models.recipes.classifier import ClassifierRecipe, read_split

        return ClassifierRecipe(config, *(read_split(data, split) for split in SPLITS))
    if isinstance(config, TaggerConfig):
        from models.recipes.events import read_cases
        from models.recipes.tagger import TaggerRecipe

        return TaggerRecipe(config, *(read_cases(config.data, data, split) for split in SPLITS))
    from models.recipes.translation import TranslationRecipe, read_texts

    return TranslationRecipe(config, *(read_texts(config.data, data, split) for split in SPLITS))
