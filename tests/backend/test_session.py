"""The Session where something is not installed; what it does with all there is, is in the backend suite."""

import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from seqserve.service import errors
from seqserve.service.backend import session
from seqserve.service.backend.base import State
from seqserve.service.backend.embedded import EmbeddedBackend


async def test_without_tensorflow_a_version_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models are listed all the same, so that the reason can be seen."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "shop" / "1").mkdir(parents=True)
    with pytest.raises(errors.BackendFailed, match=r"seqserve\[embedded\]"):
        session.load(tmp_path / "shop" / "1")
    backend = EmbeddedBackend(tmp_path, check_files=False)
    (state,) = await backend.versions("shop")
    assert state.state is State.FAILED
    assert isinstance(state.error, errors.BackendFailed)
    await backend.close()


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A SavedModel with an operation that nothing has."""
    module = tf.Module()
    lower = tf.function(tf.strings.lower, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": lower})
    graph = tmp_path / "1" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    nodes = [node for f in saved.meta_graphs[0].graph_def.library.function for node in f.node_def]
    for node in nodes:
        if node.op == "StringLower":
            node.op = "StringFoldAway"
    graph.write_bytes(saved.SerializeToString())
    return tmp_path / "1"


def test_an_operation_that_nothing_has_is_named(strange: Path) -> None:
    with pytest.raises(
        errors.BackendFailed, match="'StringFoldAway', which neither TensorFlow nor tensorflow_text"
    ):
        session.load(strange)


def test_without_tensorflow_text_its_operation_says_what_to_install(
    strange: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(errors.BackendFailed, match=r"'StringFoldAway'.*pip install \"seqserve\[text\]\""):
        session.load(strange)


def test_a_load_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph runs when it is loaded is its own: it holds no thread for ever."""
    graph = tf.Graph()
    with graph.as_default():
        endless = tf.while_loop(lambda n: n > -1, lambda n: (n + 1 - 1,), (tf.constant(1),))
        init = tf.group(*endless)
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
    with tf.compat.v1.Session(graph=graph) as one:
        builder.add_meta_graph_and_variables(one, ["serve"], main_op=init)
    builder.save()
    monkeypatch.setattr(session, "LOAD_SECONDS", 0.1)
    with pytest.raises(errors.BackendFailed, match="the SavedModel cannot be loaded") as caught:
        session.load(tmp_path / "1")
    assert isinstance(caught.value.__cause__, tf.errors.DeadlineExceededError)


@pytest.mark.parametrize(("cores", "spins"), [(1, False), (2, True)])
def test_on_one_core_no_thread_looks_for_work_before_it_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, spins: bool
) -> None:
    """There it would keep those from running who could give it any."""
    module = tf.Module()
    lower = tf.function(tf.strings.lower, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": lower})
    monkeypatch.setattr(session, "cores", lambda: cores)
    config = session.load(tmp_path / "1").session._config
    assert config.experimental.disable_thread_spinning is not spins
    assert config.operation_timeout_in_ms > 0
