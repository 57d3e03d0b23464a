"""A translator after TensorFlow's tutorial "Neural machine translation with attention" as it was in 2019.

    python examples/translators/checkpoint.py --out build/checkpoint

writes training_checkpoints/, source_words.json and target_words.json (a Keras Tokenizer's word_index), and
expected.jsonl. It is Keras 2: pip install 'tf_keras==2.20.*'. Nothing here knows of seqserve but the phrases;
checkpoint.toml and checkpoint_steps.py are what serving it takes.

Two subclassed models, Bahdanau's attention by W1, W2 and V, a training loop of one's own. As in the tutorial
nothing is masked, so every source is padded to the longest one of training, and the decoder's GRU begins each
step anew: its last state is the attention's query alone. Bahdanau et al., https://arxiv.org/abs/1409.0473.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from phrases import (
    HELD_OUT,
    SEED,
    Translation,
    read_options,
    read_phrases,
    share_right,
    write_expected,
)

EMBEDDING = 64
UNITS = 128
BATCH = 128
CHECKPOINTS = "training_checkpoints"


def unicode_to_ascii(text: str) -> str:
    """Take the accents off."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def preprocess_sentence(text: str) -> str:
    """Lower the text, take accents off, set punctuation apart, mark start and end."""
    text = unicode_to_ascii(text.lower().strip())
    text = re.sub(r"([?.!,:/])", r" \1 ", text)
    text = re.sub(r"[^a-z0-9?.!,:/]+", " ", text)
    return "<start> " + text.strip() + " <end>"


