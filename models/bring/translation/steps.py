"""What every form of a user's translator is read into, and its way into the loops of `networks.decoding`."""

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from seqserve.models.networks.decoding import Memory, RowAdvance, State
from seqserve.models.translator import Encode

Row = tuple[str, str, str]
"""Of the table that is shown: a part of the model, its shape, and what it was taken for."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A user's encoder and one step of the decoder.

    `encode`: ids int32 (batch, source) -> the first state, and the memory: nests of tensors (batch, …).
    `advance`: ids int32 (batch), state, memory -> scores (batch, pieces) or (batch, 1, pieces), the next
    state, and the weights over the source by name: empty where there are none.
    `keep`: what holds their variables.
    `taught`: source ids and target ids (batch, time) -> scores of each next piece, (batch, time, pieces): the
    model as it was trained, where there is one.
    `length`, `longest`: of a fixed source axis, and of a fixed target axis.
    `unmasked`: the same where Keras' mask does not go from the encoder to the decoder, as `predict` drops it.
    """

    encode: Encode
    advance: Callable[[tf.Tensor, State, Memory], tuple[tf.Tensor, State, dict[str, tf.Tensor]]]
    keep: Any
    table: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    taught: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    length: int | None = None
    longest: int | None = None
    unmasked: "Steps | None" = None

    def for_length(self, length: int | None) -> "Steps":
        """Return those that a loop runs which pads sources to a length, or pads nothing."""
        return self if length is None or self.unmasked is None else self.unmasked

    def portable(self) -> "Steps":
        """Return the same, whose recurrent layers are traced as plain loops: one graph for CPU and GPU."""

        def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any) -> Any:
                with without_cudnn(), warnings.catch_warnings():
                    # Keras', of attention to a source of one piece, and of a mask that ends in a model
                    warnings.filterwarnings(
                        "ignore", r".*You are using a softmax over axis|Layer .* with a mask"
                    )
                    return function(*given)

            return call

        taught = None if self.taught is None else plainly(self.taught)
        unmasked = None if self.unmasked is None else self.unmasked.portable()
        return replace(
            self,
            encode=plainly(self.encode),
            advance=plainly(self.advance),
            taught=taught,
            unmasked=unmasked,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """How a translator's numbers are read.

    `pad`: fills the rows of the source.
    `reverse`: the model reads its source from the end; `left`: the padding is in front of it.
    `scores`: are probabilities, and their logarithm is taken.
    `weights`: the name of those that are the alignment; None: there is none.
    """

    pad: int
    reverse: bool = False
    left: bool = False
    probabilities: bool = False
    weights: str | None = None


def loops(steps: Steps, reading: Reading) -> tuple[Encode, RowAdvance]:
    """Return what `networks.decoding` takes: the encoder, and the step of a model that knows no beams."""

    def encode(ids: tf.Tensor) -> tuple[State, Memory]:
        places = backwards(ids, reading.pad, reading.left) if reading.reverse else ()
        state, memory = steps.encode(tf.gather(ids, places, batch_dims=1) if reading.reverse else ids)
        return _as_tensors(state), (_as_tensors(memory), places)

    def advance(ids: tf.Tensor, state: State, memory: Memory) -> tuple[tf.Tensor, State, tf.Tensor]:
        own, places = memory
        scores, new, weights = steps.advance(ids, state, own)
        logits = tf.cast(_of_step(scores), tf.float32)  # (batch, pieces)
        logits = tf.math.log(logits) if reading.probabilities else logits
        new = tf.nest.pack_sequence_as(state, tf.nest.flatten(_as_tensors(new)))
        if reading.weights is None:
            return logits, new, tf.zeros((tf.shape(ids)[0], 1))  # for the loops, which keep some
        attended = over_source(weights[reading.weights])  # (batch, source)
        if reading.reverse:
            attended = tf.gather(attended, places, batch_dims=1)
        return logits, new, attended

    return encode, advance


def backwards(ids: tf.Tensor, pad: int, left: bool) -> tf.Tensor:
    """Return the places of rows read from their end, the padding where it was: int32 (batch, source)."""
    length = tf.shape(ids)[1]
    places, real = tf.range(length), ids != pad
    if left:
        first = tf.reduce_min(tf.where(real, places, length), axis=1, keepdims=True)  # (batch, 1)
        return tf.where(places >= first, first + length - 1 - places, places)
    end = tf.reduce_max(tf.where(real, places + 1, 0), axis=1, keepdims=True)  # (batch, 1)
    return tf.where(places < end, end - 1 - places, places)


def masks_of(nest: Any) -> dict[str, tf.Tensor]:
    """Return Keras' masks of a nest's tensors, by place: as attributes they do not enter a graph's loop."""
    masks = {str(at): getattr(x, "_keras_mask", None) for at, x in enumerate(tf.nest.flatten(nest))}
    return {at: mask for at, mask in masks.items() if mask is not None}


def with_masks(nest: Any, masks: Mapping[str, tf.Tensor]) -> Any:
    """Return a nest whose tensors have their masks again; each time, as some layers take them off."""
    for at, value in enumerate(tf.nest.flatten(nest)):
        if str(at) in masks:
            value._keras_mask = masks[str(at)]
    return nest


def _as_tensors(nest: Any) -> Any:
    return tf.nest.map_structure(tf.convert_to_tensor, nest)


def _of_step(scores: tf.Tensor) -> tf.Tensor:
    """Return (batch, pieces) of the one step."""
    return scores[:, -1] if scores.shape.rank == 3 else scores


def over_source(weights: tf.Tensor) -> tf.Tensor:
    """Return weights (batch, source) of (batch, [heads,] [1,] source [, 1]): heads are averaged."""
    weights = tf.cast(weights, tf.float32)
    if weights.shape.rank == 4 and weights.shape[-1] == 1:  # (batch, 1, source, 1)
        weights = weights[:, -1]
    if weights.shape.rank == 3 and weights.shape[-1] == 1:  # (batch, source, 1)
        return weights[..., 0]
    if weights.shape.rank == 4:  # (batch, heads, 1, source)
        weights = tf.reduce_mean(weights, axis=1)
    return weights[:, -1] if weights.shape.rank == 3 else weights


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Let recurrent layers of Keras 3 and of Keras 2 (`tf_keras`) run as plain loops, whoever holds them.

    A graph traced with cuDNN runs on GPUs alone. The layers are in closures of the user's own functions, so
    what they ask themselves is answered on their class.
    """
    kinds = [(keras.layers.GRU, "use_cudnn"), (keras.layers.LSTM, "use_cudnn")]
    if "tf_keras" in sys.modules:
        layers = sys.modules["tf_keras"].layers
        kinds += [(layers.GRU, "_could_use_gpu_kernel"), (layers.LSTM, "_could_use_gpu_kernel")]
    inherited = [(kind, name, vars(kind).get(name)) for kind, name in kinds]
    for kind, name in kinds:
        setattr(kind, name, _Never(name))
    try:
        yield
    finally:
        for kind, name, before in inherited:
            if before is None:
                delattr(kind, name)
            else:
                setattr(kind, name, before)


class _Never:
    """An attribute that is False to whoever asks, and is kept for later when it is set."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, kind: type) -> bool:
        return False

    def __set__(self, layer: Any, value: Any) -> None:
        layer.__dict__[self._name] = value
