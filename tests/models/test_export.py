"""Export and certification: a version explains itself, is as exported, and shows what leaks."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow_serving.apis import prediction_log_pb2

from seqserve.models.check import check_version
from seqserve.models.check.loaded import Server
from seqserve.models.check.ops import DeviceOnlyOp, check_ops
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.draft import Draft, clearest
from seqserve.models.export import WARMUP, VersionExists, export_version, publish
from seqserve.service import errors
from seqserve.service.contract.manifest import (
    FILE_NAME,
    PREDICT_SIGNATURE,
    Categories,
    Limits,
    Manifest,
    Signature,
    Softmax,
    Tensor,
    dump_manifest,
    parse_manifest,
)
from tests.tfserving.reload import ModelServer, config_file

pytestmark = pytest.mark.slow
LABELS = ("a", "b", "c")


@pytest.fixture(params=["en-de/1", "shop/1"])
def version(request: pytest.FixtureRequest, root: Path) -> Path:
    """Each of the two small models."""
    return root / str(request.param)


@pytest.fixture
def copy(version: Path, tmp_path: Path) -> Path:
    """A copy of a version, to be damaged."""
    return Path(shutil.copytree(version, tmp_path / version.parent.name / version.name))


def session_of(folder: Path) -> tuple[tf.compat.v1.Session, Any]:
    """Load as TensorFlow Serving does."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        return session, tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def


def test_the_version_gives_its_own_contract(version: Path) -> None:
    """The signature `manifest`, called on a version that lies elsewhere, returns the files' very bytes."""
    session, signatures = session_of(version)
    outputs = {name: tensor.name for name, tensor in signatures["manifest"].outputs.items()}
    given = session.run(outputs)
    files = {name.decode(): content for name, content in zip(given["names"], given["contents"], strict=True)}
    assert files == {path.name: path.read_bytes() for path in (version / "assets").iterdir()}
    assert FILE_NAME in files


def test_signatures_are_what_the_manifest_says(version: Path) -> None:
    """Names and dtypes of every input and output agree between graph and manifest."""
    manifest = parse_manifest((version / "assets" / FILE_NAME).read_bytes())
    _, signatures = session_of(version)
    for name, declared in manifest.signatures.items():
        for tensors, graph in (
            (declared.inputs, signatures[name].inputs),
            (declared.outputs, signatures[name].outputs),
        ):
            assert {n: t.dtype for n, t in tensors.items()} == {
                n: tf.dtypes.as_dtype(t.dtype).name for n, t in graph.items()
            }


def test_warmup_records_are_replayed(version: Path) -> None:
    """Every record is an official PredictionLog, and the graph answers it."""
    session, signatures = session_of(version)
    records = list(tf.data.TFRecordDataset(str(version / WARMUP)).as_numpy_iterator())
    assert 3 <= len(records) <= 1000
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        signature = signatures[request.model_spec.signature_name]
        feeds = {signature.inputs[n].name: tf.make_ndarray(t) for n, t in request.inputs.items()}
        session.run([tensor.name for tensor in signature.outputs.values()], feeds)


@pytest.mark.parametrize("where", ["embedded", "tfserving"])
@pytest.mark.parametrize("name", ["en-de", "shop", "waves", "steps", "loads"])
def test_our_models_pass_on_both_backends(
    name: str, where: str, root: Path, kinds: Path, model_server: ModelServer
) -> None:
    """`check` certifies a small model of each kind, and tells what: each signature, the goldens."""
    folder = (root if name in ("en-de", "shop") else kinds) / name
    model_server.serve(config_file({name: folder}))
    server = Server(model_server.address) if where == "tfserving" else None
    told = "\n".join(check_version(folder / "1", server))
    assert ("has this very version" in told) == (where == "tfserving")
    manifest = parse_manifest((folder / "1/assets" / FILE_NAME).read_bytes())
    for signature in manifest.serving_signatures:
        assert re.search(rf"'{signature}': padding is invisible for [3-9] rows \(padded \d+", told)
    assert ("'step': event by event equals the whole" in told) == (name == "shop")
    assert re.search(r"[3-5] golden examples hold", told)


