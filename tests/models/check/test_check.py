"""Certification: a version is as exported, and what leaks is shown."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seqserve.models.check import check_version
from seqserve.models.check.ops import DeviceOnlyOp, check_ops
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.pipeline import Server
from seqserve.models.export import export_version
from seqserve.service import errors
from seqserve.service.contract.digest import file_hashes
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import dump_manifest, parse_manifest
from tests.models.bodies import CASES, draft_of, masked_mean
from tests.tfserving.reload import ModelServer, config_file

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(version: Path, tmp_path: Path) -> Path:
    """A copy of a version, to be damaged."""
    return Path(shutil.copytree(version, tmp_path / version.parent.name / version.name))


@pytest.mark.parametrize("where", ["embedded", "tfserving"])
@pytest.mark.parametrize("name", ["en-de", "shop", "waves", "steps", "loads"])
def test_our_models_pass_on_both_backends(
    name: str, where: str, root: Path, kinds: Path, model_server: ModelServer
) -> None:
    """`check` certifies a small model of each kind, and reports on each signature and the goldens."""
    folder = (root if name in ("en-de", "shop") else kinds) / name
    model_server.serve(config_file({name: folder}))
    server = Server(model_server.address) if where == "tfserving" else None
    report = "\n".join(check_version(folder / "1", server))
    assert ("has this very version" in report) == (where == "tfserving")
    manifest = parse_manifest((folder / "1/assets" / FILE_NAME).read_bytes())
    for signature in manifest.serving_signatures:
        assert re.search(rf"'{signature}': padding is invisible for [3-9] rows \(padded \d+", report)
    assert ("'step': event by event equals the whole" in report) == (name == "shop")
    assert re.search(r"[3-5] golden examples hold", report)


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


@pytest.mark.parametrize("name", CASES)
def test_what_leaks_is_refused_and_its_output_named(name: str, tmp_path: Path) -> None:
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


def test_a_graph_that_reaches_for_the_host_is_refused(copy: Path, tmp_path: Path) -> None:
    """Though every digest is right: node and operation are named, and nothing of it has run."""
    graph, manifest = copy / "saved_model.pb", copy / "assets" / FILE_NAME
    saved, target = SavedModel.FromString(graph.read_bytes()), tmp_path / "written"
    nodes = saved.meta_graphs[0].graph_def.node
    for name in ("path", "text"):
        constant = nodes.add(name=name, op="Const").attr
        constant["dtype"].type = tf.string.as_datatype_enum
        constant["value"].tensor.CopyFrom(tf.make_tensor_proto(str(target)))
    nodes.add(name="intruder", op="WriteFile", input=["path", "text"])
    next(node for node in nodes if node.op == "NoOp").input.append("^intruder")  # what runs at each load
    graph.write_bytes(saved.SerializeToString())
    exported = parse_manifest(manifest.read_bytes())
    manifest.write_bytes(dump_manifest(exported.model_copy(update={"files": file_hashes(copy)})))
    with pytest.raises(errors.UnsafeOp, match="node 'intruder' is a WriteFile: it writes files"):
        check_version(copy)
    assert not target.exists()


def test_a_graph_for_one_device_is_refused(tmp_path: Path) -> None:
    """A function compiled by XLA is refused wherever it is called from, and so is a cuDNN op."""

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


@pytest.mark.parametrize(
    ("left", "right", "is_refused"),
    [
        ((None, 2, None, 3), (3, 4), True),
        ((None, 2, None, 3), (2, 3, 4), True),
        ((None, 2, None, 3), (1, 2, 3, 4), True),
        ((None, 2, None, 3), (None, 1, 3, 4), False),
        ((1, 2, None, 3), (1, 2, 3, 4), False),
        ((None, None, 3), (3, 4), False),
        ((2, 3), (None, 2, 3, 4), False),
    ],
)
def test_a_product_that_tensorflow_reads_too_far_for_is_refused(
    left: tuple[int, ...], right: tuple[int, ...], is_refused: bool, tmp_path: Path
) -> None:
    """In a signature and in a loop of it: https://github.com/tensorflow/tensorflow/issues/117700."""

    def looped(a: Any, b: Any) -> Any:
        def step(i: Any, _: Any) -> tuple[Any, Any]:
            return i + 1, tf.reduce_sum(tf.matmul(a, b))

        return tf.while_loop(lambda i, _: i < 1, step, [0, 0.0])[1]

    specs = [tf.TensorSpec(left), tf.TensorSpec(right)]
    for name, function in (("once", tf.matmul), ("looped", looped)):
        folder = tmp_path / name
        module = tf.Module()
        tf.saved_model.save(module, str(folder), {"serve": tf.function(function, input_signature=specs)})
        if is_refused:
            with pytest.raises(DeviceOnlyOp, match="issue 117700"):
                check_ops(folder)
        else:
            check_ops(folder)
