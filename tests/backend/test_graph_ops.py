"""Graphs that reach for their host are refused, and those that read their own files are not."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from seqserve.service.backend import graph_ops, session
from seqserve.service.backend.base import State
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.graph_ops import check_graph
from seqserve.service.backend.op_rules import FORBIDDEN, NAMED, WORDED
from seqserve.service.errors import UnsafeOp

FOREIGN = "/etc/hostname"
Body = Callable[["Module", tf.Tensor], Any]


class Module(tf.Module):
    """One signature with what is tried in it, beside what graphs of this project read: an asset, a table."""

    def __init__(self, folder: Path, body: Body) -> None:
        super().__init__()
        (folder / "words.txt").write_text("a\nb\n")
        self.asset = tf.saved_model.Asset(str(folder / "words.txt"))
        whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        words = tf.lookup.TextFileInitializer(str(folder / "words.txt"), tf.string, whole, tf.int64, line)
        self.table = tf.lookup.StaticVocabularyTable(words, 1)
        self.weight = tf.Variable([1.0, 2.0])
        self.name_of_file = tf.Variable(FOREIGN)
        self._body = body

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        result = self._body(self, x)
        after = [result] if tf.is_tensor(result) or isinstance(result, tf.Operation) else []
        with tf.control_dependencies(after):
            return {"ids": self.table.lookup(x), "file": tf.io.read_file(self.asset.asset_path)}


def saved(folder: Path, body: Body) -> Path:
    """Save a module whose signature does something; returns the version's folder."""
    module, target = Module(folder, body), folder / "models" / "m" / "1"
    tf.saved_model.save(module, str(target), {"serving_default": module.call})
    return target


def message(version: Path) -> SavedModel:
    """Return a version's graph."""
    return SavedModel.FromString((version / "saved_model.pb").read_bytes())


def nothing(module: Module, x: tf.Tensor) -> None:
    """Do what every module does."""


def in_a_loop(module: Module, x: tf.Tensor) -> tf.Tensor:
    """Read what the caller names, as often as there are names."""
    return tf.map_fn(tf.io.read_file, x)


def in_a_branch(module: Module, x: tf.Tensor) -> tf.Tensor:
    """Read a file in one case."""
    return tf.cond(tf.size(x) > 3, lambda: tf.io.read_file(FOREIGN), lambda: "")


def remembered(module: Module, x: tf.Tensor) -> tf.Tensor:
    """Read what another call has named."""
    old = module.name_of_file.read_value()
    module.name_of_file.assign(x[0])
    return tf.io.read_file(old)


def table(module: Module, x: tf.Tensor) -> tf.Operation:
    """Fill a table from any file."""
    handle = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    columns = {"key_index": -2, "value_index": -1}
    return tf.raw_ops.InitializeTableFromTextFileV2(table_handle=handle, filename=x[0], **columns)


HOSTILE: dict[str, tuple[Body, str]] = {
    "writes": (lambda m, x: tf.io.write_file("/tmp/x", x[0]), "WriteFile"),
    "reads a path": (lambda m, x: tf.io.read_file(FOREIGN), "ReadFile"),
    "reads what a caller names": (lambda m, x: tf.io.read_file(x[0]), "ReadFile"),
    "reads beside its assets": (
        lambda m, x: tf.io.read_file(tf.strings.join([m.asset.asset_path, "/../../../x"])),
        "ReadFile",
    ),
    "reads what its weights name": (lambda m, x: tf.io.read_file(m.name_of_file), "ReadFile"),
    "reads what was named before": (remembered, "ReadFile"),
    "reads in a loop": (in_a_loop, "ReadFile"),
    "reads in a branch": (in_a_branch, "ReadFile"),
    "reads a table": (table, "InitializeTableFromTextFileV2"),
    "reads lines": (
        lambda m, x: tf.data.TextLineDataset(x).reduce(tf.constant(""), lambda a, b: a + b),
        "TextLineDataset",
    ),
    "reads a checkpoint": (
        lambda m, x: tf.raw_ops.RestoreV2(
            prefix=x[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string]
        )[0],
        "RestoreV2",
    ),
    "writes a checkpoint": (
        lambda m, x: tf.raw_ops.SaveV2(
            prefix="/tmp/x", tensor_names=["a"], shape_and_slices=[""], tensors=[x]
        ),
        "SaveV2",
    ),
    "lists a folder": (lambda m, x: tf.io.matching_files("/etc/*"), "MatchingFiles"),
    "prints to a file": (lambda m, x: tf.print(x, output_stream="file:///tmp/x"), "PrintV2"),
    "runs Python": (lambda m, x: tf.py_function(lambda: "", [], tf.string), "EagerPyFunc"),
    "ends the process": (lambda m, x: tf.raw_ops.Abort(), "Abort"),
}


