"""Dropout whose noise is given from outside: its places in a recurrent model, and what each drops.

The noise is fresh in training and, for Monte Carlo dropout, a function of each row's seed alone. One
implementation serves both; without noise nothing is dropped.
"""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import keras
import tensorflow as tf

from seqserve.models.config import Noise

STREAM = 0x5EED
"""The second half of every seed: another use of the same seeds would take another number."""


def noise_shape(noise: Noise, steps: int, features: int) -> tuple[int, int]:
    """Return what Keras' Dropout calls noise_shape, without the batch axis: 1 where one draw is shared.

    `element`: each number for itself. `feature`: a whole column of the sequence, the same at every step;
    `spatial` is another name for it, as Keras' SpatialDropout1D does just that (Tompson et al., 2015,
    https://arxiv.org/abs/1411.4280). `step`: all features of a step. `sample`: the whole sequence.
    """
    return (steps if noise in ("element", "step") else 1, 1 if noise in ("step", "sample") else features)


@dataclass(frozen=True, slots=True)
class Place:
    """One place of dropout: the share that is dropped, and the shape of a row's noise."""

    rate: float
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many uniform numbers a row takes; none where nothing is dropped."""
        return prod(self.shape) if self.rate else 0


class Masks(NamedTuple):
    """Factors by place: 0 where dropped, 1 / (1 - rate) where kept, so that the expectation is unchanged."""

    before: tf.Tensor  # (batch, time or 1, features or 1), on the inputs
    after: tf.Tensor  # (batch, time or 1, units or 1), on the outputs
    inside: tf.Tensor  # (batch, units), on the hidden state, the same at every step


@dataclass(frozen=True, slots=True)
class Dropouts:
    """The places of dropout before, after and inside a recurrent layer."""

    before: Place
    after: Place
    inside: Place

    @property
    def size(self) -> int:
        """How many uniform numbers a row takes."""
        return self.before.size + self.after.size + self.inside.size

    def masks(self, uniform: tf.Tensor) -> Masks:
        """Make masks of uniform numbers in [0, 1), (batch, size)."""
        places = (self.before, self.after, self.inside)
        parts = tf.split(uniform, [place.size for place in places], axis=1)
        return Masks(*(_factors(place, part) for place, part in zip(places, parts, strict=True)))


def _factors(place: Place, uniform: tf.Tensor) -> tf.Tensor:
    if not place.rate:
        return tf.ones((tf.shape(uniform)[0], *(1 for _ in place.shape)))
    kept = tf.cast(uniform >= place.rate, tf.float32) / (1 - place.rate)
    return tf.reshape(kept, (-1, *place.shape))


def row_uniforms(seeds: tf.Tensor, samples: int, size: int) -> tf.Tensor:
    """Draw (batch, samples, size) uniform numbers; each row's are a function of its own seed alone.

    One draw of a fixed shape a row, with the algorithm named: a draw over the batch, or one whose algorithm
    the device may choose, would make a row's noise depend on its neighbours or on the machine.
    """

    def draw(seed: tf.Tensor) -> tf.Tensor:
        pair = tf.stack([seed, STREAM])
        return tf.random.stateless_uniform((samples, size), pair, alg="philox")

    return tf.map_fn(draw, seeds, fn_output_signature=tf.TensorSpec((samples, size), tf.float32))


class MaskedStateLSTMCell(keras.layers.Layer):
    """An LSTM cell whose hidden state is multiplied by a mask before it is used: dropout inside.

    The mask travels as a third state, so it is the same at every step of a sequence; a new mask at each step
    would destroy the memory: Gal and Ghahramani, 2016, https://arxiv.org/abs/1512.05287.

    State: [hidden (batch, units), memory (batch, units), mask (batch, units)].
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units, units]
        self.output_size = units
        self.cell = keras.layers.LSTMCell(units, name="cell")

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.cell.build(input_shape)

    def call(self, inputs: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        hidden, memory, mask = states
        output, state = self.cell(inputs, [hidden * mask, memory])
        return output, [*state, mask]

    def start(self, mask: tf.Tensor) -> list[tf.Tensor]:
        """Return the state before the first step, with the mask of the whole sequence."""
        zeros = tf.zeros_like(mask)
        return [zeros, zeros, mask]
