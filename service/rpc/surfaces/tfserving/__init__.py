"""TensorFlow Serving's gRPC services (tensorflow_serving/apis), those parts that have a meaning here."""

from functools import partial
from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from seqserve.service import errors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call
from seqserve.service.rpc.edge import Method
from seqserve.service.rpc.servicers import Services
from seqserve.service.rpc.surfaces.tfserving import convert
from seqserve.service.surfaces import tensors, tfserving
from seqserve.service.surfaces.asking import asked_by, task_of
from seqserve.service.surfaces.values import chosen, columns
from seqserve.tfserving import predict_pb2 as pb

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
TYPE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
REFUSED = ("Classify", "Regress", "MultiInference")


def services(gateway: Gateway) -> Services:
    """Return the methods."""
    servicer = Servicer(gateway)
    refused = {name: Method(Empty, partial(servicer.refuse, name)) for name in REFUSED}
    return {
        PREDICTION: {
            "Predict": Method(pb.PredictRequest, servicer.predict),
            "GetModelMetadata": Method(pb.GetModelMetadataRequest, servicer.metadata),
            **refused,
        },
        MODEL: {
            "GetModelStatus": Method(pb.GetModelStatusRequest, servicer.status),
            "HandleReloadConfigRequest": Method(Empty, servicer.reload),
        },
    }


class Servicer:
    """What the methods do. Every error they raise is of `service.errors`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def predict(self, request: pb.PredictRequest, call: Call) -> Message:
        """Answer the rows of the inputs: texts, or sequences of features."""
        ref = convert.model_ref(request.model_spec)
        served = self._gateway.current(ref.name, call.principal)
        task = task_of(served)
        self._gateway.check_room(task, ref, call)
        tfserving.check_signature(request.model_spec.signature_name)
        given = {name: convert.rows(name, tensor) for name, tensor in request.inputs.items()}
        answered = await self._gateway.answer(task, ref, asked_by(served, given, {}), call)
        found = chosen(await columns(answered.items), request.output_filter)
        filled = {name: await tensors.filled(rows) for name, rows in found.items()}
        return pb.PredictResponse(
            model_spec=convert.spec(answered.model, answered.version, PREDICT_SIGNATURE),
            outputs={name: convert.tensor(one) for name, one in filled.items()},
        )

    async def metadata(self, request: pb.GetModelMetadataRequest, call: Call) -> Message:
        """Tell what a version takes and gives, as a signature of named tensors."""
        if list(request.metadata_field) != [tfserving.SIGNATURE_DEF]:
            message = f"metadata_field is {list(request.metadata_field)[:3]}; it must be signature_def"
            raise errors.OptionOutOfRange(message[:200], path=("metadata_field",))
        served = await self._gateway.meant(convert.model_ref(request.model_spec), call)
        signature = pb.SignatureDef(
            inputs=convert.infos(tensors.inputs(served.manifest)),
            outputs=convert.infos(tensors.outputs(served.manifest)),
            method_name=tfserving.METHOD,
        )
        found = pb.SignatureDefMap(signature_def={PREDICT_SIGNATURE: signature})
        return pb.GetModelMetadataResponse(
            model_spec=convert.spec(served.model, served.version, ""),
            metadata={tfserving.SIGNATURE_DEF: Packed(type_url=TYPE_URL, value=found.SerializeToString())},
        )

    async def status(self, request: pb.GetModelStatusRequest, call: Call) -> Message:
        """Tell the states of a model's versions, or of one; a label is passed over, as theirs does."""
        ref = convert.model_ref(request.model_spec)
        report = self._gateway.model(ref.name, call.principal)
        found = map(convert.status, tfserving.versions(report, ref.version))
        return pb.GetModelStatusResponse(model_version_status=found)

    async def refuse(self, name: str, _: Any, call: Call) -> Message:
        """Refuse what takes tf.Examples."""
        raise tfserving.refused(name)

    async def reload(self, _: Any, call: Call) -> Message:
        """Refuse: callers do not choose what is served."""
        raise errors.Unsupported("what is served is not chosen by callers; see docs/deploy.md")
