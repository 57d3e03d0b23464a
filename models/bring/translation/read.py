"""From a contract to a user's encoder and one step of the decoder, wherever the two lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from seqserve.models.bring.keras_file import Port, load_network
from seqserve.models.bring.saved_model import load_saved_model
from seqserve.models.bring.translation.contract import Part, TranslationContract
from seqserve.models.bring.translation.joint import EXAMPLE, cut
from seqserve.models.bring.translation.pairs import Callee, join
from seqserve.models.bring.translation.steps import Steps, masks_of, with_masks
from seqserve.models.bring.words import beside
from seqserve.models.config import ConfigInvalid, in_short


def read_steps(
    model: Path, contract: TranslationContract, defined: Mapping[str, Any], pieces: int, pad: int
) -> Steps:
    """Load what the contract names.

    Args:
        defined: the classes and functions of the files given by --import.
        pieces: how many ids the target has.
        pad: the id that fills rows of the source.

    Raises:
        ConfigInvalid: naming the field of the contract and the part of the model.
    """
    if contract.function is not None:
        return _from_function(model, contract.function, defined)
    path = model if contract.file is None else beside(model, contract.file)
    if contract.encoder is not None:
        parts = {"encoder": contract.encoder, "decoder": contract.decoder}
        encoder, decoder = (_callee(name, part, path, model, defined) for name, part in parts.items())
        return join(encoder, decoder, (contract.encoder, contract.decoder), pieces, pad)
    if path.is_dir():
        raise ConfigInvalid(
            f"{path} is a folder: give [encoder] and [decoder], each with a signature of the SavedModel; or "
            f'{EXAMPLE}; or source.kind = "none" for one that takes and returns strings'
        )
    return cut(path, load_network(path, defined), contract, pieces)


def _from_function(model: Path, name: str, defined: Mapping[str, Any]) -> Steps:
    if not callable(defined.get(name)):
        there = ", ".join(map(repr, defined)) or "nothing"
        raise ConfigInvalid(
            f"function: {name!r} is not in a file given by --import (there: {there}); give --import FILE.py"
        )
    try:
        encode, advance, *others = defined[name](model)
    except Exception as error:  # the user's own code
        reason = f"{type(error).__name__}: {in_short(error)}"
        raise ConfigInvalid(
            f"function: {name}({str(model)!r}) does not return (encode, advance): {reason}"
        ) from error

    def masked(ids: tf.Tensor) -> Any:
        state, memory = encode(ids)
        return state, (memory, masks_of(memory))

    def named(ids: tf.Tensor, state: Any, memory: Any) -> Any:
        scores, new, *weights = advance(ids, state, with_masks(*memory))
        return scores, new, {"weights": weights[0]} if weights and weights[0] is not None else {}

    return Steps(masked, named, others, ((f"function {name}", "", "encoder and one step of the decoder"),))


def _callee(name: str, part: Part, path: Path, model: Path, defined: Mapping[str, Any]) -> Callee:
    path = path if part.file is None else beside(model, part.file)
    if path.is_dir():
        return _signature(name, part, path)
    network = load_network(path, defined)
    if part.layer is not None:
        network = _layer(name, part.layer, network, path)
    elif part.file is None:
        raise ConfigInvalid(
            f"{name}: its file, or layer = one of {_inner(network)} of {path.name}, is missing"
        )

    flat = keras.Model(list(network.inputs), list(network.outputs))  # whatever nests its own call takes

    def call(inputs: list[tf.Tensor]) -> list[tf.Tensor]:
        return list(keras.tree.flatten(flat(inputs, training=False)))

    inputs = tuple(Port(x.name, tuple(x.shape), x.dtype) for x in network.inputs)
    names = _names(network)
    outputs = tuple(Port(n, tuple(x.shape), x.dtype) for n, x in zip(names, network.outputs, strict=True))
    return Callee(name, inputs, outputs, call, network)


def _names(network: keras.Model) -> list[str]:
    """Return the outputs' names: of a layer that has several, numbered."""
    names = list(network.output_names)
    return [f"{n}:{names[:at].count(n)}" if names.count(n) > 1 else n for at, n in enumerate(names)]


def _inner(network: keras.Model) -> str:
    models = [layer.name for layer in network.layers if isinstance(layer, keras.Model)]
    return ", ".join(map(repr, models)) or "none: it holds no models"


def _layer(name: str, layer: str, network: keras.Model, path: Path) -> keras.Model:
    inner = next((one for one in network.layers if one.name == layer), None)
    if not isinstance(inner, keras.Model) or not getattr(inner, "inputs", None):
        raise ConfigInvalid(
            f"{name}.layer: {layer!r} is not a model with inputs of its own in {path.name} (there: "
            f"{_inner(network)}); {EXAMPLE}"
        )
    return inner


def _signature(name: str, part: Part, path: Path) -> Callee:
    if part.signature is None:
        raise ConfigInvalid(f"{name}.signature: which signature of {path}?")
    file = load_saved_model(path, part.signature)
    return Callee(name, file.inputs, file.outputs, file.call, file.network)
