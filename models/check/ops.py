"""No op that only one kind of device, or a specially built server, can run, or that reaches for the host."""

from collections.abc import Iterator
from pathlib import Path

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seqserve.service.backend.graph_ops import check_graph
from seqserve.service.errors import FailedPrecondition


class DeviceOnlyOp(FailedPrecondition):
    """The graph holds an op that does not run on every device; the message names it."""

    reason = "DEVICE_ONLY_OP"


def check_ops(folder: Path) -> None:
    """Refuse cuDNN ops, and XLA ops or functions marked to be compiled: stock servers run neither.

    Raises:
        DeviceOnlyOp, UnsafeOp: naming node and op.
    """
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    check_graph(saved)
    for node in _nodes(saved):
        compiled = node.attr["_XlaMustCompile"].b if "_XlaMustCompile" in node.attr else False
        if "cudnn" in node.op.lower() or node.op.startswith("Xla") or compiled:
            raise DeviceOnlyOp(f"{node.name!r} is a {node.op}{' marked for XLA' if compiled else ''}")


def _nodes(saved: SavedModel) -> Iterator[NodeDef]:
    for meta in saved.meta_graphs:
        yield from meta.graph_def.node
        for function in meta.graph_def.library.function:
            yield from function.node_def
