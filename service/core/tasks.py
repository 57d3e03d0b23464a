"""THE table of tasks: what a model can be asked, one row each. Doors, catalog and goldens read it.

A new task is a row here and a codec; a door that speaks gRPC needs its messages (`service.rpc.tasks`).
What a task needs of a manifest beyond the manifest's own checks is refused by its codec's factory.
"""

from collections.abc import Mapping

from seqserve.service.contract.items import PredictBody, Prediction, TranslateBody, Translation
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.core.predict import PredictCodec
from seqserve.service.core.translate import TranslateCodec
from seqserve.service.core.translate_raw import RawCodec
from seqserve.service.core.types import Task
from seqserve.service.errors import ManifestInvalid

Tasks = Mapping[str, Task]
"""Rows by name."""

TRANSLATION = Task(
    name="translation",
    verb="translate",
    body_member="texts",
    answer_member="translations",
    body=TranslateBody,
    item=Translation,
    codec=lambda manifest, files: RawCodec(manifest) if manifest.is_raw else TranslateCodec(manifest, files),
    summary="Translate texts",
    example={"texts": ["Tuesday, November 24, 2026"], "alignment": True},
)
SEQUENCE = Task(
    name="sequence",
    verb="predict",
    body_member="sequences",
    answer_member="predictions",
    body=PredictBody,
    item=Prediction,
    codec=PredictCodec,
    summary="Predict from sequences",
    example={"sequences": [{"event": ["visit", "search"], "minutes": [0, 1.5]}], "top_k": 3},
)


def table(*rows: Task) -> Tasks:
    """Return rows as the table that a catalog is given."""
    return {row.name: row for row in rows}


TASKS = table(TRANSLATION, SEQUENCE)


def task_named(name: str, tasks: Tasks) -> Task:
    """Return a row.

    Raises:
        ManifestInvalid: no row has that name.
    """
    if name not in tasks:
        known = ", ".join(sorted(tasks))
        raise ManifestInvalid(f"{FILE_NAME}: task: {name[:60]!r} is not served here; there are: {known}")
    return tasks[name]
