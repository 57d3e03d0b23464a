"""A user's Keras model read from its file, made ready to be traced for CPU and GPU alike.

Custom layers come from Python files that the user names; running those files is running the user's code.
"""

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras.src.ops.operation import Operation

from seqserve.models.bring.stored import keras_version
from seqserve.models.config import ConfigInvalid, in_short

KERAS_2 = ("1.", "2.")
"""How the versions begin that Keras 3 does not read."""
WRAP = "save a Functional model instead: x = keras.Input(…); keras.Model(x, model(x)).save(…)"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of the model; shapes begin with the batch, an open axis is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name!r} {self.shape} {self.dtype}"


@dataclass(frozen=True, slots=True)
class KerasFile:
    """A model as a function of its inputs in order; `network` is Functional, takes and gives flat lists."""

    network: keras.Model
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def call(self, fed: Sequence[Any]) -> list[Any]:
        """Return the outputs, in order, for the inputs, in order."""
        outputs: list[Any] = keras.tree.flatten(self.network(list(fed), training=False))
        return outputs

    def layers(self) -> Iterator[keras.layers.Layer]:
        """Yield every layer, nested ones too."""
        yield from self.network._flatten_layers(include_self=False)

    def maybe_masks(self) -> bool:
        """Say whether any part of the model could take a step for padding by its value.

        Of Keras' own layers only `Masking` and `Embedding(mask_zero=True)` do; what the user's layers or
        free operations (such as `ops.not_equal`) do cannot be seen from outside.
        """
        kinds = (keras.layers.Masking, keras.layers.Embedding)
        own = any(not type(layer).__module__.startswith("keras.") for layer in self.layers())
        free = any(not isinstance(op, keras.layers.Layer) for op in self.network.operations)
        return own or free or any(_masks(layer, kinds) for layer in self.layers())

    def masked_values(self) -> dict[str, float]:
        """Return the value that each `Masking` layer masks, by the layer's name."""
        masking = (layer for layer in self.layers() if isinstance(layer, keras.layers.Masking))
        return {layer.name: float(layer.mask_value) for layer in masking}

    def pads(self) -> list[float]:
        """Return the values that `Masking` layers mask, each once, else 0."""
        return list(dict.fromkeys(self.masked_values().values())) or [0.0]

    def computes_in_halves(self) -> bool:
        """Say whether any layer computes with 16 bits, as mixed precision has it."""
        return any(layer.compute_dtype in ("float16", "bfloat16") for layer in self.layers())


def _masks(layer: keras.layers.Layer, kinds: tuple[type, ...]) -> bool:
    return isinstance(layer, kinds) and getattr(layer, "mask_zero", True)


def load_keras(path: Path, imports: Sequence[Path] = ()) -> KerasFile:
    """Load a `.keras` (or legacy `.h5`) file.

    Args:
        imports: Python files with the model's own layers and functions. They are RUN.

    Raises:
        ConfigInvalid: no such file, a layer that is unknown or unsafe to load, state kept between calls,
            or a fixed batch.
    """
    return _prepared(path, load_network(path, imported(imports)))


def load_network(path: Path, custom: Mapping[str, Any]) -> keras.Model:
    """Load a file as a Functional model, from a flat list of inputs to a flat list of outputs.

    Args:
        custom: classes and functions of the user's own, by name.

    Raises:
        ConfigInvalid: no such file, a layer that is unknown or unsafe to load, state kept between calls,
            or a fixed batch.
    """
    if path.suffix not in (".keras", ".h5", ".hdf5") or not path.is_file():
        raise ConfigInvalid(f"{path}: a file that Keras saved is expected, MODEL.keras (or .h5)")
    version = keras_version(path)
    if version.startswith(KERAS_2):
        raise ConfigInvalid(
            f"{path}: saved by Keras 2 ({version}): give a part of a translator as a SavedModel, by "
            'model.save(FOLDER, save_format="tf"), or load it in a function of the --import file'
        )
    own = dict(custom) if path.suffix == ".keras" else {**_operations(), **custom}
    try:
        model = keras.saving.load_model(path, custom_objects=own, compile=False)
    except Exception as error:  # whatever a saved layer's own code raises
        raise ConfigInvalid(f"{path}: {_why(error)}") from error
    network = _functional(path, model)
    _check_rows(path, network)
    return network


def _operations() -> dict[str, Any]:
    """Return the operations of `keras.ops` by name: an `.h5` has those that make masks, and Keras looks for
    them among layers alone.
    """
    named = {
        kind.__name__: kind for kind in Operation.__subclasses__() if "keras.src.ops." in kind.__module__
    }
    return {name: kind for name, kind in named.items() if not hasattr(keras.layers, name)}


