"""One version in memory: a SavedModel in a Session, run as TensorFlow Serving runs it."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.python.client import pywrap_tf_session
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.tfserving import tensors
from tests.tfserving.batching import Batching
from tests.tfserving.metrics import Metrics
from tests.tfserving.status import CODES, StatusError, failed_precondition, invalid, not_found

DEFAULT_SIGNATURE = "serving_default"
WARMUP = "assets.extra/tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000
TEXT_OPERATIONS = (b"NormalizeUTF8", b"TFText>")


class Servable:
    """A loaded version."""

    def __init__(
        self, name: str, version: int, folder: Path, metrics: Metrics, batching: Batching | None
    ) -> None:
        self.name = name
        self.version = version
        self._metrics = metrics
        self._batching = batching
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        self.signatures = self._load(folder)
        self._warm_up(folder)

    def close(self) -> None:
        """Free what it holds; no call uses it any more."""
        self._session.close()

    def predict(self, request: predict_pb2.PredictRequest, millis: int) -> predict_pb2.PredictResponse:
        """Answer a call; `millis` is how long it may run, 0 for ever."""
        asked = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if asked not in self.signatures:
            raise failed_precondition(f'Serving signature key "{asked}" not found.')
        signature = self.signatures[asked]
        _check_sizes(signature, request)
        inputs = _inputs(signature, request)
        wanted = _wanted(signature, request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = asked
        with self._metrics.timed("/tensorflow/serving/runtime_latency", self.name, "Predict", "TF1"):
            outputs = self._run(signature, inputs, wanted, millis)
        for alias, value in outputs.items():
            response.outputs[alias].CopyFrom(tensors.encode(value))
        return response

    def _load(self, folder: Path) -> dict[str, Any]:
        path, start = str(folder), time.perf_counter()
        _register_text_operations(folder)
        try:
            with self._session.graph.as_default():
                meta = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        except Exception as error:
            self._session.close()
            self._metrics.count("/tensorflow/cc/saved_model/load_attempt_count", path, "fail")
            raise _load_error(error, folder) from error
        micros = int((time.perf_counter() - start) * 1e6)
        self._metrics.count("/tensorflow/cc/saved_model/load_attempt_count", path, "success")
        self._metrics.count("/tensorflow/cc/saved_model/load_latency", path, by=micros)
        return dict(meta.signature_def)

    def _warm_up(self, folder: Path) -> None:
        file = folder / WARMUP
        if not file.exists():
            return
        start, records = time.perf_counter(), 0
        for record in tf.compat.v1.io.tf_record_iterator(str(file)):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise StatusError(StatusCode.UNIMPLEMENTED, "Unsupported log_type for warmup")
            self.predict(log.predict_log.request, 0)
            records += 1
            if records > MOST_WARMUP_RECORDS:
                raise invalid(
                    f"Number of warmup records exceeds the maximum ({MOST_WARMUP_RECORDS}) at {file}"
                )
        seconds = time.perf_counter() - start
        self._metrics.observe("/tensorflow/serving/model_warmup_latency", str(folder), "OK", seconds=seconds)
        self._metrics.count("/tensorflow/serving/model_warmup_records_read", str(folder), "OK", by=records)

    def _run(
        self, signature: Any, inputs: dict[str, np.ndarray], wanted: Sequence[str], millis: int
    ) -> dict[str, np.ndarray]:
        if self._batching is None:
            return self._run_session(signature, inputs, wanted, millis)
        self._batching.check(inputs)
        with self._batching.thread(millis) as left:
            outputs = self._run_session(signature, inputs, wanted, left)
        self._batching.check_outputs(outputs, inputs)
        return outputs

    def _run_session(
        self, signature: Any, inputs: dict[str, np.ndarray], wanted: Sequence[str], millis: int
    ) -> dict[str, np.ndarray]:
        """Run below Session.run: that casts values and checks shapes, which TensorFlow Serving does not."""
        graph = self._session.graph
        feeds = {graph.get_tensor_by_name(k)._as_tf_output(): v for k, v in inputs.items()}
        fetches = [graph.get_tensor_by_name(signature.outputs[a].name)._as_tf_output() for a in wanted]
        options = tf.compat.v1.RunOptions(timeout_in_ms=millis).SerializeToString()
        with ExitStack() as stack:
            buffer = pywrap_tf_session.TF_NewBufferFromString(options)
            stack.callback(pywrap_tf_session.TF_DeleteBuffer, buffer)
            try:
                values = pywrap_tf_session.TF_SessionRun_wrapper(
                    self._session._session, buffer, feeds, fetches, [], None
                )
            except tf.errors.OpError as error:
                raise StatusError(CODES[error.error_code], error.message) from error
        return {alias: np.asarray(value) for alias, value in zip(wanted, values, strict=True)}


def _check_sizes(signature: Any, request: predict_pb2.PredictRequest) -> None:
    sent, declared = set(request.inputs), set(signature.inputs)
    if len(sent) == len(declared) or (len(sent) < len(declared) and signature.defaults):
        return
    raise invalid(
        f"input size does not match signature: {len(sent)}!={len(declared)} len({_braced(sent)}) != "
        f"len({_braced(declared)}). Sent extra: {_braced(sent - declared)}. "
        f"Missing but required: {_braced(declared - sent)}."
    )


def _inputs(signature: Any, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    """Return the values by the name of the tensor that they are fed to."""
    values = {}
    for alias, info in sorted(signature.inputs.items()):
        if alias not in request.inputs and alias not in signature.defaults:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {_braced(request.inputs)}, or default "
                f"input alias set: {','.join(sorted(signature.defaults))}"
            )
        proto = request.inputs[alias] if alias in request.inputs else signature.defaults[alias]
        value = tensors.parse(proto)
        if value is None:
            raise invalid(f"tensor parsing error: {alias}")
        values[info.name] = value
    return values


def _wanted(signature: Any, output_filter: Sequence[str]) -> list[str]:
    for place, alias in enumerate(output_filter):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braced(signature.outputs)}."
            )
        if alias in output_filter[:place]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return list(output_filter) or list(signature.outputs)


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _register_text_operations(folder: Path) -> None:
    """Register tensorflow_text's operations, which TensorFlow Serving has built in, for a graph of them."""
    graph = folder / "saved_model.pb"
    if graph.exists() and any(name in graph.read_bytes() for name in TEXT_OPERATIONS):
        import tensorflow_text  # noqa: F401


def _load_error(error: Exception, folder: Path) -> StatusError:
    """Return the C++ loader's code for what the Python one raises."""
    if isinstance(error, tf.errors.OpError):
        return StatusError(CODES[error.error_code], error.message)
    if not any((folder / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return not_found(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}."
        )
    if isinstance(error, RuntimeError):
        return not_found(str(error))
    return StatusError(StatusCode.DATA_LOSS, f"Can't parse {folder}: {error}")
