"""attention.py's encoder and one step of its decoder, which attention.toml names as its `function`.

Both are functions that TensorFlow can trace; state and memory may be any nests of tensors (batch, …).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attention  # its import makes the layers known to Keras
import keras
import tensorflow as tf


def load(folder: Path) -> tuple[Any, Any]:
    """Return the encoder and one step of the decoder of the model in the folder."""
    model: attention.Translator = keras.saving.load_model(folder / "translator.keras", compile=False)

    def encode(ids: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Source ids (batch, source) -> the first state, and what every step looks at."""
        return tf.zeros((tf.shape(ids)[0], model.sizes["units"])), (model.encoder(ids), ids != 0)

    def advance(word: tf.Tensor, state: tf.Tensor, memory: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A word (batch), state, memory -> logits (batch, words), state, weights (batch, source)."""
        context, mask = memory
        logits, state = model.decoder(context, word[:, None], state, context_mask=mask, return_state=True)
        return logits[:, 0], state, model.decoder.attention.last_attention_weights[:, 0]

    return encode, advance


def source_ids(folder: Path, texts: Sequence[str]) -> tf.RaggedTensor:
    """Return the ids that the model was trained on: export compares those of the contract with them."""
    words = (folder / "source.txt").read_text("utf-8").split("\n")[:-1]
    layer = keras.layers.TextVectorization(standardize=attention.standardize, ragged=True, vocabulary=words)
    return layer(tf.constant(texts))
