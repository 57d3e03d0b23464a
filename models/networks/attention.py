"""Layers that respect masks: Bahdanau attention and the time-aware LSTM cell.

Used by `models.networks.translation` and `models.networks.events`. Shapes stand at the ends of lines.
"""

import keras
import tensorflow as tf
from keras import ops

Shape = tuple[int | None, ...]
NEVER = -1e9  # a score whose softmax is exactly 0 in float32, and finite


@keras.saving.register_keras_serializable("seqserve")
class BahdanauAttention(keras.layers.Layer):
    """Additive attention: `score = V · tanh(W1·query + W2·values)`, then a masked softmax.

    V has no activation: the softmax that follows needs scores of any size and sign.
    Source: Bahdanau, Cho and Bengio, 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.

    Args:
        units: width of the space in which query and values are compared.
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.W1 = keras.layers.Dense(units, use_bias=False, name="W1")
        self.W2 = keras.layers.Dense(units, name="W2")
        self.V = keras.layers.Dense(1, use_bias=False, name="V")

    def build(self, query_shape: Shape, values_shape: Shape) -> None:
        self.W1.build(query_shape)
        self.W2.build(values_shape)
        self.V.build((None, None, self.units))

    def keys(self, values: tf.Tensor) -> tf.Tensor:
        """Project the values once; every step of a decoder compares its query with the same keys."""
        return self.W2(values)  # (batch, source, units)

    def attend(
        self, query: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attend from one query a row.

        Args:
            query: (batch, query width).
            keys: `keys(values)`, (batch, source, units).
            values: (batch, source, width).
            mask: bool (batch, source), true where a value is real.

        Returns:
            context (batch, width) and weights (batch, source), which sum to 1 over real values.
        """
        compared = ops.tanh(self.W1(query)[:, None, :] + keys)  # (batch, source, units)
        scores = ops.squeeze(self.V(compared), axis=-1)  # (batch, source)
        weights = tf.nn.softmax(ops.where(mask, scores, NEVER))  # (batch, source)
        context = ops.squeeze(ops.matmul(weights[:, None, :], values), axis=1)  # (batch, width)
        return context, weights

    def call(self, query: tf.Tensor, values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.attend(query, self.keys(values), values, mask)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("seqserve")
class TimeAwareLSTMCell(keras.layers.Layer):
    """An LSTM cell whose forget gate is driven by elapsed time, with a rate learned per unit.

    The forget gate is `sigmoid(W·x + U·h + b - softplus(rate) · elapsed)`: the longer ago the last event,
    the less of its memory is left, for any weights. With elapsed = 0 it is the standard LSTM cell (Hochreiter
    and Schmidhuber, 1997; Gers et al., 2000), and with a constant elapsed time c the standard one whose
    forget bias is `b - softplus(rate) · c`. That memory is to decay between events, at a rate per unit,
    follows Mei and Eisner, 2017 (https://arxiv.org/abs/1612.09328).

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
