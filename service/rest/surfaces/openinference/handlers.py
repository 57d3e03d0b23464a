"""The paths under /v2: each reads a request, calls the gateway and writes the answer in their form."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Answered, Call, ModelRef
from seqserve.service.rest.bodies import JSON, Bodies
from seqserve.service.rest.handlers import as_json
from seqserve.service.rest.surfaces.openinference.bodies import HEADER, RAW, SIZE, Question, read_question
from seqserve.service.surfaces import openinference
from seqserve.service.surfaces.asking import asked_by, task_of
from seqserve.service.surfaces.openinference import DATATYPES
from seqserve.service.surfaces.tensors import Described, Tensor, filled
from seqserve.service.surfaces.values import chosen, columns


class Handlers:
    """What its routes lead to."""

    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway = gateway
        self._bodies = bodies

    async def server(self, request: Request, call: Call) -> Response:
        """Tell the service's name, its version, and the extensions that it has."""
        name, version = openinference.NAME, openinference.VERSION
        return as_json({"name": name, "version": version, "extensions": [openinference.BINARY]})

    async def live(self, request: Request, call: Call) -> Response:
        """Tell that the process is alive."""
        return as_json({"live": True})

    async def ready(self, request: Request, call: Call) -> Response:
        """Tell whether callers may be sent here; if not, why."""
        fault = self._gateway.unready()
        if fault is not None:
            raise fault
        return as_json({"ready": True})

    async def model_ready(self, request: Request, call: Call) -> Response:
        """Tell whether a model, or one version, can be called; if not, why."""
        ref = _ref(request)
        served = await self._gateway.meant(ref, call)
        fault = self._gateway.unready(ref.name)
        if fault is not None:
            raise fault
        return as_json({"name": served.model, "ready": True})

    async def model(self, request: Request, call: Call) -> Response:
        """Tell what a version takes and gives."""
        served = await self._gateway.meant(_ref(request), call)
        report = self._gateway.model(served.model, call.principal)
        taken, given = openinference.tensors_of(served.manifest)
        return as_json(
            {
                "name": served.model,
                "versions": openinference.ready_versions(report),
                "platform": openinference.PLATFORM,
                "inputs": _described(taken),
                "outputs": _described(given),
            }
        )

    async def infer(self, request: Request, call: Call) -> Response:
        """Answer the rows of the inputs: texts, or sequences of features."""
        ref = _ref(request)
        served = self._gateway.current(ref.name, call.principal)
        task = task_of(served)
        self._gateway.check_room(task, ref, call)
        async with self._bodies.read(request, call, read_question) as question:
            options = openinference.options(task, question.parameters)
            asked = asked_by(served, question.columns, options)
            answered = await self._gateway.answer(task, ref, asked, call)
        found = chosen(await columns(answered.items), [output.name for output in question.options.outputs])
        return _written(question, answered, {name: await filled(rows) for name, rows in found.items()})


def _ref(request: Request) -> ModelRef:
    given = request.path_params
    return openinference.model_ref(given["model"], given.get("version", ""))


def _described(tensors: Mapping[str, Described]) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": DATATYPES[one.kind], "shape": list(one.shape)}
        for name, one in tensors.items()
    ]


def _written(question: Question, answered: Answered, tensors: Mapping[str, Tensor]) -> Response:
    """Write an answer; where contents are wanted raw they stand behind the JSON, in the outputs' order."""
    outputs, behind = [], []
    for name, tensor in tensors.items():
        shown: dict[str, Any] = {
            "name": name,
            "datatype": DATATYPES[tensor.kind],
            "shape": list(tensor.shape),
        }
        if question.is_binary(name):
            behind.append(openinference.to_raw(tensor))
            shown["parameters"] = {SIZE: len(behind[-1])}
        else:
            values = tensor.values
            shown["data"] = values if isinstance(values, list) else values.reshape(-1).tolist()
        outputs.append(shown)
    id = {"id": question.options.id} if question.options.id is not None else {}
    head = orjson.dumps(
        {"model_name": answered.model, "model_version": str(answered.version), **id, "outputs": outputs}
    )
    if not behind:
        return Response(head, media_type=JSON)
    headers = {HEADER: str(len(head))}
    return Response(head + b"".join(behind), headers=headers, media_type=RAW)
