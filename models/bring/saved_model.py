"""A SavedModel that somebody else wrote, by one of its signatures: of Keras 2 and 3, modules, TensorFlow 1.

What TensorFlow Serving's loader could not run is refused here, with the input or operation named.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.tensorflow_1 import HELD, write_frozen
from seqserve.models.config import ConfigInvalid, in_short
from seqserve.service.contract.manifest import FILE_NAME

DEFAULT = "serving_default"
MOST_PADS = 8
PARSING = ("ParseExample", "ParseSingleExample", "ParseSequenceExample", "ParseSingleSequenceExample")
PYTHON = ("PyFunc", "EagerPyFunc", "PyFuncStateless")


@dataclass(frozen=True, slots=True)
class SavedModelFile:
    """A signature as a function of its inputs in order; `network` is the loaded object."""

    network: Any
    signature: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    compared: tuple[float, ...]

    def call(self, fed: Sequence[Any]) -> list[Any]:
        """Return the outputs, in order, for the inputs, in order."""
        named = {port.name: value for port, value in zip(self.inputs, fed, strict=True)}
        answered = self.signature(**named)
        return [answered[port.name] for port in self.outputs]

    def maybe_masks(self) -> bool:
        """True: a graph does not show its layers, so it must be tried."""
        return True

    def masked_values(self) -> dict[str, float]:
        """Return nothing: there are no layers."""
        return {}

    def pads(self) -> list[float]:
        """Return the numbers that the graph compares with, as a `Masking` layer does, and 0."""
        return [*self.compared, *([] if 0.0 in self.compared else [0.0])]

    def computes_in_halves(self) -> bool:
        """Say whether any node gives numbers of 16 bits."""
        halves = (tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum)
        nodes = _nodes(self.signature.graph.as_graph_def())
        return any(node.attr["T"].type in halves for node in nodes if "T" in node.attr)


def load_saved_model(folder: Path, wanted: str | None = None) -> SavedModelFile:
    """Load a SavedModel by a signature: the one that is wanted, else `serving_default`, else the only one.

    Raises:
        ConfigInvalid: no such folder or signature, a fixed batch, unknown shapes, or operations that
            TensorFlow Serving could not run.
    """
    loaded = _loaded(folder)
    name = _chosen(folder, list(loaded.signatures), wanted)
    signature = loaded.signatures[name]
    inputs = _ports(folder, name, signature.structured_input_signature[1])
    outputs = _ports(folder, name, signature.structured_outputs)
    where = f"{folder}: signature {name!r}"
    nodes = list(_nodes(signature.graph.as_graph_def()))
    _check_ops(where, {node.op for node in nodes}, inputs, [n for n in loaded.signatures if n != name])
    held = next((node for node in nodes if node.op in HELD), None)
    if held is not None:
        return _frozen(folder, name, held)
    for port in inputs:
        if not port.shape or port.shape[0] is not None:
            raise ConfigInvalid(
                f"{where}: input {port} has no open batch axis: rows of several callers share a batch. Save "
                "it again with None as the first size of the input's TensorSpec"
            )
    return SavedModelFile(loaded, signature, inputs, outputs, tuple(_compared(nodes)))


def _loaded(folder: Path) -> Any:
    if not any((folder / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise ConfigInvalid(f"{folder}: a folder with a saved_model.pb is expected, or MODEL.keras (.h5)")
    if (folder / "assets" / FILE_NAME).exists():
        raise ConfigInvalid(
            f"{folder}: assets/{FILE_NAME} is there already: to copy a version, seqserve publish; a file of "
            "one's own must have another name"
        )
    for can_retry in (True, False):
        try:
            return tf.saved_model.load(str(folder))
        except Exception as error:  # whatever the loader says of a file that is not as it should be
            unknown = re.search(r"Op type not registered '(\w[^']*)'", str(error))
            if not (unknown and can_retry):
                reason = in_short(error)
                raise ConfigInvalid(f"{folder}: TensorFlow cannot load it: {reason}") from error
            _import_text(folder, unknown[1])
    raise AssertionError(folder)


def _import_text(folder: Path, op: str) -> None:
    try:
        import tensorflow_text  # noqa: F401
    except ImportError as error:
        raise ConfigInvalid(
            f"{folder}: its graph has the operation {op!r}, which TensorFlow itself lacks; if it is one of "
            'tensorflow_text: pip install "seqserve[text]"'
        ) from error


def _chosen(folder: Path, names: Sequence[str], wanted: str | None) -> str:
    listed = ", ".join(map(repr, names)) or "none"
    if wanted is not None:
        if wanted not in names:
            raise ConfigInvalid(f"signature: {folder} has no signature {wanted!r}; it has {listed}")
        return wanted
    if DEFAULT in names:
        return DEFAULT
    if len(names) != 1:
        raise ConfigInvalid(
            f"signature: {folder} has {listed}; "
            + ("name one in the contract" if names else "save it again with signatures={...}")
        )
    return names[0]


def _ports(folder: Path, signature: str, specs: Mapping[str, Any]) -> tuple[Port, ...]:
    return tuple(
        Port(key, _shape(folder, signature, key, spec), spec.dtype.name)
        for key, spec in sorted(specs.items())
    )


def _shape(folder: Path, signature: str, name: str, spec: Any) -> tuple[int | None, ...]:
    shape = spec.shape if spec.shape.rank is not None else _declared(folder, signature, name)
    if shape.rank is None:
        raise ConfigInvalid(
            f"{folder}: signature {signature!r}: {name!r} has no known number of axes: save it again with "
            "tf.ensure_shape around it, or a TensorSpec that has a shape"
        )
    return tuple(shape.as_list())


def _declared(folder: Path, signature: str, name: str) -> tf.TensorShape:
    """Return the shape of an input or output as the file has it: loading loses some of TensorFlow 1."""
    path = folder / "saved_model.pb"
    if not path.is_file():
        return tf.TensorShape(None)
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta in saved.meta_graphs:
        definition = meta.signature_def[signature]
        for side in (definition.outputs, definition.inputs):
            if name in side:
                return tf.TensorShape(side[name].tensor_shape)
    return tf.TensorShape(None)


def _check_ops(where: str, ops: set[str], inputs: Sequence[Port], others: Sequence[str]) -> None:
    """Refuse messages as inputs, and code that lives in the process that saved the model."""
    parsing = sorted(op for op in ops if op.removesuffix("V2") in PARSING)
    if parsing:
        strings = ", ".join(str(port) for port in inputs if port.dtype == "string")
        either = f", or choose another signature of it, {', '.join(map(repr, others))}" if others else ""
        raise ConfigInvalid(
            f"{where}: input {strings} takes serialized tf.Example messages (operation {parsing[0]}): save a "
            f"signature that takes the features themselves as tensors{either}"
        )
    for op in sorted(ops.intersection(PYTHON)):
        raise ConfigInvalid(
            f"{where}: operation {op} calls Python code, which is not in the file (tf.py_function, "
            "tf.numpy_function): write it with TensorFlow's own operations and save it again"
        )


class Kept(tf.Module):
    """A folder that is there until the model is saved: its files are copied only then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="seqserve-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def _frozen(folder: Path, name: str, held: Any) -> SavedModelFile:
    """Return a model of TensorFlow 1 with the values of its variables in its graph."""
    kept = Kept()
    try:
        write_frozen(folder, name, kept.folder / name)
    except Exception as error:  # whatever TensorFlow says of a graph that needs its variables as such
        reason = in_short(error, 200)
        raise ConfigInvalid(
            f"{folder}: signature {name!r}: variable {held.name!r} is of TensorFlow 1's first kind "
            f"(operation {held.op}) and cannot be made a constant ({reason}): build the graph with "
            "tf.compat.v1.enable_resource_variables(), restore its checkpoint and save it again"
        ) from error
    file = load_saved_model(kept.folder / name)
    return replace(file, network=(file.network, kept))


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield every node of a graph, those of its functions too."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _compared(nodes: Sequence[Any]) -> list[float]:
    """Return the finite numbers that the graph tests values against, each once: what masks compares so."""
    constants = {node.name: node for node in nodes if node.op == "Const"}
    found: dict[float, None] = {}
    for node in nodes:
        if node.op not in ("NotEqual", "Equal"):
            continue
        for source in node.input:
            constant = constants.get(source.split(":")[0])
            value = _scalar(constant) if constant is not None else None
            if value is not None:
                found[value] = None
    return list(found)[:MOST_PADS]


def _scalar(constant: Any) -> float | None:
    array = tf.make_ndarray(constant.attr["value"].tensor)
    if array.size != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    return float(array.reshape(-1)[0])