@pytest.mark.parametrize(("body", "op"), HOSTILE.values(), ids=HOSTILE)
def test_what_reaches_for_the_host_is_refused_with_node_and_operation(
    tmp_path: Path, body: Body, op: str
) -> None:
    with pytest.raises(UnsafeOp, match=rf"^node '[\w/]+' of function '\w+' is a {op}: it "):
        check_graph(message(saved(tmp_path, body)))


async def test_it_is_refused_before_it_is_loaded_and_another_version_goes_on(tmp_path: Path) -> None:
    """What loads reads its asset and its table through the Session; the other's file is not written."""
    target = tmp_path / "written"
    hostile = saved(tmp_path, lambda m, x: tf.io.write_file(str(target), "x"))
    hostile.rename(hostile.with_name("2"))
    saved(tmp_path, nothing)
    backend = EmbeddedBackend(tmp_path / "models", check_files=False)
    newest, older = await backend.versions("m")
    assert (newest.state, older.state) == (State.FAILED, State.AVAILABLE)
    assert isinstance(newest.error, UnsafeOp)
    await backend.close()
    assert not target.exists()


@pytest.fixture
def harmless(tmp_path: Path) -> SavedModel:
    """A graph that passes: it reads an asset, fills a table from one, restores and saves its weights."""
    version = saved(tmp_path, nothing)
    assert session.load(version).signatures["serving_default"]
    graph = message(version)
    functions = graph.meta_graphs[0].graph_def.library.function
    assert {node.op for function in functions for node in function.node_def} >= set(NAMED) - {
        "InitializeTableFromTextFile"
    }
    check_graph(graph)
    return graph


def feed_asset(meta: Any) -> None:
    """Let callers give the path of an asset."""
    meta.signature_def["serving_default"].inputs["x"].name = meta.asset_file_def[0].tensor_info.name


def feed_variable(meta: Any) -> None:
    """Let callers give what is read from the variable that holds the path."""
    reads = (n for n in meta.graph_def.node if n.op == "ReadVariableOp" and n.attr["dtype"].type == 7)
    for number, node in enumerate(reads):
        meta.signature_def["serving_default"].inputs[f"x{number}"].name = f"{node.name}:0"


def leave_assets(meta: Any) -> None:
    """Name a file outside as an asset."""
    meta.asset_file_def[0].filename = "../../../../etc/hostname"


def alias_variable(meta: Any) -> None:
    """Assign a path to a second handle of the variable that holds the path."""
    shared = next(n for n in meta.graph_def.node if n.op == "VarHandleOp" and n.attr["dtype"].type == 7).attr[
        "shared_name"
    ]
    nodes = meta.graph_def.node
    handle = nodes.add(name="other", op="VarHandleOp")
    handle.attr["shared_name"].CopyFrom(shared)
    nodes.add(name="path", op="Const").attr["dtype"].type = 7
    nodes.add(name="assign", op="AssignVariableOp", input=["other", "path"]).attr["dtype"].type = 7


def reader(meta: Any) -> Any:
    """Return the function that reads an asset."""
    functions = meta.graph_def.library.function
    return next(f for f in functions if any(node.op == "ReadFile" for node in f.node_def))


def swap_function(meta: Any) -> None:
    """Let the function that reads take the place of another, which is given what callers send."""
    functions, nodes = meta.graph_def.library.function, meta.graph_def.node
    other = functions.add()
    other.signature.name = "other"
    other.signature.input_arg.extend(reader(meta).signature.input_arg)
    for function in (reader(meta), other):
        function.attr["api_implements"].s = b"same"
    nodes.add(name="given", op="Placeholder")
    count = len(other.signature.input_arg)
    nodes.add(name="call", op="PartitionedCall", input=["given"] * count).attr["f"].func.name = "other"


def hand_on_function(meta: Any) -> None:
    """Give the function that reads to an operation that calls it with what it likes."""
    meta.graph_def.node.add(name="map", op="MapDataset").attr["f"].func.name = reader(meta).signature.name


def open_attribute(meta: Any) -> None:
    """Leave an attribute to the callers of a function."""
    node = reader(meta).node_def.add(name="print", op="PrintV2")
    node.attr["output_stream"].placeholder = "where"


def two_of_one_name(meta: Any) -> None:
    """Hide a function behind another of its name."""
    meta.graph_def.library.function.add().CopyFrom(reader(meta))


