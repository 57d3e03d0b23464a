"""Elapsed time as a network can use it: by its size, from minutes to weeks, and by its phase within a day.

Each step is read alone, so the layer serves whole sequences and single events alike.
"""

import math

import keras
import tensorflow as tf
from keras import ops

MINUTE, DAY = 60.0, 86400.0
LONG = 5 * DAY
"""A time whose logarithm is near the middle of those in a log of business cases."""
LONGEST, LARGEST_LOG = 1e10, 60.0
"""Three centuries in seconds, beyond which all times count the same; the largest logarithm to be inverted."""
WIDTH = 32


@keras.saving.register_keras_serializable("seqserve")
class Clock(keras.layers.Layer):
    """Channels of an elapsed time: logarithms, the phase within a day, and learned soft bins of them.

    One logarithm cannot separate both 10 seconds from 10 minutes and 2 days from 3, nor does time matter
    linearly in it. So there are two, each about -2 to 2, and `WIDTH` units of tanh. People work by day, so
    the phase separates a pause of 24 hours from one of 30; it is given as sine and cosine. A few cases do not
    teach what the phase means: then it is better left out.

    Args:
        scale: of the input, which is `log1p(time in the unit) / scale`, as the manifest's `Elapsed` has it.
        unit_seconds: of the unit.
        daily: whether the phase is among the channels.
    """

    def __init__(self, scale: float, unit_seconds: float, daily: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.scale, self.unit_seconds, self.daily = scale, unit_seconds, daily
        self.fixed = 4 if daily else 2
        self.channels = self.fixed + WIDTH
        self.bins = keras.layers.Dense(WIDTH, activation="tanh", name="bins")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.bins.build((*input_shape, self.fixed))

    def call(self, elapsed: tf.Tensor) -> tf.Tensor:
        # in double: a phase magnifies the last bit, which in single depends on a value's place in the batch
        exact = ops.cast(elapsed, "float64") * self.scale  # (batch, time)
        seconds = ops.minimum(ops.expm1(ops.minimum(exact, LARGEST_LOG)) * self.unit_seconds, LONGEST)
        logs = [4 * ops.log1p(seconds / unit) / math.log1p(LONG / unit) - 2 for unit in (MINUTE, DAY)]
        phase = seconds * (2 * math.pi / DAY)
        cycle = [2 * ops.sin(phase), 2 * ops.cos(phase)] if self.daily else []
        fixed = ops.cast(ops.stack([*logs, *cycle], axis=-1), elapsed.dtype)  # (batch, time, fixed)
        return ops.concatenate([fixed, self.bins(fixed)], axis=-1)  # (batch, time, channels)

    def get_config(self) -> dict[str, object]:
        own = {"scale": self.scale, "unit_seconds": self.unit_seconds, "daily": self.daily}
        return {**super().get_config(), **own}
