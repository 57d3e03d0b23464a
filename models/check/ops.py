"""No op that only one kind of device, or a specially built server, can run, or that reaches for the host."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seqserve.service.backend.graph_ops import check_graph
from seqserve.service.errors import FailedPrecondition


class DeviceOnlyOp(FailedPrecondition):
    """The graph holds an op that does not run on every device; the message names it."""

    reason = "DEVICE_ONLY_OP"


Shape = list[int | None]
Shapes = Mapping[str, Shape]
"""Of the values in a graph or function, by NAME:PLACE."""


def check_ops(folder: Path) -> None:
    """Refuse cuDNN ops, and XLA ops or functions marked to be compiled: stock servers run neither.

    And products of tensors that TensorFlow up to 2.21 reads beyond their ends on CPUs with AVX-512: wrong
    numbers, or the process's end (https://github.com/tensorflow/tensorflow/issues/117700).

    Raises:
        DeviceOnlyOp, UnsafeOp: naming node and op.
    """
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    check_graph(saved)
    for node, shapes in _nodes(saved):
        compiled = node.attr["_XlaMustCompile"].b if "_XlaMustCompile" in node.attr else False
        if "cudnn" in node.op.lower() or node.op.startswith("Xla") or compiled:
            raise DeviceOnlyOp(f"{node.name!r} is a {node.op}{' marked for XLA' if compiled else ''}")
        if node.op.startswith("BatchMatMul"):
            left, right = (shapes.get(_place(value), []) for value in node.input[:2])
            if len(left) > 3 and right and (len(right) < len(left) or right[0] == 1 != left[0]):
                raise DeviceOnlyOp(
                    f"{node.name!r} multiplies {left} by {right}, which TensorFlow does wrongly on some"
                    " processors (its issue 117700): make it a product of two or three dimensions, by"
                    " tf.reshape, or in Keras by EinsumDense in place of Dense"
                )


def _nodes(saved: SavedModel) -> Iterator[tuple[NodeDef, Shapes]]:
    """Yield every node, with the shapes in its graph or function."""
    for meta in saved.meta_graphs:
        shapes = dict(_shapes(meta.graph_def.node))
        yield from ((node, shapes) for node in meta.graph_def.node)
        for function in meta.graph_def.library.function:
            arguments = enumerate(function.signature.input_arg)
            given = {argument.name: function.arg_attr[place].attr for place, argument in arguments}
            shapes = {name: shape for arg in given for name, shape in _outputs(arg, given[arg])}
            shapes.update(_shapes(function.node_def))
            yield from ((node, shapes) for node in function.node_def)


def _shapes(nodes: Iterable[NodeDef]) -> Iterator[tuple[str, Shape]]:
    return ((name, shape) for node in nodes for name, shape in _outputs(node.name, node.attr))


def _outputs(name: str, attributes: Mapping[str, AttrValue]) -> Iterator[tuple[str, Shape]]:
    """Yield each output's shape, as the exporter wrote it down; one of any number of dimensions is empty."""
    if "_output_shapes" in attributes:
        for place, shape in enumerate(attributes["_output_shapes"].list.shape):
            yield f"{name}:{place}", [None if dim.size < 0 else dim.size for dim in shape.dim]


def _place(name: str) -> str:
    """Return an input, `node`, `node:1`, in functions `node:output:1` or `argument`, as `Shapes` has it."""
    node, *rest = name.split(":")
    return f"{node}:{rest[-1] if rest else 0}"