FROM_ELSEWHERE = "takes a file's name from elsewhere"
TRICKS: list[tuple[Callable[[Any], None], str]] = [
    (feed_asset, FROM_ELSEWHERE),
    (feed_variable, FROM_ELSEWHERE),
    (leave_assets, "does not lie in assets/"),
    (alias_variable, FROM_ELSEWHERE),
    (swap_function, FROM_ELSEWHERE),
    (hand_on_function, FROM_ELSEWHERE),
    (open_attribute, "is a PrintV2: it has an attribute that only"),
    (two_of_one_name, "stands for two"),
]


def test_the_way_to_an_own_file_cannot_be_bent(harmless: SavedModel) -> None:
    """Each trick changes one thing in a graph that passes."""
    for trick, why in TRICKS:
        bent = SavedModel.FromString(harmless.SerializeToString())
        trick(bent.meta_graphs[0])
        with pytest.raises(UnsafeOp, match=why):
            check_graph(bent)


def tower(meta: Any, op: str, name: str, base: str, levels: int = 6) -> str:
    """Add values, each made of the one before, twice; return the last."""
    for level in range(levels):
        first = ["given"] if op == "Select" else []
        meta.graph_def.node.add(name=f"{name}{level}", op=op, input=[*first, base, base])
        base = f"{name}{level}"
    return base


@pytest.mark.parametrize("ending", [b".data", b"/../../x"])
def test_names_made_of_one_another_are_asked_about_once_each(
    harmless: SavedModel, ending: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looking costs grows with the nodes, not with the ways to them; and one bad ending is found."""
    meta = harmless.meta_graphs[0]
    nodes = meta.graph_def.node
    nodes.add(name="given", op="Placeholder")
    nodes.add(name="ending", op="Const").attr["value"].tensor.string_val.append(ending)
    asset = meta.asset_file_def[0].tensor_info.name
    nodes.add(name="join", op="StringJoin", input=[asset, tower(meta, "Select", "either", "ending")])
    nodes.add(name="read", op="ReadFile", input=[tower(meta, "Pack", "both", "join")])
    asked, origins = 0, graph_ops._Graph._origins

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return origins(*arguments)

    monkeypatch.setattr(graph_ops._Graph, "_origins", counted)
    if ending == b".data":
        check_graph(harmless)
    else:
        with pytest.raises(UnsafeOp, match="node 'read' is a ReadFile"):
            check_graph(harmless)
    assert asked < 1000


@pytest.mark.parametrize(
    ("op", "why"), [("Identity", ""), ("Pack", "node 'read' is a ReadFile: .* in too many steps")]
)
def test_a_name_is_followed_as_far_as_it_goes_or_the_graph_is_refused(
    harmless: SavedModel, op: str, why: str
) -> None:
    """However many nodes pass it on; where each makes a new one of the last, to some depth."""
    meta = harmless.meta_graphs[0]
    asset = meta.asset_file_def[0].tensor_info.name
    meta.graph_def.node.add(name="read", op="ReadFile", input=[tower(meta, op, "high", asset, 3000)])
    with pytest.raises(UnsafeOp, match=why) if why else nullcontext():
        check_graph(harmless)


SOUNDS_LIKE_FILES = re.compile(
    r"file|path|ckpt|checkpoint|logdir|url|address|descriptor_source|output_stream|driver|shard_dir"
    r"|directory|data_source|pattern|prefix|^token$|log_dir"
)
HARMLESS = {
    *("CTCBeamSearchDecoder", "RegexFullMatch", "RegexReplace", "StaticRegexFullMatch"),
    *("StaticRegexReplace", "TensorSliceDataset", "SetStatsAggregatorDataset"),
    *("ExperimentalSetStatsAggregatorDataset",),
}
"""Paths of a lattice, regular expressions, whether strings are names, what metrics are called."""


def test_every_operation_of_tensorflow_with_a_file_is_known() -> None:
    """By the names of its inputs and attributes: what a new TensorFlow adds is found here."""
    unknown = []
    for name in dir(tf.raw_ops):
        op = op_def_registry.get(name)
        if op is not None and name not in {*FORBIDDEN, *NAMED, *WORDED, *HARMLESS}:
            names = [each.name for each in (*op.input_arg, *op.attr)]
            unknown += [f"{name}: {each}" for each in names if SOUNDS_LIKE_FILES.search(each)]
    assert not unknown


def test_every_model_of_the_tests_passes(root: Path, kinds: Path, translators: Path, brought: Path) -> None:
    """Ours of each kind, and those that users bring."""
    versions = [version for each in (root, kinds, translators, brought) for version in each.glob("*/1")]
    assert len(versions) > 10
    for version in versions:
        check_graph(message(version))
