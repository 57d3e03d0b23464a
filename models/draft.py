"""A model version before it is written: what the recipes and `bring` make, and export writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from seqserve.service.contract.manifest import Manifest, Signature
from seqserve.service.contract.padding import Array

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Draft:
    """All of a version but its goldens, metrics and hashes.

    `network`: what holds the functions' variables and tables: a model, or a nest that TensorFlow tracks.
    `functions`: by signature name, from the manifest's inputs (by name) to its outputs by name.
    `files`: the contract files beside the manifest, by name: SavedModel keeps assets/ flat.
    `requests`: REST bodies whose answers become the golden examples.
    `probes`: REST bodies whose rows the certification compares too, and that are not kept.
    `eager`: those of the functions that the certification also calls eagerly, to compare with the graph.
    """

    network: Any
    functions: Mapping[str, Callable[..., dict[str, tf.Tensor]]]
    manifest: Manifest
    files: Mapping[str, bytes]
    requests: list[dict[str, Any]]
    probes: Sequence[dict[str, Any]] = ()
    eager: Mapping[str, Callable[..., Mapping[str, Any]]] = field(default_factory=dict)


def tensor_spec(name: str, signature: Signature, manifest: Manifest) -> tf.TensorSpec:
    """Return the spec of an input: every axis is open except a feature's width and a state's units."""
    tensor = signature.inputs[name]
    state = (signature.state or {}).get(name)
    width = state[-1] if state else getattr(manifest.features.get(name), "width", None)
    shape = [width if axis == "unit" else None for axis in tensor.axes]
    return tf.TensorSpec(shape, tensor.dtype, name=name)


def clearest(lengths: Sequence[int], margins: Sequence[float]) -> list[int]:
    """Choose a short, a medium and a long row whose answers are clear: examples must hold on any machine.

    Args:
        margins: of each row, how far the best label's probability is above the second's.
    """
    thirds = np.array_split(np.argsort(lengths, kind="stable"), EXAMPLES)
    return [int(max(third, key=lambda place: margins[place])) for third in thirds if len(third)]


def margin(probabilities: Array) -> float:
    """Return how far the best label is above the second, at the least, of probabilities (…, labels)."""
    if probabilities.shape[-1] == 1:
        return 1.0
    ordered = np.sort(probabilities, axis=-1)
    return float((ordered[..., -1] - ordered[..., -2]).min())
