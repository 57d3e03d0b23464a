"""Convolution, batch norm and pooling over real steps only: nothing depends on what padding holds.

Every layer takes (batch, time, width) and a mask, bool (batch, time), true where a step is real, and gives
zeros where it is not; so ReLU, which keeps zeros, needs no mask of its own.
"""

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.networks.attention import NEVER, Shape

MOMENTUM = 0.9  # Keras' 0.99 suits long trainings: after 200 batches the initial values would still count


def real_only(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return the values (batch, time, width) with zeros in the padding, whatever it held, even NaN."""
    return ops.where(mask[:, :, None], values, 0.0)


def mask_of(lengths: tf.Tensor, steps: tf.Tensor | int) -> tf.Tensor:
    """Return the mask, bool (batch, steps), of rows that are padded on the right."""
    return ops.arange(steps) < lengths[:, None]


def pooled(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Return mean and maximum over the real steps, (batch, 2 * width); each row has one at least."""
    count = ops.sum(ops.cast(mask, values.dtype), axis=1)[:, None]  # (batch, 1)
    mean = ops.sum(real_only(values, mask), axis=1) / count  # (batch, width)
    highest = ops.max(ops.where(mask[:, :, None], values, NEVER), axis=1)  # (batch, width)
    return ops.concatenate([mean, highest], axis=-1)


@keras.saving.register_keras_serializable("seqserve")
class MaskedConv1D(layers.Layer):
    """A convolution over time, of `same` length, that sees the end of a row as it would without padding.

    Args:
        filters: width of the output.
        kernel_size: steps that one output sees.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.convolution = layers.Conv1D(filters, kernel_size, padding="same", name="convolution")

    def build(self, input_shape: Shape) -> None:
        self.convolution.build(input_shape)

    def call(self, values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        convolved = self.convolution(real_only(values, mask))  # (batch, time, filters)
        return real_only(convolved, mask)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("seqserve")
class MaskedBatchNormalization(layers.Layer):
    """Batch norm whose statistics, in training and moving, are over real steps only.

    Without the mask, padding would count as steps: a batch of short rows would have another mean and
    variance than the same rows in a batch of their own. Ioffe and Szegedy, 2015, arXiv:1502.03167.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(momentum=MOMENTUM, name="norm")

    def build(self, input_shape: Shape) -> None:
        self.norm.build(input_shape)

    def call(self, values: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        normed = self.norm(real_only(values, mask), training=training, mask=mask)  # (batch, time, width)
        return real_only(normed, mask)


@keras.saving.register_keras_serializable("seqserve")
class ConvBlock(layers.Layer):
    """Convolution, batch norm, ReLU, each over real steps only; (batch, time, filters) out."""

    def __init__(self, filters: int, kernel_size: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.convolution = MaskedConv1D(filters, kernel_size)
        self.norm = MaskedBatchNormalization()

    def build(self, input_shape: Shape) -> None:
        self.convolution.build(input_shape)
        self.norm.build((*input_shape[:-1], self.convolution.filters))

    def call(self, values: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        convolved = self.convolution(values, mask)  # (batch, time, filters)
        return ops.relu(self.norm(convolved, mask, training=training))

    def get_config(self) -> dict[str, object]:
        convolution = self.convolution
        return {
            **super().get_config(),
            "filters": convolution.filters,
            "kernel_size": convolution.kernel_size,
        }


def built_blocks(width: int, filters: int, kernel: int, count: int) -> list[ConvBlock]:
    """Return convolution blocks, each built for the width of the one before."""
    blocks = [ConvBlock(filters, kernel) for _ in range(count)]
    for place, block in enumerate(blocks):
        block.build((None, None, filters if place else width))
    return blocks
