"""A file that Keras 2 saved, read by tf_keras and taken as a SavedModel: its graph is then free of Keras.

That also leaves the GPU's own forms of LSTM and GRU behind, which Keras 2 puts beside the portable ones.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from seqserve.models.bring.saved_model import DEFAULT, Kept, SavedModelFile, load_saved_model
from seqserve.models.config import ConfigInvalid, in_short

INSTALL = 'pip install "seqserve[keras2]" lets it be read'


def load_keras_2(path: Path, version: str, custom: Mapping[str, Any]) -> SavedModelFile:
    """Load a file of Keras 2, `.h5` or `.keras`.

    Args:
        version: of the Keras that saved it.
        custom: classes and functions of the user's own, by name.

    Raises:
        ConfigInvalid: tf_keras is not installed or cannot load it, it keeps state, or its batch is fixed.
    """
    try:
        import tf_keras
    except ImportError as error:
        raise ConfigInvalid(f"{path}: saved by Keras 2 ({version}): {INSTALL}") from error
    try:
        model = tf_keras.models.load_model(path, custom_objects=dict(custom), compile=False)
        names = list(model.input_names), list(model.output_names)
    except Exception as error:  # whatever a saved layer's own code raises
        reason = f"{type(error).__name__}: {in_short(error, 400)}"
        raise ConfigInvalid(
            f"{path}: saved by Keras 2 ({version}), tf_keras cannot load it: {reason}"
        ) from error
    for layer in model.submodules:
        if getattr(layer, "stateful", False) is True and hasattr(layer, "states"):
            raise ConfigInvalid(
                f"{path}: layer {layer.name!r} is stateful=True: it would carry a caller's state into "
                "another's answer. Build it with stateful=False"
            )
    kept = Kept()
    _save(path, model, names, kept.folder / path.stem)
    file = load_saved_model(kept.folder / path.stem, DEFAULT)
    return replace(file, network=(file.network, kept))


def _save(path: Path, model: Any, names: tuple[list[str], list[str]], folder: Path) -> None:
    specs = [
        tf.TensorSpec(x.shape, x.dtype, name=name) for name, x in zip(names[0], model.inputs, strict=True)
    ]

    def serve(*fed: tf.Tensor) -> dict[str, tf.Tensor]:
        answered = tf.nest.flatten(model(list(fed) if len(fed) > 1 else fed[0], training=False))
        return dict(zip(names[1], answered, strict=True))

    module = tf.Module()  # saved itself, the model would trace each layer by itself too, for many seconds
    module.values, module.tables = model.variables, _tables(model)
    try:
        traced = tf.function(serve).get_concrete_function(*specs)
        tf.saved_model.save(module, str(folder), signatures={DEFAULT: traced})
    except Exception as error:  # whatever a layer's own code raises
        reason = f"{type(error).__name__}: {in_short(error)}"
        raise ConfigInvalid(f"{path}: the model of Keras 2 cannot be traced: {reason}") from error


def _tables(model: Any) -> list[Any]:
    """Return what a model's layers look words up in, which is not among its variables."""
    kept = tf.saved_model.experimental.TrackableResource
    return [value for part in model.submodules for value in vars(part).values() if isinstance(value, kept)]
