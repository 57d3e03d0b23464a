"""The gRPC port: TensorFlow Serving's services over a `Manager`."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.tfserving.manager import Manager
from tests.tfserving.metrics import Metrics
from tests.tfserving.servable import DEFAULT_SIGNATURE
from tests.tfserving.status import StatusError, failed_precondition, invalid

SPARE_THREADS = 8  # they refuse the calls that no thread is free for
HEALTHY = ("", "ModelService", "PredictionService")
LONGEST_MILLIS = 2**31 - 1


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, GetModelMetadata, and refusals of Classify and Regress."""

    def __init__(self, manager: Manager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run one call until its deadline."""
        with self._metrics.timed(
            "/tensorflow/serving/request_latency", request.model_spec.name, "Predict", "GRPC"
        ):
            return self._counted(request, lambda: self._predict(request, context))

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return the signatures."""
        _need_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        with self._manager.held(request.model_spec) as servable:
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            for name, signature in servable.signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response.metadata["signature_def"].Pack(signatures)
        return response

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Refuse: no signature here takes Examples."""
        self._counted(request, lambda: self._refuse(request))
        raise AssertionError

    Regress = Classify

    def _predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:
        _need_spec(request)
        with self._manager.held(request.model_spec) as servable:
            return servable.predict(request, _millis(context))

    def _refuse(self, request: Any) -> None:
        _need_spec(request)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        with self._manager.held(request.model_spec) as servable:
            if name not in servable.signatures:
                raise failed_precondition(f"No signature was found with the name: {name}")
        raise invalid("Expected one input Tensor.")

    def _counted(self, request: Any, answer: Callable[[], Any]) -> Any:
        code = StatusCode.OK
        try:
            return answer()
        except StatusError as error:
            code = error.code
            raise
        finally:
            self._metrics.count("/tensorflow/serving/request_count", request.model_spec.name, code.name)


class Model(model_service_pb2_grpc.ModelServiceServicer):
    """The status of versions, and new configurations."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """List a model's versions, newest first."""
        _need_spec(request)
        statuses = self._manager.statuses(request.model_spec)
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Take a new list of models; answer once the new ones are available."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported"
            )
        self._manager.configure(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


class Health(health.HealthServicer):
    """grpc.health.v1, under the names that TensorFlow Serving gives."""

    def __init__(self) -> None:
        super().__init__()
        for service in HEALTHY:
            self.set(service, health_pb2.HealthCheckResponse.SERVING)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Say SERVING of what is known."""
        if request.service not in HEALTHY:
            context.abort(StatusCode.NOT_FOUND, "service name unknown")
        return super().Check(request, context)


class Threads(grpc.ServerInterceptor):
    """Bounds the calls at once, parses requests, and answers errors as TensorFlow Serving does.

    Of its `most` threads one always waits for calls, so one fewer can be answered at once.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most - 1)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a method; health has threads of its own there."""
        handler = continuation(details)
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(_unimplemented)
        if details.method.startswith("/grpc.health"):
            return handler

        def behaviour(data: bytes, context: grpc.ServicerContext) -> Any:
            return self._call(handler, data, context)

        return grpc.unary_unary_rpc_method_handler(behaviour, None, handler.response_serializer)

    def _call(self, handler: Any, data: bytes, context: grpc.ServicerContext) -> Any:
        if not self._free.acquire(blocking=False):
            context.abort(StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        try:
            return handler.unary_unary(handler.request_deserializer(data), context)
        except DecodeError:
            context.abort(StatusCode.INTERNAL, "")
        except StatusError as error:
            context.abort(error.code, error.text)
        finally:
            self._free.release()


def serve(address: str, manager: Manager, metrics: Metrics, threads: int, healthy: bool, tls: Any) -> Any:
    """Serve; return the server and its port. `tls` is an SSLConfig, or None."""
    server = grpc.server(
        ThreadPoolExecutor(threads + SPARE_THREADS, "grpc"),
        interceptors=[Threads(threads)],
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(manager, metrics), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Model(manager), server)
    if healthy:
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    if tls is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, _credentials(tls))
    server.start()
    return server, port


def _credentials(tls: Any) -> grpc.ServerCredentials:
    roots = tls.custom_ca.encode() if tls.custom_ca else None
    pair = (tls.server_key.encode(), tls.server_cert.encode())
    return grpc.ssl_server_credentials([pair], roots, tls.client_verify)


def _need_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _millis(context: grpc.ServicerContext) -> int:
    """Return the time left; 0 without a deadline. One just passed is 1: as 0, the run would not end."""
    left = context.time_remaining()
    if left is None or math.isinf(left) or left * 1000 > LONGEST_MILLIS:
        return 0
    return max(1, int(left * 1000))


def _unimplemented(requests: Any, context: grpc.ServicerContext) -> None:
    context.abort(StatusCode.UNIMPLEMENTED, "")