def _check_rows(path: Path, network: keras.Model) -> None:
    """Refuse what would let rows of several callers meet: state kept between calls, a fixed batch."""
    for layer in network._flatten_layers(include_self=False):
        if getattr(layer, "stateful", False) is True:
            raise ConfigInvalid(
                f"{path}: layer {layer.name!r} is stateful=True: it would carry a caller's state into "
                "another's answer. Build it with stateful=False; to advance a sequence call by call, make "
                "the state explicit, as inputs and outputs of the model (docs/bring.md)"
            )
    for port in (Port(x.name, tuple(x.shape), x.dtype) for x in network.inputs):
        if port.shape[0] is not None:
            raise ConfigInvalid(
                f"{path}: input {port} has a fixed batch of {port.shape[0]}: rows of several callers share a "
                f"batch. Begin the model with keras.Input({_open(port.shape)})"
            )


def imported(files: Iterable[Path]) -> dict[str, Any]:
    """Run files, and return their own classes and functions by name.

    Raises:
        ConfigInvalid: no such file, or it fails.
    """
    return {name: thing for file in files for name, thing in _defined(file)}


def _defined(file: Path) -> Iterator[tuple[str, Any]]:
    """Run a file and yield its own classes and functions by name, registered or not."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigInvalid(f"--import {file}: a Python file is expected, FILE.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(file.stem, module)
    sys.path.insert(0, str(file.resolve().parent))  # it may import files beside it, as a script may
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code
        raise ConfigInvalid(f"--import {file}: {type(error).__name__}: {error}") from error
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) == module.__name__ and callable(thing):
            yield name, thing


def _why(error: Exception) -> str:
    message = " ".join(str(error).split())
    unknown = re.search(r"Could not locate (\w+) '([^']+)'", message)
    if unknown:
        return (
            f"the model has a {unknown[1]} {unknown[2]!r} of its own: give --import FILE.py that defines it"
        )
    if "Lambda" in message and "safe_mode" in message:
        reason = message.split(" If you trust")[0]
        return f"{reason} Make the Lambda a layer class and give --import FILE.py that defines it"
    return f"Keras cannot load it: {type(error).__name__}: {message[:400]}"


def _functional(path: Path, model: keras.Model) -> keras.Model:
    """Return the model as one from a flat list of inputs to a flat list of outputs."""
    try:
        if getattr(model, "inputs", None):
            network = keras.Model(list(model.inputs), list(model.outputs))
            return _named(network, getattr(model, "_outputs_struct", None))
        # a subclassed model knows only the shapes that it was built with
        built = model.get_build_config() or {}
        inputs = _inputs(built["input_shape"])
        outputs = model(inputs)
        network = keras.Model(keras.tree.flatten(inputs), keras.tree.flatten(outputs))
        return _named(network, outputs)
    except Exception as error:  # whatever the model's own code raises
        reason = f"{type(error).__name__}: {in_short(error, 200)}"
        raise ConfigInvalid(f"{path}: Keras does not say what its inputs are ({reason}); {WRAP}") from error


def _named(network: keras.Model, outputs: Any) -> keras.Model:
    """Name the outputs by their keys where the model gives them as a dict; else they are their layers'."""
    if isinstance(outputs, dict) and len(outputs) == len(network.outputs):
        network.output_names = keras.tree.flatten({key: str(key) for key in outputs})
    return network


def _inputs(shapes: Any) -> Any:
    """Return inputs for a subclassed model: batch and time are open, whatever shapes it was built with."""
    if isinstance(shapes, dict):
        return {name: _input(shape, name) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return _input(shapes, "input")
    return [_input(shape, f"input_{place}") for place, shape in enumerate(shapes)]


def _input(shape: Iterable[int | None], name: str) -> Any:
    _, _, *after = shape
    return keras.Input((None, *after), name=name)


def _prepared(path: Path, network: keras.Model) -> KerasFile:
    names = network.output_names
    inputs = tuple(Port(x.name, tuple(x.shape), x.dtype) for x in network.inputs)
    outputs = tuple(
        Port(name, tuple(x.shape), x.dtype) for name, x in zip(names, network.outputs, strict=True)
    )
    file = KerasFile(network, inputs, outputs)
    for layer in file.layers():
        if isinstance(layer, keras.layers.TimeDistributed) and _time_is_open(layer, inputs):
            raise ConfigInvalid(
                f"{path}: layer {layer.name!r} is a TimeDistributed over an open time axis: traced, Keras "
                f"{keras.__version__} runs it over as many steps as the batch has rows. Apply "
                f"{layer.layer.name!r} itself (Dense works on the last axis), or fix the time axis"
            )
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False  # one graph for CPU and GPU
    return file


def _time_is_open(layer: keras.layers.Layer, inputs: Sequence[Port]) -> bool:
    shapes = [tuple(x.shape) for node in layer._inbound_nodes for x in node.input_tensors]
    return any(len(shape) > 1 and shape[1] is None for shape in shapes or [port.shape for port in inputs])


def _open(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (None, *shape[2:])
