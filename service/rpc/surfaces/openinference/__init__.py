"""inference.GRPCInferenceService of the Open Inference Protocol, version 2, as KServe and Triton have it."""

from google.protobuf.message import Message

from seqserve.openinference import inference_pb2 as pb
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call
from seqserve.service.rpc.edge import Method
from seqserve.service.rpc.servicers import Services
from seqserve.service.rpc.surfaces.openinference import convert
from seqserve.service.surfaces import openinference
from seqserve.service.surfaces.asking import asked_by, task_of
from seqserve.service.surfaces.tensors import filled
from seqserve.service.surfaces.values import chosen, columns

SERVICE = "inference.GRPCInferenceService"


def services(gateway: Gateway) -> Services:
    """Return the methods."""
    servicer = Servicer(gateway)
    return {
        SERVICE: {
            "ServerLive": Method(pb.ServerLiveRequest, servicer.live),
            "ServerReady": Method(pb.ServerReadyRequest, servicer.ready),
            "ServerMetadata": Method(pb.ServerMetadataRequest, servicer.server),
            "ModelReady": Method(pb.ModelReadyRequest, servicer.model_ready),
            "ModelMetadata": Method(pb.ModelMetadataRequest, servicer.model),
            "ModelInfer": Method(pb.ModelInferRequest, servicer.infer),
        }
    }


class Servicer:
    """What the methods do. Every error they raise is of `service.errors`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def live(self, _: pb.ServerLiveRequest, call: Call) -> Message:
        """Tell that the process is alive."""
        return pb.ServerLiveResponse(live=True)

    async def ready(self, _: pb.ServerReadyRequest, call: Call) -> Message:
        """Tell whether callers may be sent here."""
        return pb.ServerReadyResponse(ready=self._gateway.is_ready)

    async def server(self, _: pb.ServerMetadataRequest, call: Call) -> Message:
        """Tell the service's name, its version, and the extensions that it has."""
        name, version = openinference.NAME, openinference.VERSION
        return pb.ServerMetadataResponse(name=name, version=version, extensions=[openinference.BINARY])

    async def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> Message:
        """Tell whether a model, or one version, can be called; raises ModelNotFound, VersionNotFound."""
        ref = openinference.model_ref(request.name, request.version)
        report = self._gateway.model(ref.name, call.principal)
        versions = openinference.ready_versions(report)
        can_be_called = bool(versions) if ref.version is None else str(ref.version) in versions
        return pb.ModelReadyResponse(ready=can_be_called and self._gateway.unready(ref.name) is None)

    async def model(self, request: pb.ModelMetadataRequest, call: Call) -> Message:
        """Tell what a version takes and gives."""
        ref = openinference.model_ref(request.name, request.version)
        served = await self._gateway.meant(ref, call)
        taken, given = openinference.tensors_of(served.manifest)
        return pb.ModelMetadataResponse(
            name=served.model,
            versions=openinference.ready_versions(self._gateway.model(ref.name, call.principal)),
            platform=openinference.PLATFORM,
            inputs=convert.described(taken),
            outputs=convert.described(given),
        )

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> Message:
        """Answer the rows of the inputs: texts, or sequences of features."""
        ref = openinference.model_ref(request.model_name, request.model_version)
        served = self._gateway.current(ref.name, call.principal)
        task = task_of(served)
        self._gateway.check_room(task, ref, call)
        options = openinference.options(task, convert.parameters(request.parameters))
        for output in request.outputs:
            openinference.refuse_unsupported(output.parameters)
        answered = await self._gateway.answer(
            task, ref, asked_by(served, convert.columns(request), options), call
        )
        found = chosen(await columns(answered.items), [output.name for output in request.outputs])
        tensors = {name: await filled(rows) for name, rows in found.items()}
        return convert.response(request, answered, tensors)
