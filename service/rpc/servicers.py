"""The methods of `seqserve.v1`, and of every task that has messages: convert, call the gateway, convert back.

A surface (another protocol over gRPC) is further services, by name, of the same methods.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from google.protobuf.message import Message

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Asked, Call, Task
from seqserve.service.rpc import convert, describe
from seqserve.service.rpc.edge import Method, Results
from seqserve.service.rpc.sessions import SERVICE as SESSION, Sessions
from seqserve.service.rpc.streaming import Stream
from seqserve.service.rpc.tasks import Rpc, Rpcs, Streamed
from seqserve.v1 import model_pb2

MODEL = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name

Services = dict[str, dict[str, Method | Results | Stream]]
"""Methods by the service's full name and their own."""


def services(gateway: Gateway, rpcs: Rpcs) -> Services:
    """Return every method."""
    servicers = Servicers(gateway)
    methods: Services = {}
    for task in gateway.tasks.values():
        if task.name in rpcs:
            rpc = rpcs[task.name]
            of_service = methods.setdefault(rpc.service, {})
            of_service[rpc.method] = Method(rpc.request, partial(servicers.answer, task, rpc), rpc.field)
            if rpc.streamed is not None:
                of_service[rpc.streamed.method] = servicers.streamed(task, rpc, rpc.streamed)
    methods[MODEL] = {
        "ListModels": Method(model_pb2.ListModelsRequest, servicers.list_models),
        "GetModel": Method(model_pb2.GetModelRequest, servicers.get_model),
    }
    methods[SESSION] = {**Sessions(gateway).methods}
    return methods


class Servicers:
    """What the methods do. Every error they raise is of `service.errors`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def answer(self, task: Task, rpc: Rpc, request: Any, call: Call) -> Message:
        """Answer the items of a task's request."""
        ref = convert.model_ref(request.model)
        self._gateway.check_room(task, ref, call)
        asked = Asked(len(getattr(request, task.body_member)), partial(rpc.body, request))
        return rpc.response(await self._gateway.answer(task, ref, asked, call))

    def streamed(self, task: Task, rpc: Rpc, streamed: Streamed) -> Results:
        """Return the method that answers the items of a task's request one by one."""
        field = partial(convert.within, task.verb, rpc.field)

        async def answer(request: Any, call: Call) -> AsyncGenerator[Message]:
            own = getattr(request, task.verb)
            ref = convert.model_ref(own.model)
            self._gateway.check_room(task, ref, call)
            order = convert.order_of(request.order)
            asked = Asked(len(getattr(own, task.body_member)), partial(rpc.body, own))
            is_first = True
            async with aclosing(self._gateway.stream(task, ref, asked, call, order)) as answers:
                async for come in answers:
                    for index, item in come.items:
                        model = convert.version_message(come) if is_first else None
                        yield streamed.response(model=model, index=index, result=streamed.result(item, field))
                        is_first = False

        return Results(streamed.request, answer, field)

    async def list_models(self, _: model_pb2.ListModelsRequest, call: Call) -> model_pb2.ListModelsResponse:
        """List every model."""
        return model_pb2.ListModelsResponse(models=map(describe.model, self._gateway.models(call.principal)))

    async def get_model(self, request: model_pb2.GetModelRequest, call: Call) -> model_pb2.GetModelResponse:
        """Return one model."""
        return model_pb2.GetModelResponse(
            model=describe.model(self._gateway.model(request.name, call.principal))
        )