class Encoder(keras.Model):
    """Ids (batch, source) and a first state to a sequence (batch, source, units) and the last state."""

    def __init__(self, words: int, embedding: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.embedding = keras.layers.Embedding(words, embedding)
        self.gru = keras.layers.GRU(units, return_sequences=True, return_state=True)

    def call(self, x: tf.Tensor, hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output, state = self.gru(self.embedding(x), initial_state=hidden)
        return output, state

    def initialize_hidden_state(self, rows: int) -> tf.Tensor:
        return tf.zeros((rows, self.units))


class BahdanauAttention(keras.layers.Layer):
    """A query (batch, units) and values (batch, source, units) to their weighted sum, and the weights."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.W1 = keras.layers.Dense(units)
        self.W2 = keras.layers.Dense(units)
        self.V = keras.layers.Dense(1)

    def call(self, query: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        score = self.V(tf.nn.tanh(self.W1(query[:, None]) + self.W2(values)))  # (batch, source, 1)
        weights = tf.nn.softmax(score, axis=1)
        return tf.reduce_sum(weights * values, axis=1), weights


class Decoder(keras.Model):
    """A word (batch, 1), the last state and the encoder's sequence to logits, state and attention."""

    def __init__(self, words: int, embedding: int, units: int) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(words, embedding)
        self.gru = keras.layers.GRU(units, return_sequences=True, return_state=True)
        self.fc = keras.layers.Dense(words)
        self.attention = BahdanauAttention(units)

    def call(
        self, x: tf.Tensor, hidden: tf.Tensor, values: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        context, weights = self.attention(hidden, values)
        x = tf.concat([context[:, None], self.embedding(x)], axis=-1)  # (batch, 1, units + embedding)
        output, state = self.gru(x)
        return self.fc(output[:, 0]), state, weights


def tokenize(texts: Sequence[str]) -> tuple[np.ndarray, dict[str, int]]:
    """Return the ids of preprocessed texts, padded with zeros, and the id of each word."""
    tokenizer = keras.preprocessing.text.Tokenizer(filters="")
    tokenizer.fit_on_texts(texts)
    rows = tokenizer.texts_to_sequences(texts)
    return keras.utils.pad_sequences(rows, padding="post"), tokenizer.word_index


def build(source_words: int, target_words: int) -> tuple[Encoder, Decoder]:
    """Return the two models, untrained; one word is 0, the padding."""
    return Encoder(source_words + 1, EMBEDDING, UNITS), Decoder(target_words + 1, EMBEDDING, UNITS)


def loss_of(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of one step, padding left out, over the batch."""
    loss = keras.losses.sparse_categorical_crossentropy(wanted, logits, from_logits=True)
    return tf.reduce_mean(loss * tf.cast(wanted != 0, loss.dtype))


def train(
    encoder: Encoder,
    decoder: Decoder,
    optimizer: keras.optimizers.Optimizer,
    source: np.ndarray,
    target: np.ndarray,
    epochs: int,
) -> None:
    """Fit both models, always given the right word so far."""

    @tf.function
    def train_step(rows: tf.Tensor, wanted: tf.Tensor) -> None:
        loss = 0.0
        with tf.GradientTape() as tape:
            values, hidden = encoder(rows, encoder.initialize_hidden_state(BATCH))
            for step in range(1, wanted.shape[1]):
                logits, hidden, _ = decoder(wanted[:, step - 1, None], hidden, values)
                loss += loss_of(wanted[:, step], logits)
        variables = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    dataset = tf.data.Dataset.from_tensor_slices((source, target)).shuffle(len(source), seed=SEED)
    for _ in range(epochs):
        for rows, wanted in dataset.batch(BATCH, drop_remainder=True):
            train_step(rows, wanted)


class Evaluator:
    """The tutorial's greedy loop, for a batch of sentences."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        words: tuple[dict[str, int], dict[str, int]],
        lengths: tuple[int, int],
    ) -> None:
        """Take the models, the ids of source and target words, the longest source and target."""
        self._encoder, self._decoder = encoder, decoder
        self._source_words, self._target_words = words
        self._longest_source, self._longest_target = lengths
        self._index_word = {index: word for word, index in self._target_words.items()}

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Return padded ids, (sentences, longest source).

        Raises:
            KeyError: a word that was not in training.
        """
        rows = [[self._source_words[word] for word in preprocess_sentence(s).split(" ")] for s in sentences]
        return keras.utils.pad_sequences(rows, maxlen=self._longest_source, padding="post")

    def evaluate(self, sentences: Sequence[str]) -> tuple[list[Translation], np.ndarray]:
        """Translate, and return the attention too, (sentences, target, source)."""
        values, hidden = self._encoder(
            self.encode(sentences), self._encoder.initialize_hidden_state(len(sentences))
        )
        word = tf.fill((len(sentences), 1), self._target_words["<start>"])
        ids, scores, attention = [], [], []
        for _ in range(self._longest_target):
            logits, hidden, weights = self._decoder(word, hidden, values)
            word = tf.argmax(logits, axis=-1)[:, None]
            ids.append(word[:, 0])
            scores.append(tf.gather(tf.nn.log_softmax(logits), word, batch_dims=1)[:, 0])
            attention.append(weights[..., 0])
        rows = zip(np.stack(ids, axis=1), np.stack(scores, axis=1), strict=True)
        return [self._translation(*row) for row in rows], np.stack(attention, axis=1)

    def _translation(self, ids: np.ndarray, scores: np.ndarray) -> Translation:
        ends = np.flatnonzero(ids == self._target_words["<end>"])
        length = int(ends[0]) + 1 if len(ends) else len(ids)
        words = [self._index_word.get(index, "") for index in ids[:length].tolist()]
        text = " ".join(word for word in words if word != "<end>")
        return Translation(text, ids[:length].tolist(), scores[:length].tolist())


def save(folder: Path, checkpoint: Any, *words: dict[str, int]) -> None:
    """Write the checkpoint and the ids of source and target words."""
    checkpoint.save(str(folder / CHECKPOINTS / "ckpt"))
    for name, index in zip(("source_words.json", "target_words.json"), words, strict=True):
        (folder / name).write_text(json.dumps(index, ensure_ascii=False), "utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save, translate what was held out and say how much of it is right."""
    options = read_options(__doc__, arguments, out="build/checkpoint", pairs=2000, epochs=16)
    keras.utils.set_random_seed(SEED)
    phrases, held_out = read_phrases("train", options.pairs), read_phrases("validation", HELD_OUT)
    source, source_words = tokenize([preprocess_sentence(phrase.source) for phrase in phrases])
    target, target_words = tokenize([preprocess_sentence(phrase.target) for phrase in phrases])
    encoder, decoder = build(len(source_words), len(target_words))
    steps = options.epochs * (len(source) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps))
    train(encoder, decoder, optimizer, source, target, options.epochs)
    checkpoint = tf.train.Checkpoint(optimizer=optimizer, encoder=encoder, decoder=decoder)
    save(options.out, checkpoint, source_words, target_words)
    lengths = source.shape[1], target.shape[1]
    evaluator = Evaluator(encoder, decoder, (source_words, target_words), lengths)
    texts = [phrase.source for phrase in held_out]
    translations = [one.text for one in evaluator.evaluate(texts)[0]]
    write_expected(options.out, texts, translations)
    wanted = [" ".join(preprocess_sentence(phrase.target).split()[1:-1]) for phrase in held_out]
    right = share_right(translations, wanted)
    print(f"{options.out}: {right:.1%} of {len(texts)} phrases it has not seen are right")


if __name__ == "__main__":
    main()
