"""Rows of numbers with the places of their labels, one a row (classifier) or one a step (tagger).

They become batches for training, and are answered by the trained network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from seqserve.models.data.batches import pad_right
from seqserve.models.train import Batch
from seqserve.service.contract.padding import Array

AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """Values, float32 (time, width), and the place of the right label, int32 () or (time)."""

    values: Array
    target: Array


def batch_of(rows: Sequence[LabelledRow]) -> Batch:
    """Return ((values, lengths), targets, weights); padded steps have weight 0."""
    values = pad_right([row.values for row in rows], 0)  # (batch, time, width)
    lengths = np.array([len(row.values) for row in rows], np.int32)  # (batch)
    if rows[0].target.ndim == 0:
        return (values, lengths), np.stack([row.target for row in rows]), np.ones(len(rows), np.float32)
    targets = pad_right([row.target for row in rows], 0)  # (batch, time)
    return (values, lengths), targets, (np.arange(values.shape[1]) < lengths[:, None]).astype(np.float32)


def batch_signature(width: int, per_step: bool) -> tuple[object, tf.TensorSpec, tf.TensorSpec]:
    """Return the tf.TensorSpec structure of `batch_of`."""
    shape = [None, None] if per_step else [None]
    inputs = (tf.TensorSpec([None, None, width], tf.float32), tf.TensorSpec([None], tf.int32))
    return inputs, tf.TensorSpec(shape, tf.int32), tf.TensorSpec(shape, tf.float32)


def validation_batches(rows: Sequence[LabelledRow], size: int) -> list[Batch]:
    """Return the rows in batches of similar length, so that little is padded."""
    ordered = sorted(rows, key=lambda row: len(row.values))
    return [batch_of(ordered[at : at + size]) for at in range(0, len(ordered), size)]


def logits_of(network: keras.Model, rows: Sequence[LabelledRow]) -> list[Array]:
    """Return the network's logits of each row, (labels), or of its real steps, (time, labels)."""
    answers: list[Array] = []
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        inputs, targets, _ = batch_of(some)
        logits = np.asarray(network(inputs, training=False))
        answers += [
            x[: len(row.values)] if targets.ndim == 2 else x for x, row in zip(logits, some, strict=True)
        ]
    return answers


@keras.saving.register_keras_serializable("seqserve")
class RealAccuracy(keras.metrics.Mean):
    """The share of right labels among all that have weight, over all batches alike.

    Keras' own divides by each batch's padded length, so that steps of short batches would count for more.
    """

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        right = tf.cast(tf.argmax(y_pred, axis=-1, output_type=tf.int32) == y_true, tf.float32)
        weights = tf.ones_like(right) if sample_weight is None else sample_weight
        super().update_state(tf.reshape(right, [-1]), tf.reshape(weights, [-1]))


def unsorted(rows: Sequence[LabelledRow]) -> list[int]:
    """Return lengths for a `Task` that are all the same, so that batches mix rows of any length.

    Batch norm needs it: sorted by length, each batch would have statistics of its own, and the moving ones,
    which serve, would be those of the last few batches. The price is more padding in training.
    """
    return [1] * len(rows)


def sparse_cross_entropy() -> keras.losses.Loss:
    """Return the cross entropy per unit of weight: Keras' default counts padding in the denominator."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
