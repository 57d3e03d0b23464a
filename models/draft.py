"""A model version before it is written: what a recipe hands to `models.export`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from service.contract.manifest import Manifest, Signature, Tensor

MANIFEST_OUTPUTS = {name: Tensor(dtype="string", axes=("file",)) for name in ("names", "contents")}
"""What the signature `manifest` returns."""


@dataclass(frozen=True, slots=True)
class Draft:
    """All of a version but its goldens, card and hashes.

    `functions`: by signature name, from the manifest's inputs (by name) to its outputs by name.
    `files`: the contract files beside the manifest, by name: SavedModel keeps assets/ flat.
    `requests`: REST bodies whose answers become the golden examples.
    """

    network: keras.Model
    functions: Mapping[str, Callable[..., dict[str, tf.Tensor]]]
    manifest: Manifest
    files: Mapping[str, bytes]
    requests: list[dict[str, Any]]


def tensor_spec(name: str, signature: Signature, manifest: Manifest) -> tf.TensorSpec:
    """Return the spec of an input: every axis open but a feature's own width and a state's units."""
    tensor = signature.inputs[name]
    state = (signature.state or {}).get(name)
    width = state[-1] if state else getattr(manifest.features.get(name), "width", None)
    shape = [width if axis == "unit" else None for axis in tensor.axes]
    return tf.TensorSpec(shape, tensor.dtype, name=name)
