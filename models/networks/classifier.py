"""The classifier: masked convolutions, then one answer a sequence. Shapes stand at the ends of lines."""

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.networks.masked import built_blocks, mask_of, pooled


@keras.saving.register_keras_serializable("seqserve")
class Classifier(keras.Model):
    """Numbers and lengths in, a logit per class out.

    The output layer starts at zero, so no class differs from another before training: training with the
    classes in another order gives the same answers by name.

    Args:
        width: numbers a step.
        classes: how many.
        filters: width of each convolution block.
        kernel: steps that a convolution sees.
        blocks: how many convolution blocks.
        dropout: dropped share of the pooled values, in training.
        noise: deviation of the noise that training adds to the (standardized) inputs.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        filters: int,
        kernel: int,
        blocks: int,
        dropout: float,
        noise: float,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "width": width,
            "classes": classes,
            "filters": filters,
            "kernel": kernel,
            "blocks": blocks,
            "dropout": dropout,
            "noise": noise,
        }
        self.noise = layers.GaussianNoise(noise)
        self.blocks = built_blocks(width, filters, kernel, blocks)
        self.dropout = layers.Dropout(dropout)
        self.output_layer = layers.Dense(classes, kernel_initializer="zeros")
        self.output_layer.build((None, 2 * filters))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        values, lengths = inputs  # float32 (batch, time, width), int32 (batch)
        mask = mask_of(lengths, ops.shape(values)[1])  # (batch, time)
        steps = self.noise(values, training=training)
        for block in self.blocks:
            steps = block(steps, mask, training=training)  # (batch, time, filters)
        kept = self.dropout(pooled(steps, mask), training=training)  # (batch, 2 * filters)
        return self.output_layer(kept)  # (batch, classes)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}
