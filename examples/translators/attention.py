"""A translator after TensorFlow's tutorial "Neural machine translation with attention" as it is today.

    python examples/translators/attention.py --out build/attention

writes translator.keras, translator.weights.h5, source.txt and target.txt (a word a line, in the order of the
ids), and expected.jsonl. Nothing here knows of seqserve but the phrases; attention.toml and
attention_steps.py are what serving it takes.

TextVectorization with a standardization of one's own, a bidirectional GRU, attention by MultiHeadAttention
with one head, a GRU decoder; https://www.tensorflow.org/text/tutorials/nmt_with_attention.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from phrases import (
    HELD_OUT,
    SEED,
    Phrase,
    Translation,
    read_options,
    read_phrases,
    share_right,
    write_expected,
)

UNITS = 64
BATCH = 64
LONGEST = 30
Rule = Callable[[tf.Tensor], tf.Tensor]


def standardize(text: tf.Tensor) -> tf.Tensor:
    """Lower the text, keep what the phrases are made of, set punctuation apart, mark start and end."""
    text = tf.strings.lower(text, encoding="utf-8")
    text = tf.strings.regex_replace(text, "[^ a-z0-9äöü.,:/]", "")
    text = tf.strings.regex_replace(text, "[.,:/]", r" \0 ")
    text = tf.strings.strip(text)
    return tf.strings.join(["[START]", text, "[END]"], separator=" ")


def text_processor(texts: Sequence[str], rule: Rule = standardize) -> layers.TextVectorization:
    """Return a layer that knows the words of the texts."""
    processor = layers.TextVectorization(standardize=rule, ragged=True)
    processor.adapt(tf.constant(texts))
    return processor


@keras.saving.register_keras_serializable("translator")
class Encoder(layers.Layer):
    """Ids (batch, source) to a sequence (batch, source, units)."""

    def __init__(self, words: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(words, units, mask_zero=True)
        self.rnn = layers.Bidirectional(layers.GRU(units, return_sequences=True), merge_mode="sum")

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        return self.rnn(self.embedding(ids))


@keras.saving.register_keras_serializable("translator")
class CrossAttention(layers.Layer):
    """Adds to each step of the target what it attends to in the source."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mha = layers.MultiHeadAttention(num_heads=1, key_dim=units)
        self.add = layers.Add()
        self.layernorm = layers.LayerNormalization()
        self.supports_masking = True

    def call(self, x: tf.Tensor, context: tf.Tensor, context_mask: tf.Tensor | None = None) -> tf.Tensor:
        attended, weights = self.mha(x, context, value_mask=context_mask, return_attention_scores=True)
        self.last_attention_weights = tf.reduce_mean(weights, axis=1)  # (batch, target, source)
        return self.layernorm(self.add([x, attended]))


