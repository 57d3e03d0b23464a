"""The translation model: bidirectional encoder, Bahdanau attention, decoder; of GRU or LSTM cells.

The loops of `networks.decoding` call its parts.
Source: Bahdanau, Cho and Bengio, 2015, https://arxiv.org/abs/1409.0473.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
import tensorflow as tf
from keras import layers, ops

from seqserve.models.networks.attention import BahdanauAttention
from seqserve.service.contract.manifest import SpecialIds

State = tuple[tf.Tensor, ...]
"""The decoder's state, each (batch, units): hidden alone (GRU), or hidden and memory (LSTM)."""


class Memory(NamedTuple):
    """The encoded source, constant while a row is decoded."""

    keys: tf.Tensor  # (batch, source, units)
    values: tf.Tensor  # (batch, source, 2 * units)
    mask: tf.Tensor  # bool (batch, source)


@keras.saving.register_keras_serializable("seqserve")
class Translator(keras.Model):
    """Source ids and shifted target ids in, a logit per target piece out.

    One embedding is shared by source, target and output (Press and Wolf, 2017, arXiv:1608.05859).

    Args:
        vocabulary_size: pieces of the shared vocabulary.
        embedding: width of an embedding.
        units: width of a cell's state; the attention compares in the same width.
        dropout: dropped share of embeddings, encodings and readouts, in training.
        special_ids: the ids that stand for no text, as the manifest has them.
        cell: of encoder and decoder.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding: int,
        units: int,
        dropout: float,
        special_ids: dict[str, int],
        cell: Literal["gru", "lstm"] = "gru",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.config = {
            "vocabulary_size": vocabulary_size,
            "embedding": embedding,
            "units": units,
            "dropout": dropout,
            "special_ids": special_ids,
            "cell": cell,
        }
        self.special_ids = SpecialIds(**special_ids)
        self.units = units
        self.embedding = layers.Embedding(
            vocabulary_size, embedding, keras.initializers.RandomNormal(stddev=embedding**-0.5)
        )
        recurrent = {"gru": layers.GRU, "lstm": layers.LSTM}[cell]
        self.encoder = layers.Bidirectional(recurrent(units, return_sequences=True, use_cudnn=False))
        self.tensors = {"gru": 1, "lstm": 2}[cell]  # of a state
        self.bridge = layers.Dense(self.tensors * units, activation="tanh")
        self.attention = BahdanauAttention(units)
        self.cell = {"gru": layers.GRUCell, "lstm": layers.LSTMCell}[cell](units)
        self.readout = layers.Dense(embedding, activation="tanh")
        self.dropout = layers.Dropout(dropout)
        self._create(embedding, units)

    def _create(self, embedding: int, units: int) -> None:
        self.embedding.build((None, None))
        self.encoder.build((None, None, embedding))
        self.bridge.build((None, units))
        self.attention.build((None, units), (None, None, 2 * units))
        self.cell.build((None, embedding + 2 * units))
        self.readout.build((None, embedding + 3 * units))
        self.bias = self.add_weight(shape=(self.config["vocabulary_size"],), initializer="zeros", name="bias")
        self.built = True

    def encode(self, source_ids: tf.Tensor, training: bool = False) -> tuple[State, Memory]:
        """Return the decoder's first state and the memory it attends to."""
        mask = ops.not_equal(source_ids, self.special_ids.pad)  # (batch, source)
        embedded = self.dropout(self.embedding(source_ids), training=training)
        values = self.encoder(embedded, mask=mask, training=training)  # (batch, source, 2 * units)
        values = self.dropout(values, training=training)
        # the backward half at the first step has read the whole source
        bridged = self.bridge(values[:, 0, self.units :])  # (batch, tensors * units)
        state = tuple(ops.split(bridged, self.tensors, axis=-1))  # each (batch, units)
        return state, Memory(self.attention.keys(values), values, mask)

    def step(self, state: State, embedded: tf.Tensor, memory: Memory) -> tuple[State, tf.Tensor, tf.Tensor]:
        """Advance one target piece: new state, context and attention weights."""
        context, weights = self.attention.attend(state[0], *memory)  # (batch, 2 * units), (batch, source)
        _, new = self.cell(ops.concatenate([embedded, context], axis=-1), list(state))  # (batch, units) each
        return tuple(new), context, weights

    def readouts(
        self, hidden: tf.Tensor, context: tf.Tensor, embedded: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return what the next piece is scored by, (…, embedding)."""
        joined = ops.concatenate([hidden, context, embedded], axis=-1)
        return self.dropout(self.readout(joined), training=training)

    def scorer(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function from readouts (batch, embedding) to logits (batch, vocabulary), as of now.

        Pad and start, which are not pieces of a text, have logits of -inf. The weights become constants of
        the graph, transposed once: to transpose them in each step would cost more than all the rest.
        """
        with tf.init_scope():
            weights = tf.transpose(self.embedding.embeddings.value)  # (embedding, vocabulary)
            never = [[self.special_ids.pad], [self.special_ids.start]]
            bias = tf.tensor_scatter_nd_update(self.bias.value, never, [-math.inf, -math.inf])
        return lambda readouts: tf.nn.bias_add(tf.matmul(readouts, weights), bias)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        source_ids, target_ids = inputs  # (batch, source), (batch, time)
        state, memory = self.encode(source_ids, training)
        embedded = self.dropout(self.embedding(target_ids), training=training)
        by_step = ops.transpose(embedded, (1, 0, 2))  # (time, batch, embedding)

        def advance(carry: tuple[State, tf.Tensor], piece: tf.Tensor) -> tuple[State, tf.Tensor]:
            return self.step(carry[0], piece, memory)[:2]

        states, contexts = tf.scan(advance, by_step, (state, ops.zeros_like(memory.values[:, 0])))
        hidden, contexts = (ops.transpose(x, (1, 0, 2)) for x in (states[0], contexts))
        readouts = self.readouts(hidden, contexts, embedded, training)
        logits = ops.matmul(readouts, ops.transpose(self.embedding.embeddings)) + self.bias
        return logits  # (batch, time, vocabulary)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable("seqserve")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross entropy against targets smoothed over the vocabulary (Szegedy et al., 2016, §7).

    y_true: ids (batch, time); y_pred: logits (batch, time, vocabulary). Weighted by the mask, so
    padded steps count for nothing.
    """

    def __init__(self, smoothing: float = 0.0, **kwargs: object) -> None:
        # over real steps: Keras' default would count padding in the denominator
        super().__init__(**{"reduction": "mean_with_sample_weight", **kwargs})
        self.smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        truth = tf.cast(y_true, tf.int32)
        if not self.smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(truth, y_pred)  # (batch, time)
        classes = y_pred.shape[-1]
        rest = self.smoothing / classes
        # one cross entropy costs half of what those against the truth and against the uniform do
        smooth = tf.one_hot(truth, classes, 1 - self.smoothing + rest, rest)  # (batch, time, vocabulary)
        return tf.nn.softmax_cross_entropy_with_logits(smooth, y_pred)  # (batch, time)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "smoothing": self.smoothing}
