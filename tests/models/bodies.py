"""Small networks around a body that may or may not leak, as drafts to be exported."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from seqserve.models.draft import Draft
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Categories,
    Limits,
    Manifest,
    Signature,
    Softmax,
    Tensor,
)

LABELS = ("a", "b", "c")


def masked(x: Any, mask: Any) -> Any:
    """Put zeros where there is padding."""
    return x * ops.cast(mask, "float32")[:, :, None]


def masked_mean(x: Any, mask: Any) -> Any:
    """Return the mean over real steps, (batch, width)."""
    return ops.sum(masked(x, mask), axis=1) / ops.sum(ops.cast(mask, "float32"), axis=1)[:, None]


class NormConv(layers.Layer):
    """BatchNorm makes padding non-zero; Conv1D carries it into the last real steps, unless masked before."""

    def __init__(self, mask_between: bool) -> None:
        super().__init__()
        self.mask_between = mask_between
        self.norm, self.conv = layers.BatchNormalization(), layers.Conv1D(4, 3, padding="same")

    def call(self, x: Any, mask: Any) -> Any:
        normed = self.norm(masked(x, mask))
        return masked_mean(self.conv(masked(normed, mask) if self.mask_between else normed), mask)


class Attend(layers.Layer):
    """Dot-product attention over the sequence, with or without its mask."""

    def __init__(self, use_mask: bool) -> None:
        super().__init__()
        self.use_mask = use_mask
        self.attention = layers.Attention()

    def call(self, x: Any, mask: Any) -> Any:
        return masked_mean(self.attention([x, x], mask=[mask, mask] if self.use_mask else None), mask)


Body = Callable[[Any, Any], Any]


CASES: dict[str, tuple[Callable[[], Body], bool]] = {
    "batch norm, then convolution": (lambda: NormConv(mask_between=False), True),
    "batch norm, mask, convolution": (lambda: NormConv(mask_between=True), False),
    "attention without mask": (lambda: Attend(use_mask=False), True),
    "attention with mask": (lambda: Attend(use_mask=True), False),
    "mean over time": (lambda: lambda x, mask: ops.mean(x, axis=1), True),
    "mean over real steps": (lambda: masked_mean, False),
    "the first row's mask for all": (lambda: lambda x, mask: masked_mean(x, mask[:1] & (mask | True)), True),
    "a difference from the row before": (lambda: lambda x, mask: masked_mean(x - x[:1] * 0.1, mask), True),
}


def draft_of(body: Body, function: Callable[..., Any] | None = None) -> Draft:
    """A classifier of label sequences around a body (batch, time, 4), mask -> (batch, width)."""
    ids = keras.Input((None,), dtype="int32", name="event")
    embedded = layers.Embedding(4, 4, embeddings_initializer="normal")(ids)

    class Inner(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def call(self, x: Any, ids: Any) -> Any:
            return self.body(x, ops.not_equal(ids, 0))

    network = keras.Model(ids, layers.Dense(3)(Inner()(embedded, ids)))
    random = np.random.default_rng(1)
    # positive: a variance is; and a batch norm whose mean is 0 would map padding to itself
    network.set_weights([random.uniform(0.2, 2, weight.shape) for weight in network.get_weights()])
    sizes = ("batch", "time")
    manifest = Manifest(
        task="sequence",
        name="leak",
        version=1,
        signatures={
            PREDICT_SIGNATURE: Signature(
                inputs={"event": Tensor(dtype="int32", axes=sizes, pad_value=0)},
                outputs={"label": Tensor(dtype="float32", axes=("batch", "label"))},
            )
        },
        features={"event": Categories(labels=LABELS, first_id=1)},
        heads={"label": Softmax(labels=LABELS, scores="logits")},
        limits=Limits(sequence_steps=16),
        buckets=(4, 16),
    )
    requests = [{"sequences": [{"event": list(events)}]} for events in ("a", "abcab", "ccbaabcba")]
    functions = {PREDICT_SIGNATURE: function or (lambda event: {"label": network(event)})}
    return Draft(network, functions, manifest, {}, requests)
