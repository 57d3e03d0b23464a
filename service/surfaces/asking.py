"""Named columns to what our own door is asked: one row of each is one text, or one sequence."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import ValidationError

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.contract.manifest import Manifest
from seqserve.service.core.tasks import SEQUENCE, TRANSLATION
from seqserve.service.core.types import Asked, Served, Task
from seqserve.service.surfaces.steps import LENGTHS, Steps
from seqserve.service.surfaces.tensors import TEXT

Columns = Mapping[str, Sequence[Any]]
"""By name, a value for each row, as `SequenceEncoder.encode` takes them."""


def task_of(served: Served | None) -> Task:
    """Return what a model is asked by a protocol that does not say; where it is not known, to predict.

    Raises:
        Unsupported: neither text nor sequences are asked of it.
    """
    if served is None:
        return SEQUENCE
    if served.task.name not in (TRANSLATION.name, SEQUENCE.name):
        raise errors.Unsupported(f"models for {served.task.name} have a path of their own; /docs lists it")
    return served.task


def asked_by(served: Served | None, columns: Columns, options: Mapping[str, Any]) -> Asked:
    """Return what is asked by columns.

    Args:
        served: the version that the request is likely for; it says which features have steps.
        options: members of our own body.

    Raises:
        MalformedTensor: two columns have different numbers of rows.
    """
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name[:60]!r} {count}" for name, count in list(counts.items())[:20])
        raise errors.MalformedTensor(f"inputs have different numbers of rows: {listed}")
    count = next(iter(counts.values()), 0)
    task = task_of(served)
    if task.name == TRANSLATION.name:
        return Asked(count, partial(_texts, task, columns, options), is_whole=True)
    manifest = served.manifest if served is not None else None
    return Asked(count, partial(_sequences, task, manifest, columns, options), is_whole=True)


def _texts(task: Task, columns: Columns, options: Mapping[str, Any]) -> Body:
    for name in columns:
        if name != TEXT:
            raise errors.UnknownFeature(f"no input {name[:60]!r}; the model has {TEXT}", path=(name[:60],))
    if TEXT not in columns:
        raise errors.MissingFeature(f"input {TEXT!r} is missing", path=(TEXT,))
    return _body(task, [_one_text(value, row) for row, value in enumerate(columns[TEXT])], options)


def _one_text(value: Any, row: int) -> str:
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str):
        raise errors.WrongType("one text a row is wanted", path=(TEXT, row))
    return text


def _sequences(task: Task, manifest: Manifest | None, columns: Columns, options: Mapping[str, Any]) -> Body:
    steps, lengths = Steps(manifest), None
    if LENGTHS in columns and (manifest is None or LENGTHS not in manifest.features):
        lengths, columns = columns[LENGTHS], {n: c for n, c in columns.items() if n != LENGTHS}
    count = len(next(iter(columns.values()), ()))
    rows = ({name: column[row] for name, column in columns.items()} for row in range(count))
    items = [steps.real(values, None if lengths is None else lengths[row]) for row, values in enumerate(rows)]
    return _body(task, items, options)


def _body(task: Task, items: list[Any], options: Mapping[str, Any]) -> Body:
    """Return our own body.

    Raises:
        OptionOutOfRange: an option is none of the task's, or of another type.
    """
    try:
        checked = task.body.model_validate({task.body_member: [], **options})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in fault["loc"])
        raise errors.OptionOutOfRange(f"{where}: {fault['msg']}", path=(where,)) from error
    return checked.model_copy(update={task.body_member: items})