@keras.saving.register_keras_serializable("translator")
class Decoder(layers.Layer):
    """The words so far (batch, target) to logits of the next (batch, target, words)."""

    def __init__(self, words: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(words, units, mask_zero=True)
        self.rnn = layers.GRU(units, return_sequences=True, return_state=True)
        self.attention = CrossAttention(units)
        self.output_layer = layers.Dense(words)
        self.supports_masking = True

    def call(
        self,
        context: tf.Tensor,
        x: tf.Tensor,
        state: tf.Tensor | None = None,
        context_mask: tf.Tensor | None = None,
        return_state: bool = False,
    ) -> Any:
        x, state = self.rnn(self.embedding(x), initial_state=state)
        logits = self.output_layer(self.attention(x, context, context_mask=context_mask))
        return (logits, state) if return_state else logits


@keras.saving.register_keras_serializable("translator")
class Translator(keras.Model):
    """The two joined, for training: (source ids, target ids) to logits."""

    def __init__(self, source_words: int, target_words: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"source_words": source_words, "target_words": target_words, "units": units}
        self.encoder = Encoder(source_words, units)
        self.decoder = Decoder(target_words, units)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        source, target = inputs
        logits = self.decoder(self.encoder(source), target)
        # with it, Keras would scale the loss by the mask a second time
        logits._keras_mask = None
        return logits

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.sizes


def masked_loss(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy per real word."""
    loss = keras.losses.sparse_categorical_crossentropy(wanted, logits, from_logits=True)
    mask = tf.cast(wanted != 0, loss.dtype)
    return tf.reduce_sum(loss * mask) / tf.reduce_sum(mask)


def train(
    phrases: Sequence[Phrase], source: layers.TextVectorization, target: layers.TextVectorization, epochs: int
) -> Translator:
    """Fit a translator to the phrases."""
    model = Translator(int(source.vocabulary_size()), int(target.vocabulary_size()), UNITS)
    context = source(tf.constant([phrase.source for phrase in phrases])).to_tensor()
    words = target(tf.constant([phrase.target for phrase in phrases]))
    steps = epochs * -(-len(phrases) // BATCH)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps)), masked_loss)
    given, wanted = (context, words[:, :-1].to_tensor()), words[:, 1:].to_tensor()
    model.fit(given, wanted, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def translate(
    model: Translator,
    source: layers.TextVectorization,
    target: layers.TextVectorization,
    texts: Sequence[str],
) -> list[Translation]:
    """Translate texts word by word, each time by the best word."""
    words = np.array(target.get_vocabulary())
    start, end = (int(np.flatnonzero(words == word)[0]) for word in ("[START]", "[END]"))
    source_ids = source(tf.constant(texts)).to_tensor()
    context = model.encoder(source_ids)
    # the mask is given each time: MultiHeadAttention takes Keras' own off the context once it has used it
    fixed = {"context_mask": source_ids != 0, "return_state": True}
    state = tf.zeros((len(texts), model.sizes["units"]))
    next_word = tf.fill((len(texts), 1), tf.constant(start, tf.int64))
    done = tf.zeros((len(texts), 1), tf.bool)
    ids, scores = [], []
    for _ in range(LONGEST):
        logits, state = model.decoder(context, next_word, state, **fixed)
        next_word = tf.where(done, tf.constant(0, tf.int64), tf.argmax(logits, axis=-1))
        done = done | (next_word == end)
        ids.append(next_word)
        scores.append(tf.gather(tf.nn.log_softmax(logits), next_word, batch_dims=2))
        if tf.reduce_all(done):
            break
    rows = zip(tf.concat(ids, axis=1).numpy(), tf.concat(scores, axis=1).numpy(), strict=True)
    return [_translation(words, end, *row) for row in rows]


def _translation(words: np.ndarray, end: int, ids: np.ndarray, scores: np.ndarray) -> Translation:
    real = ids != 0
    text = " ".join(words[ids[real & (ids != end)]])
    return Translation(text, ids[real].tolist(), scores[real].tolist())


def standardized(texts: Sequence[str], rule: Rule = standardize) -> list[str]:
    """Return the texts as a translation has them: without the marks, one space between words."""
    return [" ".join(text.numpy().decode().split()[1:-1]) for text in map(rule, texts)]


def save(
    folder: Path, model: Translator, source: layers.TextVectorization, target: layers.TextVectorization
) -> None:
    """Write the model, its weights alone too, and the words."""
    model.save(folder / "translator.keras")
    model.save_weights(folder / "translator.weights.h5")
    for name, processor in (("source.txt", source), ("target.txt", target)):
        (folder / name).write_text("\n".join(processor.get_vocabulary()) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, translate what was held out and say how much of it is right."""
    options = read_options(__doc__, arguments, out="build/attention", pairs=2000, epochs=4)
    keras.utils.set_random_seed(SEED)
    phrases, held_out = read_phrases("train", options.pairs), read_phrases("validation", HELD_OUT)
    source = text_processor([phrase.source for phrase in phrases])
    target = text_processor([phrase.target for phrase in phrases])
    model = train(phrases, source, target, options.epochs)
    save(options.out, model, source, target)
    texts = [phrase.source for phrase in held_out]
    translations = [one.text for one in translate(model, source, target, texts)]
    write_expected(options.out, texts, translations)
    right = share_right(translations, standardized([phrase.target for phrase in held_out]))
    print(f"{options.out}: {right:.1%} of {len(texts)} phrases it has not seen are right")


if __name__ == "__main__":
    main()
