"""The tagger: masked convolutions, then a GRU that reads both ways. Shapes stand at the ends of lines."""

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.networks.masked import built_blocks, mask_of, real_only


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
        dropout: dropped share of the GRU's inputs and of its outputs, in training.
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
        self.blocks = built_blocks(width, filters, kernel, blocks)
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
