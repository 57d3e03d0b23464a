"""TensorFlow Serving's paths that are not ours too: states of versions, signatures, and what is refused."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call, ModelRef
from seqserve.service.rest.edge import FORM
from seqserve.service.rest.handlers import as_json, model_ref
from seqserve.service.rest.models import states_as_json
from seqserve.service.rest.surfaces.errors import error_object
from seqserve.service.surfaces import tensors, tfserving
from seqserve.service.surfaces.tensors import Described


class Handlers:
    """What its routes lead to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def status(self, request: Request, call: Call) -> Response:
        """Tell the state of one version."""
        ref = _theirs(request)
        report = self._gateway.model(ref.name, call.principal)
        number = ref.version
        if ref.label is not None:
            number = (await self._gateway.meant(ref, call)).version
        return as_json(states_as_json(report, number))

    async def metadata(self, request: Request, call: Call) -> Response:
        """Tell what a version takes and gives, as a signature of named tensors."""
        served = await self._gateway.meant(_theirs(request), call)
        signature = {
            "inputs": _infos(tensors.inputs(served.manifest)),
            "outputs": _infos(tensors.outputs(served.manifest)),
            "method_name": tfserving.METHOD,
        }
        spec = {"name": served.model, "signature_name": "", "version": str(served.version)}
        definitions = {tfserving.SIGNATURE_DEF: {PREDICT_SIGNATURE: signature}}
        return as_json({"model_spec": spec, "metadata": {tfserving.SIGNATURE_DEF: definitions}})

    async def refuse(self, request: Request, call: Call) -> Response:
        """Refuse what takes tf.Examples."""
        _theirs(request)
        raise tfserving.refused(request.scope["path"].rpartition(":")[2].capitalize())


def _theirs(request: Request) -> ModelRef:
    """Return the model that a path names; what is wrong is said in their form."""
    request.scope[FORM] = error_object
    return model_ref(request)


def _infos(described: dict[str, Described]) -> dict[str, Any]:
    return {
        name: {
            "dtype": tfserving.DTYPES[one.kind],
            "tensor_shape": {
                "dim": [{"size": str(size), "name": ""} for size in one.shape],
                "unknown_rank": False,
            },
            "name": name,
        }
        for name, one in described.items()
    }
