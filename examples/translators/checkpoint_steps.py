"""checkpoint.py's encoder and one step of its decoder, which checkpoint.toml names as its `function`.

Both are functions that TensorFlow can trace; state and memory may be any nests of tensors (batch, …).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkpoint
import tensorflow as tf


def load(folder: Path) -> tuple[Any, Any]:
    """Return the encoder and one step of the decoder of the newest checkpoint in the folder."""
    words = (json.loads((folder / f"{side}_words.json").read_text("utf-8")) for side in ("source", "target"))
    encoder, decoder = checkpoint.build(*map(len, words))
    newest = tf.train.latest_checkpoint(folder / checkpoint.CHECKPOINTS)
    tf.train.Checkpoint(encoder=encoder, decoder=decoder).restore(newest).expect_partial()

    def encode(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Source ids (batch, source) -> the first state, and what every step looks at."""
        values, hidden = encoder(ids, encoder.initialize_hidden_state(tf.shape(ids)[0]))
        return hidden, values

    def advance(
        word: tf.Tensor, hidden: tf.Tensor, values: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A word (batch), state, memory -> logits (batch, words), state, weights (batch, source)."""
        logits, hidden, weights = decoder(word[:, None], hidden, values)
        return logits, hidden, weights[..., 0]

    return encode, advance


def source_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids that the model was trained on: export compares those of the contract with them."""
    words = json.loads((folder / "source_words.json").read_text("utf-8"))
    sentences = [checkpoint.preprocess_sentence(text).split(" ") for text in texts]
    return [[words[word] for word in sentence if word in words] for sentence in sentences]
