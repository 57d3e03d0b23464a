"""`:predict` of both protocols: theirs has `instances` (by row) or `inputs` (by column), ours `sequences`."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from seqserve.service import errors
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import SEQUENCE, TRANSLATION
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Answered, Asked, Call, Served, Task
from seqserve.service.rest.bodies import JSON, Bodies, Parts, asked_of, check_type, read_parts
from seqserve.service.rest.edge import FORM
from seqserve.service.rest.handlers import model_ref, written
from seqserve.service.rest.outline import Bounds
from seqserve.service.rest.streams import form_of, streamed
from seqserve.service.rest.surfaces.errors import error_object
from seqserve.service.surfaces import tfserving
from seqserve.service.surfaces.asking import asked_by, task_of
from seqserve.service.surfaces.tensors import TEXT, inputs
from seqserve.service.surfaces.values import columns, named

ROWS, COLUMNS = "instances", "inputs"
SIGNATURE = "signature_name"


@dataclass(frozen=True, slots=True)
class Question:
    """A body, and whose it is.

    Args:
        member: the list of what is asked: `ROWS`, `COLUMNS`, or ours.
    """

    task: Task
    asked: Asked
    member: str


async def predict(gateway: Gateway, bodies: Bodies, request: Request, call: Call) -> Response:
    """Answer a body of either protocol, each in its own form."""
    ref = model_ref(request)
    served = gateway.current(ref.name, call.principal)
    is_text = served is not None and served.task.name == TRANSLATION.name
    gateway.check_room(TRANSLATION if is_text else SEQUENCE, ref, call)
    form = form_of(request)
    async with AsyncExitStack() as held:
        question = await held.enter_async_context(bodies.read(request, call, partial(_read, served)))
        if form is not None and question.member == SEQUENCE.body_member:
            return await streamed(form, held.pop_all(), gateway, SEQUENCE, ref, question.asked, call)
        answered = await gateway.answer(question.task, ref, question.asked, call)
    if question.member == ROWS:
        return await _by_row(answered)
    if question.member == COLUMNS:
        return await _by_column(answered)
    return await written(answered, question.task.answer_member)


async def _read(
    served: Served | None, request: Request, bounds: Bounds, became: Callable[[int], None]
) -> Question:
    """Read a body; TensorFlow Serving looks at no Content-Type, and its pages send a form's (`curl -d`)."""
    given_type = request.headers.get("content-type", "")
    try:
        parts = await read_parts(request, (SEQUENCE.body_member, ROWS, COLUMNS), bounds, became, kinds=None)
    except errors.MalformedJson:
        check_type(given_type)
        raise
    if parts.member not in (ROWS, COLUMNS):
        check_type(given_type)
        return Question(SEQUENCE, await asked_of(parts, SEQUENCE, bounds), SEQUENCE.body_member)
    request.scope[FORM] = error_object
    member, table, task = parts.member, dict(parts.table), task_of(served)
    given = table.pop(member, parts.items)
    name = table.pop(SIGNATURE, "")
    if table:
        raise errors.MalformedJson(f"{next(iter(table))[:60]!r} is no member of a body with {member}")
    if not isinstance(name, str):
        raise errors.MalformedJson(f"{SIGNATURE}: a text is wanted")
    tfserving.check_signature(name)
    if member == COLUMNS:
        return Question(task, asked_by(served, _columns(served, given), {}), COLUMNS)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise errors.MalformedJson(f"{ROWS}: a list is wanted")
    items = _Mapped(given, _text if task.name == TRANSLATION.name else partial(_sequence, served))
    ours = Parts({}, task.body_member, items)
    if parts.items is None:
        ours = Parts({task.body_member: list(items)}, task.body_member)
    return Question(task, await asked_of(ours, task, bounds, is_whole=True), ROWS)


# --- requests -------------------------------------------------------------------------------------


class _Mapped(Sequence[Any]):
    """Another sequence's entries, each made into another one whenever it is asked for."""

    def __init__(self, entries: Sequence[Any], make: Callable[[Any], Any]) -> None:
        self._entries = entries
        self._make = make

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: Any) -> Any:
        return self._make(self._entries[place])


def _text(instance: Any) -> Any:
    """Return an instance's text: the instance itself, or its only input."""
    text = instance.get(TEXT) if isinstance(instance, dict) and len(instance) == 1 else instance
    if not isinstance(text, str):
        raise errors.MalformedJson(f'{ROWS}: a text is wanted, or {{"{TEXT}": "…"}}')
    return text


def _sequence(served: Served | None, instance: Any) -> dict[str, Any]:
    """Return an instance as features by name; of a model with one feature, its value may stand alone."""
    if isinstance(instance, dict):
        return instance
    return {_only(served, ROWS): instance}


def _columns(served: Served | None, given: Any) -> dict[str, Sequence[Any]]:
    found = given if isinstance(given, dict) else {_only(served, COLUMNS): given}
    for name, column in found.items():
        if isinstance(column, str) or not isinstance(column, Sequence):
            raise errors.MalformedJson(f"{COLUMNS}.{name[:60]}: a list of one entry a row is wanted")
    return {name: list(column) for name, column in found.items()}


def _only(served: Served | None, member: str) -> str:
    names = list(inputs(served.manifest)) if served is not None else []
    if served is not None and len(names) != 1:
        raise errors.MalformedJson(f"{member}: an object is wanted, with {', '.join(names)[:200]}")
    return names[0] if names else "input"


# --- answers --------------------------------------------------------------------------------------


async def _by_row(answered: Answered) -> Response:
    turn, rows = Turn(), []
    for item in answered.items:
        row = named(item)
        rows.append(orjson.dumps(next(iter(row.values())) if len(row) == 1 else row))
        if turn.is_over():
            await turn.end()
    return Response(b'{"predictions":[%s]}' % b",".join(rows), media_type=JSON)


async def _by_column(answered: Answered) -> Response:
    found = await columns(answered.items)
    content = next(iter(found.values())) if len(found) == 1 else found
    return Response(orjson.dumps({"outputs": content}), media_type=JSON)
