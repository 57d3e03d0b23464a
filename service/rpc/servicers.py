"""The services of `seqserve.v1`: convert, call the gateway, convert back. Served by `service.rpc.server`."""

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call
from seqserve.service.rpc import convert, describe
from seqserve.service.rpc.edge import Method
from seqserve.v1 import model_pb2, sequence_pb2, translation_pb2

TRANSLATION = translation_pb2.DESCRIPTOR.services_by_name["TranslationService"].full_name
SEQUENCE = sequence_pb2.DESCRIPTOR.services_by_name["SequenceService"].full_name
MODEL = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


def services(gateway: Gateway) -> dict[str, dict[str, Method]]:
    """Return every method, by the service's full name and the method's."""
    served = Servicers(gateway)
    return {
        TRANSLATION: {"Translate": Method(translation_pb2.TranslateRequest, served.translate)},
        SEQUENCE: {"Predict": Method(sequence_pb2.PredictRequest, served.predict)},
        MODEL: {
            "ListModels": Method(model_pb2.ListModelsRequest, served.list_models),
            "GetModel": Method(model_pb2.GetModelRequest, served.get_model),
        },
    }


class Servicers:
    """The methods of all services. Every error they raise is of `service.errors`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def translate(
        self, request: translation_pb2.TranslateRequest, call: Call
    ) -> translation_pb2.TranslateResponse:
        """Translate texts."""
        ref = convert.model_ref(request.model)
        self._gateway.check_room("translate", ref, call)
        self._gateway.check_count("texts", len(request.texts))
        body = convert.translate_body(request)
        return convert.translate_response(await self._gateway.translate(ref, body, call))

    async def predict(self, request: sequence_pb2.PredictRequest, call: Call) -> sequence_pb2.PredictResponse:
        """Predict from sequences."""
        ref = convert.model_ref(request.model)
        self._gateway.check_room("predict", ref, call)
        self._gateway.check_count("sequences", len(request.sequences))
        body = convert.predict_body(request)
        return convert.predict_response(await self._gateway.predict(ref, body, call))

    async def list_models(self, _: model_pb2.ListModelsRequest, __: Call) -> model_pb2.ListModelsResponse:
        """List every model."""
        return model_pb2.ListModelsResponse(models=map(describe.model, self._gateway.models()))

    async def get_model(self, request: model_pb2.GetModelRequest, _: Call) -> model_pb2.GetModelResponse:
        """Return one model."""
        return model_pb2.GetModelResponse(model=describe.model(self._gateway.model(request.name)))
