"""A SavedModel in a TensorFlow Session: the one module of the gateway that imports TensorFlow, on first use.

Loads as TensorFlow Serving does, by graph and Session, so that what loads, fails and is refused here
is what does there.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.backend.graph_ops import check_graph
from seqserve.service.backend.threads import cores
from seqserve.service.contract.padding import Array
from seqserve.service.errors import UnsafeOp

log = logging.getLogger(__name__)
LOAD_SECONDS = 300.0
"""For each step of a load: what runs then is the version's own, and may never end."""


@dataclass(frozen=True, slots=True)
class Handles:
    """A signature's tensors, by the names that callers use, as TensorFlow's core knows them."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A loaded version: its Session, and the tensors of each signature that can be called.

    The Session ends with the last reference to it: closing it would cancel the runs under way.
    """

    session: Any
    signatures: Mapping[str, Handles]

    def run(self, spec: Spec, inputs: Tensors, seconds: float) -> dict[str, Array]:
        """Run a signature that the model has; TensorFlow itself stops the run after `seconds`.

        By what `Session.run` calls in the end: it looks every tensor up and checks it again in each call,
        which takes as long as a small model does.

        Raises:
            BackendFailed: other inputs than the signature's, or the model failed on them.
            DeadlineExceeded, BackendUnavailable: as named.
        """
        handles = self.signatures[spec.signature]
        if inputs.keys() != handles.inputs.keys():
            message = f"{spec.signature!r} takes {sorted(handles.inputs)}, not {sorted(inputs)}"
            raise errors.BackendFailed(message)
        feeds = {handles.inputs[name]: value for name, value in inputs.items()}
        options = _options(max(1, int(seconds * 1000)))
        try:
            values = self._run(feeds, list(handles.outputs.values()), options)
        except Exception as error:
            raise _translated(_tensorflow(), error, spec) from error
        return {name: np.asarray(value) for name, value in zip(handles.outputs, values, strict=True)}

    def _run(self, feeds: Mapping[Any, Array], fetches: list[Any], options: bytes) -> list[Any]:
        from tensorflow.python.client import pywrap_tf_session

        session, buffer = self.session, pywrap_tf_session.TF_NewBufferFromString(options)
        call = session._call_tf_sessionrun
        try:  # `_do_call` finds out which node an error is of
            values: list[Any] = session._do_call(call, buffer, feeds, fetches, [], None)
            return values
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)


@lru_cache(256)
def _options(milliseconds: int) -> bytes:
    """Return the RunOptions that end a run after so many."""
    options: bytes = _tensorflow().compat.v1.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
    return options


def load(folder: Path) -> SavedModel:
    """Load a version's directory.

    Raises:
        BackendFailed: it is no SavedModel that can be loaded, or TensorFlow, or what else its graph needs, is
            not installed.
        UnsafeOp: its graph would reach for more than the version's own files.
    """
    try:
        return _load(folder)
    except _UnknownOp as unknown:
        _import_text(folder, unknown.op)
    try:
        return _load(folder)
    except _UnknownOp as unknown:
        message = (
            f"its graph has the operation {unknown.op!r}, which neither TensorFlow nor tensorflow_text has"
        )
        raise errors.BackendFailed(f"{folder.name}: {message}") from unknown


class _UnknownOp(Exception):
    """The graph has an operation that nothing loaded so far has."""

    def __init__(self, op: str) -> None:
        super().__init__(op)
        self.op = op


def _import_text(folder: Path, op: str) -> None:
    """Add the operations of tensorflow_text to TensorFlow's, as TensorFlow Serving has them."""
    try:
        import tensorflow_text  # noqa: F401
    except ImportError as error:
        message = f"its graph has the operation {op!r}, which TensorFlow itself lacks; if it is one of"
        install = 'tensorflow_text: pip install "seqserve[text]"'
        raise errors.BackendFailed(f"{folder.name}: {message} {install}") from error


def _load(folder: Path) -> SavedModel:
    tf = _tensorflow()
    tf.get_logger().setLevel("ERROR")  # else it advises against the loader that we need
    session = tf.compat.v1.Session(graph=tf.Graph(), config=_config(tf))
    try:
        loader = _loader(folder)
        check_graph(loader.saved_model)  # the very message that is loaded: the file may be another by now
        meta = loader.load(session, ["serve"])
    except UnsafeOp:
        session.close()
        raise
    except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
        session.close()
        unknown = re.search(r"Op type not registered '(\w[^']*)'", str(error))
        if unknown:
            raise _UnknownOp(unknown[1]) from error
        log.warning("loading %s: %s: %s", folder, type(error).__name__, error)
        raise errors.BackendFailed(f"{folder.name}: the SavedModel cannot be loaded") from error
    session._extend_graph()  # what `Session.run` does first
    called = {key: signature for key, signature in meta.signature_def.items() if _has_tensors(signature)}
    return SavedModel(session, {key: _handles(session.graph, called[key]) for key in called})


def _config(tf: Any) -> Any:
    """Return how a Session is to run.

    Threads of TensorFlow's that have nothing to do look for more for a while before they sleep. On one core
    that keeps those from running who could give them any: a tenth of a small model's run.
    """
    config = tf.compat.v1.ConfigProto(operation_timeout_in_ms=int(LOAD_SECONDS * 1000))
    config.experimental.disable_thread_spinning = cores() == 1
    return config


def _loader(folder: Path) -> Any:
    """Return what `tf.compat.v1.saved_model.load` is made of: it has read the graph, and loads it later."""
    from tensorflow.python.saved_model.loader_impl import SavedModelLoader

    return SavedModelLoader(str(folder))


def _has_tensors(signature: Any) -> bool:
    """Tell whether a signature is of nothing but dense tensors: one for the loader has an operation."""
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    return all(":" in tensor.name for tensor in tensors)


def _handles(graph: Any, signature: Any) -> Handles:
    inputs, outputs = (
        {name: graph.get_tensor_by_name(tensor.name)._as_tf_output() for name, tensor in side.items()}
        for side in (signature.inputs, signature.outputs)
    )
    return Handles(inputs, outputs)


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        message = 'TensorFlow is not installed here: pip install "seqserve[embedded]"'
        raise errors.BackendFailed(message) from error
    return tensorflow


def _translated(tf: Any, error: Exception, spec: Spec) -> errors.SeqserveError:
    """Return ours for TensorFlow's, without its message: that names nodes of the graph."""
    where = f"{spec.model} version {spec.version}"
    if isinstance(error, tf.errors.DeadlineExceededError):
        return errors.DeadlineExceeded(f"{where} did not answer in time")
    if isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)):
        return errors.BackendUnavailable(f"{where} has no room to compute", retry_after=1.0)
    node = getattr(getattr(error, "node_def", None), "name", "")
    log.warning("%s failed at node %r", where, node, exc_info=error)  # whose message may quote a caller
    return errors.BackendFailed(f"{where} failed on this input")
