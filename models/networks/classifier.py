"""The classifier and the tagger: masked convolutions, then one answer a sequence, or one a step.

Built by `models.recipes.classifier` and `models.recipes.tagger`. Shapes stand at the ends of lines.
"""

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.networks.masked import ConvBlock, mask_of, pooled, real_only


@keras.saving.register_keras_serializable("seqserve")
class Classifier(keras.Model):
    """Numbers and lengths in, a logit per class out.

    The output layer starts at zero, so that no class differs from another before training: the order of
    the classes is then a matter of naming, and training in another order gives the same answers by name.

    Args:
        width: numbers a step.
        classes: how many.
        filters: width of each convolution block.
        kernel: steps that a convolution sees.
        blocks: how many convolution blocks.
        dropout: dropped share of what is pooled, in training.
        noise: deviation of what is added to the (standardized) inputs, in training.
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
        self.blocks = _built_blocks(width, filters, kernel, blocks)
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


@keras.saving.register_keras_serializable("seqserve")
class Tagger(keras.Model):
    """Numbers and lengths in, logits of each step's tag out: convolutions, then a GRU that reads both ways.

    Args:
        width: numbers a step.
        tags: how many.
        filters: width of each convolution block.
        kernel: steps that a convolution sees.
        blocks: how many convolution blocks.
        units: width of the GRU's state, in each direction.
        dropout: dropped share of what enters the GRU and of what leaves it, in training.
    """

    def __init__(
        self,
        width: int,
        tags: int,
        filters: int,
        kernel: int,
        blocks: int,
        units: int,
        dropout: float,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "width": width,
            "tags": tags,
            "filters": filters,
            "kernel": kernel,
            "blocks": blocks,
            "units": units,
            "dropout": dropout,
        }
        self.blocks = _built_blocks(width, filters, kernel, blocks)
        self.recurrent = layers.Bidirectional(layers.GRU(units, return_sequences=True, use_cudnn=False))
        self.dropout = layers.Dropout(dropout)
        self.output_layer = layers.Dense(tags)
        self.recurrent.build((None, None, filters))
        self.output_layer.build((None, None, 2 * units))
        self.built = True

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        steps, lengths = inputs  # float32 (batch, time, width), int32 (batch)
        mask = mask_of(lengths, ops.shape(steps)[1])  # (batch, time)
        for block in self.blocks:
            steps = block(steps, mask, training=training)  # (batch, time, filters)
        steps = self.dropout(steps, training=training)
        states = self.recurrent(steps, mask=mask, training=training)  # (batch, time, 2 * units)
        states = self.dropout(states, training=training)
        return self.output_layer(real_only(states, mask))  # (batch, time, tags)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}


def _built_blocks(width: int, filters: int, kernel: int, count: int) -> list[ConvBlock]:
    """Return convolution blocks, each made for what the one before gives."""
    blocks = [ConvBlock(filters, kernel) for _ in range(count)]
    for place, block in enumerate(blocks):
        block.build((None, None, filters if place else width))
    return blocks
