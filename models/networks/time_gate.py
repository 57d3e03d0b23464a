"""An LSTM cell that forgets by the time between events. Shapes stand at the ends of lines."""

import keras
import tensorflow as tf
from keras import ops

from seqserve.models.networks.attention import Shape


@keras.saving.register_keras_serializable("seqserve")
class TimeAwareLSTMCell(keras.layers.Layer):
    """An LSTM cell whose forget gate is driven by elapsed time, with a rate learned per unit.

    The forget gate is `sigmoid(W·x + U·h + b - softplus(rate) · elapsed)`: the longer ago the last event,
    the less memory is left, whatever the weights. With elapsed = 0 it is the standard LSTM cell (Hochreiter
    and Schmidhuber, 1997; Gers et al., 2000), and with a constant elapsed time c the standard one whose
    forget bias is `b - softplus(rate) · c`. Memory that decays between events, at a rate per unit, follows
    Mei and Eisner, 2017 (https://arxiv.org/abs/1612.09328).

    `kernel`, `recurrent_kernel` and `bias` are laid out and initialized as those of `keras.layers.LSTMCell`.

    Inputs of one step: (batch, features + 1), the last column the elapsed time, never negative.
    State: [hidden (batch, units), memory (batch, units)].
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.state_size = [units, units]
        self.output_size = units

    def build(self, input_shape: Shape) -> None:
        features, gates = (input_shape[-1] or 1) - 1, 4 * self.units
        self.kernel = self.add_weight((features, gates), "glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, gates), "orthogonal", name="recurrent_kernel")
        self.bias = self.add_weight((gates,), _open_forget_gate, name="bias")
        # softplus is 0.02 to 0.7: most gates are near standard at first, and units differ from the start
        self.rate = self.add_weight((self.units,), keras.initializers.RandomUniform(-4.0, 0.0), name="rate")

    def call(
        self, inputs: tf.Tensor, states: list[tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        features, elapsed = inputs[:, :-1], inputs[:, -1:]  # (batch, features), (batch, 1)
        hidden, memory = states
        logits = ops.matmul(features, self.kernel) + ops.matmul(hidden, self.recurrent_kernel) + self.bias
        write, keep, value, show = ops.split(logits, 4, axis=-1)  # (batch, units) each
        keep = keep - ops.softplus(self.rate) * elapsed
        memory = ops.sigmoid(keep) * memory + ops.sigmoid(write) * ops.tanh(value)
        hidden = ops.sigmoid(show) * ops.tanh(memory)
        return hidden, [hidden, memory]

    def get_initial_state(self, batch_size: int | None = None) -> list[tf.Tensor]:
        return [ops.zeros((batch_size, self.units)) for _ in self.state_size]

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


def _open_forget_gate(shape: Shape, dtype: str | None = None) -> tf.Tensor:
    """Return an LSTM's first bias: 1 for the forget gate (Jozefowicz et al., 2015), 0 for the others."""
    units = (shape[0] or 0) // 4
    return ops.concatenate([ops.zeros(units, dtype), ops.ones(units, dtype), ops.zeros(2 * units, dtype)])
