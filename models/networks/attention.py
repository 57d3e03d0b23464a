"""Bahdanau attention over the real steps of a row. Shapes stand at the ends of lines."""

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
            context (batch, width) and weights (batch, source), which sum to 1 over the real values.
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
