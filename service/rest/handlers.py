"""The REST door's handlers: each reads a request, calls the gateway and writes the answer; nothing else."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from seqserve.service import errors
from seqserve.service.contract.items import answer_as_json
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Answered, Call, ModelRef, Task
from seqserve.service.rest.bodies import JSON, Bodies, read_asked
from seqserve.service.rest.models import model_as_json, states_as_json
from seqserve.service.rest.streams import form_of, streamed

LONGEST_NUMBER = 18
"""Digits that a version's number may have: a longer one may not fit 64 bits."""


class Handlers:
    """What our own routes lead to."""

    def __init__(self, gateway: Gateway, registry: CollectorRegistry, bodies: Bodies) -> None:
        self._gateway = gateway
        self._registry = registry
        self._bodies = bodies

    async def healthz(self, request: Request, call: Call) -> Response:
        """Tell that the process is alive."""
        return as_json({"status": "alive"})

    async def readyz(self, request: Request, call: Call) -> Response:
        """Tell whether callers, or with `?model=NAME` those of one model, may be sent here; if not, why."""
        fault = self._gateway.unready(request.query_params.get("model"))
        if fault is not None:
            raise fault
        return as_json({"status": "ready"})

    async def metrics(self, request: Request, call: Call) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def list_models(self, request: Request, call: Call) -> Response:
        """Return every model, with its versions and what it takes."""
        return as_json({"models": [model_as_json(report) for report in self._gateway.models(call.principal)]})

    async def get_model(self, request: Request, call: Call) -> Response:
        """Return one model, with its versions and what it takes."""
        report = self._gateway.model(request.path_params["model"], call.principal)
        return as_json({**model_as_json(report), **states_as_json(report)})

    async def answer(self, task: Task, request: Request, call: Call) -> Response:
        """Answer the items of a request's body."""
        ref = model_ref(request)
        self._gateway.check_room(task, ref, call)
        form = form_of(request)
        body = self._bodies.read(request, call, partial(read_asked, task))
        if form is not None:
            async with AsyncExitStack() as held:
                asked = await held.enter_async_context(body)
                return await streamed(form, held.pop_all(), self._gateway, task, ref, asked, call)
        async with body as asked:
            answered = await self._gateway.answer(task, ref, asked, call)
        return await written(answered, task.answer_member)


def as_json(content: Any) -> Response:
    """Return content as a response of JSON."""
    return Response(orjson.dumps(content), media_type=JSON)


def model_ref(request: Request) -> ModelRef:
    """Return the model that a path names; raises VersionNotFound where its version is no number."""
    given = request.path_params
    version = given.get("version")
    if version is None:
        return ModelRef(given["model"], label=given.get("label"))
    if not (version.isdecimal() and version.isascii() and len(version) <= LONGEST_NUMBER):
        raise errors.VersionNotFound(f"version {version[:20]!r} is not a number")
    return ModelRef(given["model"], int(version))


async def written(answered: Answered, member: str) -> Response:
    """Write an answer in our form, in turns: its items may be many, and long."""
    model = {"name": answered.model, "version": answered.version, "digest": answered.digest}
    turn, items = Turn(), []
    for item in answered.items:
        items.append(orjson.dumps(answer_as_json(item)))
        if turn.is_over():
            await turn.end()
    content = b'{"model":%s,"%s":[%s]}' % (orjson.dumps(model), member.encode(), b",".join(items))
    return Response(content, media_type=JSON)