@pytest.mark.parametrize("place", range(4))
def test_a_flipped_byte_in_any_file_is_named(copy: Path, place: int) -> None:
    """Graph, variables, contract files, warm-up records: the changed file is named."""
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != FILE_NAME]
    damaged = files[place * (len(files) - 1) // 3]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(errors.FileChanged, match=re.escape(damaged.relative_to(copy).as_posix())):
        check_version(copy)


def test_a_file_that_was_added_or_lost_is_named(copy: Path) -> None:
    """Nothing can be slipped in beside what was exported."""
    (copy / "assets" / "extra.txt").write_text("x")
    with pytest.raises(errors.FileChanged, match=r"extra\.txt"):
        check_version(copy)


def test_another_answer_than_recorded_is_refused(copy: Path) -> None:
    """A golden that the model does not give fails `check`, and the message says where."""
    path = copy / "assets" / FILE_NAME
    table = json.loads(path.read_bytes())
    first = table["examples"][0]["items"][0]
    if "text" in first:
        first["text"] += "!"
    else:
        first["heads"]["next_event"]["probability"] += 0.01
    path.write_bytes(json.dumps(table).encode())
    with pytest.raises(errors.GoldenFailed, match=r"examples\.0: items\.0\.(text|heads\.next_event)"):
        check_version(copy)


def test_publish_copies_the_bytes_and_never_overwrites(version: Path, tmp_path: Path) -> None:
    """The copy is the same version under a new number; a changed source is refused."""
    name = version.parent.name
    assert publish(version, tmp_path) == tmp_path / name / "1"
    assert publish(version, tmp_path) == tmp_path / name / "2"
    assert publish(version, tmp_path, 7) == tmp_path / name / "7"
    with pytest.raises(VersionExists):
        publish(version, tmp_path, 7)
    check_version(tmp_path / name / "7")
    (tmp_path / name / "2" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(errors.FileChanged):
        publish(tmp_path / name / "2", tmp_path)
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["1", "2", "7"]


def test_examples_are_clear_and_of_different_lengths() -> None:
    """Of the short, the middling and the long third, the clearest."""
    assert clearest([1, 9, 2, 8, 5, 6], [0.1, 0.9, 0.2, 0.95, 0.3, 0.2]) == [2, 4, 3]


# --- what leaks ---------------------------------------------------------------------------------


def masked(x: Any, mask: Any) -> Any:
    """Put zeros where there is padding."""
    return x * ops.cast(mask, "float32")[:, :, None]


def masked_mean(x: Any, mask: Any) -> Any:
    """Return the mean over real steps, (batch, width)."""
    return ops.sum(masked(x, mask), axis=1) / ops.sum(ops.cast(mask, "float32"), axis=1)[:, None]


class NormConv(layers.Layer):
    """BatchNorm makes padding non-zero; Conv1D carries it into the last real steps, unless masked before."""

    def __init__(self, mask_between: bool) -> None:
        super().__init__()
        self.mask_between = mask_between
        self.norm, self.conv = layers.BatchNormalization(), layers.Conv1D(4, 3, padding="same")

    def call(self, x: Any, mask: Any) -> Any:
        normed = self.norm(masked(x, mask))
        return masked_mean(self.conv(masked(normed, mask) if self.mask_between else normed), mask)


class Attend(layers.Layer):
    """Dot-product attention over the sequence, with or without its mask."""

    def __init__(self, use_mask: bool) -> None:
        super().__init__()
        self.use_mask = use_mask
        self.attention = layers.Attention()

    def call(self, x: Any, mask: Any) -> Any:
        return masked_mean(self.attention([x, x], mask=[mask, mask] if self.use_mask else None), mask)


Body = Callable[[Any, Any], Any]
CASES: dict[str, tuple[Callable[[], Body], bool]] = {
    "batch norm, then convolution": (lambda: NormConv(mask_between=False), True),
    "batch norm, mask, convolution": (lambda: NormConv(mask_between=True), False),
    "attention without mask": (lambda: Attend(use_mask=False), True),
    "attention with mask": (lambda: Attend(use_mask=True), False),
    "mean over time": (lambda: lambda x, mask: ops.mean(x, axis=1), True),
    "mean over real steps": (lambda: masked_mean, False),
    "the first row's mask for all": (lambda: lambda x, mask: masked_mean(x, mask[:1] & (mask | True)), True),
    "a difference from the row before": (lambda: lambda x, mask: masked_mean(x - x[:1] * 0.1, mask), True),
}


def draft_of(body: Body, function: Callable[..., Any] | None = None) -> Draft:
    """A classifier of label sequences around a body (batch, time, 4), mask -> (batch, width)."""
    ids = keras.Input((None,), dtype="int32", name="event")
    embedded = layers.Embedding(4, 4, embeddings_initializer="normal")(ids)

    class Inner(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def call(self, x: Any, ids: Any) -> Any:
            return self.body(x, ops.not_equal(ids, 0))

    network = keras.Model(ids, layers.Dense(3)(Inner()(embedded, ids)))
    random = np.random.default_rng(1)
    # positive: a variance is; and a batch norm whose mean is 0 would map padding to itself
    network.set_weights([random.uniform(0.2, 2, weight.shape) for weight in network.get_weights()])
    sizes = ("batch", "time")
    manifest = Manifest(
        task="sequence",
        name="leak",
        version=1,
        signatures={
            PREDICT_SIGNATURE: Signature(
                inputs={"event": Tensor(dtype="int32", axes=sizes, pad_value=0)},
                outputs={"label": Tensor(dtype="float32", axes=("batch", "label"))},
            )
        },
        features={"event": Categories(labels=LABELS, first_id=1)},
        heads={"label": Softmax(labels=LABELS, scores="logits")},
        limits=Limits(sequence_steps=16),
        buckets=(4, 16),
    )
    requests = [{"sequences": [{"event": list(events)}]} for events in ("a", "abcab", "ccbaabcba")]
    functions = {PREDICT_SIGNATURE: function or (lambda event: {"label": network(event)})}
    return Draft(network, functions, manifest, {}, requests)


@pytest.mark.parametrize("name", CASES)
def test_what_leaks_is_found_and_its_output_named(name: str, tmp_path: Path) -> None:
    """The answer to "which layers support masking?": it is measured, and refused before it ships."""
    body, leaks = CASES[name]
    draft = draft_of(body())
    if not leaks:
        check_version(export_version(draft, tmp_path))
        return
    with pytest.raises(PaddingLeak, match="output 'label'"):
        export_version(draft, tmp_path)
    assert not (tmp_path / "leak" / "1").exists()


def test_a_leak_that_is_allowed_goes_alone(tmp_path: Path) -> None:
    """Shipped by choice, the model takes one row a call; claiming otherwise is refused by `check`."""
    body, _ = CASES["mean over time"]
    version = export_version(draft_of(body()), tmp_path, allow_leak=True)
    path = version / "assets" / FILE_NAME
    manifest = parse_manifest(path.read_bytes())
    assert manifest.batching == "single"
    check_version(version)
    path.write_bytes(dump_manifest(manifest.model_copy(update={"batching": "shared"})))
    with pytest.raises(PaddingLeak, match="output 'label'"):
        check_version(version)


def test_a_graph_for_one_device_is_refused(tmp_path: Path) -> None:
    """A function compiled by XLA is found wherever it is called from, and so is a cuDNN op."""

    @tf.function(jit_compile=True)
    def compiled(event: Any) -> Any:
        return tf.one_hot(event[:, 0] % 3, 3) * 2.0

    draft = draft_of(masked_mean, lambda event: {"label": compiled(event)})
    with pytest.raises(DeviceOnlyOp, match="marked for XLA"):
        export_version(draft, tmp_path)
    graph = tf.Graph()
    with graph.as_default():
        x = tf.zeros([2, 1, 3])
        tf.raw_ops.CudnnRNN(
            input=x, input_h=tf.zeros([1, 1, 3]), input_c=tf.zeros([1, 1, 3]), params=tf.zeros([96])
        )
    saved = tf.compat.v1.saved_model.builder.SavedModelBuilder(str(tmp_path / "cudnn"))
    with tf.compat.v1.Session(graph=graph) as session:
        saved.add_meta_graph_and_variables(session, ["serve"], strip_default_attrs=True)
    saved.save()
    with pytest.raises(DeviceOnlyOp, match="CudnnRNN"):
        check_ops(tmp_path / "cudnn")


def test_an_exported_number_is_never_written_over(tmp_path: Path) -> None:
    """A version that is there stays what it is."""
    body, _ = CASES["mean over real steps"]
    export_version(draft_of(body()), tmp_path)
    with pytest.raises(VersionExists):
        export_version(draft_of(body()), tmp_path)
