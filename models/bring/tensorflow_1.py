"""A SavedModel of TensorFlow 1 whose variables a session holds, written again with their values in its graph.

Such variables have no object that a SavedModel of today could track; what they are initialized by is lost.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef

v1 = tf.compat.v1
HELD = ("VariableV2", "Variable")
"""Operations of variables that a session holds."""
INIT = "__saved_model_init_op"
ASSETS = "saved_model_assets"
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
SERVE = "serve"


def write_frozen(folder: Path, signature: str, target: Path) -> None:
    """Write one signature of a SavedModel to `target`, its variables as constants, its tables and assets too.

    Raises:
        Exception: of TensorFlow's, where the graph needs its variables as such.
    """
    with tf.Graph().as_default() as graph, v1.Session() as session:
        meta = v1.saved_model.load(session, [SERVE], str(folder))
        held = {op.name: op.outputs[0] for op in graph.get_operations() if op.type in HELD}
        values = session.run(held)
        nodes = {node.name: node for node in graph.as_graph_def(add_shapes=False).node}
        library = graph.as_graph_def().library
    definition, init = meta.signature_def[signature], _init_of(meta)
    assets = {
        _name(asset.tensor_info.name): str(folder / "assets" / asset.filename) for asset in _assets_of(meta)
    }
    for name, value in {**values, **assets}.items():
        nodes[name] = _constant(name, value)
    ends = [tensor.name for tensor in [*definition.outputs.values(), *definition.inputs.values()]]
    kept = v1.GraphDef(node=_needed(nodes, [*ends, *([init] if init else [])]), library=library)
    _write(kept, definition, init, list(assets), target)


def _assets_of(meta: Any) -> list[Any]:
    """Return the definitions of the files that travel with the graph, from either place that has had them."""
    assets = list(meta.asset_file_def)
    for packed in meta.collection_def[ASSETS].any_list.value if ASSETS in meta.collection_def else ():
        asset = AssetFileDef()
        packed.Unpack(asset)
        assets.append(asset)
    return assets


def _init_of(meta: Any) -> str | None:
    """Return the operation that fills tables, under any of the names that it had."""
    if INIT in meta.signature_def:
        return str(meta.signature_def[INIT].outputs[INIT].name)
    for collection in INIT_COLLECTIONS:
        if collection in meta.collection_def:
            return str(meta.collection_def[collection].node_list.value[0])
    return None


def _name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _constant(name: str, value: Any) -> Any:
    with tf.Graph().as_default() as graph:
        tf.constant(value, name="value")
        (node,) = graph.as_graph_def().node
    node.name = name
    return node


def _needed(nodes: Mapping[str, Any], ends: Iterable[str]) -> list[Any]:
    """Return the nodes that the ends are computed from, in the graph's order."""
    waiting, reached = [_name(end) for end in ends], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += map(_name, nodes[name].input)
    return [node for name, node in nodes.items() if name in reached]


def _write(graph_def: Any, definition: Any, init: str | None, assets: list[str], target: Path) -> None:
    with tf.Graph().as_default() as graph, v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        for name in assets:
            if name in {node.name for node in graph_def.node}:
                v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, graph.get_tensor_by_name(f"{name}:0"))
        builder = v1.saved_model.Builder(str(target))
        builder.add_meta_graph_and_variables(
            session,
            [SERVE],
            {"serving_default": definition},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=graph.get_operation_by_name(_name(init)) if init else None,
        )
        builder.save()
