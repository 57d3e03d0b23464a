"""Translators as people write and save them, each with its contract and its own way to score the next piece.

Weights are drawn and scaled up, so that translations differ.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from seqserve.models.cli import export_own
from seqserve.service.contract.padding import Array

SOURCE = ["", "[UNK]", *"abcdefghijklmno"]
TARGET = [
    "",
    "[UNK]",
    "[START]",
    "[END]",
    *"pqrstuvwxyz",
]
START, END = TARGET.index("[START]"), TARGET.index("[END]")
UNITS, WIDTH, LIMIT, LENGTH = 12, 8, 8, 8
"""Of states, of embeddings; the longest output in pieces; the length that sources are padded to."""
NextScores = Callable[[str, Sequence[int]], Array]
"""(source, pieces so far with the start) -> the model's own numbers for the next piece."""

WORDS = f"""
[source]
kind = "text_vectorization"
file = "source.txt"
standardize = "strip_punctuation"
SOURCE
[target]
kind = "text_vectorization"
file = "target.txt"
length = {LIMIT}
TARGET
"""


def words(source: str = "", target: str = "") -> str:
    """Return the tables of the two vocabularies, with further lines in each."""
    return WORDS.replace("SOURCE", source).replace("TARGET", target)


@dataclass(frozen=True)
class Form:
    """One way to write a translator. `files`: its models by file name; the first of one is MODEL itself."""

    contract: str
    files: dict[str, keras.Model]
    scores: NextScores
    probabilities: bool = False
    aligned: bool = True
    texts: dict[str, str] = field(default_factory=dict)  # further files, by name
    buckets: str = (
        "buckets = [4, 8]\n"  # few, as each row is tried in each; none where sources have one length
    )
    known: dict[tuple[str, tuple[int, ...]], Array] = field(default_factory=dict)  # what `score` gave so far

    def score(self, text: str, ids: Sequence[int]) -> Array:
        """Return the model's own numbers for the next piece; each once, as eager loops are slow."""
        key = text, tuple(ids)
        if key not in self.known:
            self.known[key] = self.scores(text, ids)
        return self.known[key]

    def save(self, folder: Path, name: str = "own") -> tuple[Path, Path]:
        """Write all files; return MODEL and the contract's."""
        folder.mkdir(parents=True, exist_ok=True)
        written = {"source.txt": "\n".join(SOURCE), "target.txt": "\n".join(TARGET), **self.texts}
        written["own.toml"] = f'name = "{name}"\ntask = "translation"\n{self.buckets}{self.contract}'
        for file, text in written.items():
            (folder / file).write_text(text, "utf-8")
        for file, model in self.files.items():
            model.save(folder / file)
        return (folder / next(iter(self.files)) if len(self.files) == 1 else folder), folder / "own.toml"

    def export(self, folder: Path, name: str = "own", **options: Any) -> Path:
        """Export as the command does."""
        path, contract = self.save(folder, name)
        given = {"version": None, "imports": [], **options}
        return export_own(path, contract, folder / "models", **given)

    def next_log_p(self, text: str) -> Callable[[list[int]], list[float]]:
        """Return what the references of decoding take: the pieces so far -> log p of each next one."""

        def of(ids: list[int]) -> list[float]:
            scores = np.asarray(self.score(text, [START, *ids]), np.float64)
            if self.probabilities:
                return [float(x) for x in np.log(scores)]
            return [float(x) for x in scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()]

        return of

    def translate(self, text: str, start: int = START) -> list[int]:
        """Return the pieces that the user's own loop writes, without the end."""
        ids = [start]
        while len(ids) <= LIMIT:
            best = int(np.argmax(self.score(text, ids)))
            if best == END:
                break
            ids.append(best)
        return ids[1:]

    def text(self, text: str, start: int = START) -> str:
        """Return the translation by the user's own loop."""
        return " ".join(TARGET[i] for i in self.translate(text, start))


def drawn(count: int, longest: int = 6, seed: int = 3) -> list[str]:
    """Return texts of the source's words, two at the least: Keras warns of attention to one."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(SOURCE[2:], random.integers(2, longest + 1))) for _ in range(count)]


def ids_of(text: str, length: int | None = None, side: str = "post") -> Array:
    """Return a text's ids (1, source), padded as Keras' `pad_sequences` does where a length is given."""
    row = [[SOURCE.index(word) for word in text.split()]]
    return np.array(row) if length is None else keras.utils.pad_sequences(row, length, padding=side)


def ready(model: keras.Model) -> keras.Model:
    """Scale the weights up; no padding, start or unknown word is written."""
    model.set_weights([weight * 2.5 for weight in model.get_weights()])
    *kernel, bias = model.get_layer("scores").get_weights()
    bias[:3] = -30
    model.get_layer("scores").set_weights([*kernel, bias])
    return model


def embedded(ids: Any, entries: Sequence[str], mask: bool = True) -> Any:
    """Return the vectors of ids."""
    return layers.Embedding(len(entries), WIDTH, mask_zero=mask)(ids)


def scored(x: Any, **options: Any) -> Any:
    """Return a score for each piece of the target."""
    return layers.Dense(len(TARGET), name="scores", **options)(x)


def whole(
    model: keras.Model, source: Callable[[str], Any] = ids_of, longest: int | None = None
) -> NextScores:
    """Return the loop that gives a model as it was trained all that is written so far, once a piece."""

    def scores(text: str, ids: Sequence[int]) -> Array:
        target = (
            np.array([ids]) if longest is None else keras.utils.pad_sequences([ids], longest, padding="post")
        )
        answer = np.asarray(model([source(text), target], training=False))
        return answer[0, len(ids) - 1]

    return scores


def gru_with_dot_attention(mask: bool = True, source: Callable[[str], Any] = ids_of, lines: str = "") -> Form:
    """One model as it was trained: GRUs, and attention by hand or by the layer."""
    keras.utils.set_random_seed(1)
    texts, written = keras.Input((None,), name="english"), keras.Input((None,), name="german")
    gru = layers.GRU(UNITS, return_sequences=True, return_state=True)
    encoded, state = gru(embedded(texts, SOURCE, mask))
    decoded = layers.GRU(UNITS, return_sequences=True)(embedded(written, TARGET, mask), initial_state=state)
    if mask:
        context = layers.Attention()([decoded, encoded])
    else:
        weights = layers.Activation("softmax")(layers.Dot(axes=[2, 2])([decoded, encoded]))
        context = layers.Dot(axes=[2, 1])([weights, encoded])
    model = ready(keras.Model([texts, written], scored(layers.Concatenate()([decoded, context]))))
    buckets = "" if lines else Form.buckets
    return Form(words(lines), {"model.keras": model}, whole(model, source), buckets=buckets)


def bidirectional_lstm() -> Form:
    """Fixed axes, padded in front and not masked, states of both directions joined, an `.h5`."""
    keras.utils.set_random_seed(2)
    texts, written = keras.Input((LENGTH,)), keras.Input((LIMIT + 1,))
    lstm = layers.LSTM(UNITS // 2, return_sequences=True, return_state=True)
    encoded, *states = layers.Bidirectional(lstm)(embedded(texts, SOURCE, mask=False))
    first = [layers.Concatenate()(pair) for pair in (states[::2], states[1::2])]
    decoder = layers.LSTM(UNITS, return_sequences=True, return_state=True)
    decoded, *_ = decoder(embedded(written, TARGET), initial_state=first)
    context = layers.AdditiveAttention()([decoded, encoded])
    dense = layers.Dense(len(TARGET), activation="softmax")
    out = layers.TimeDistributed(dense, name="scores")(layers.Concatenate()([context, decoded]))
    model = ready(keras.Model([texts, written], out))
    scores = whole(model, lambda text: ids_of(text, LENGTH, "pre"), LIMIT + 1)
    contract = words(f'length = {LENGTH}\npadding = "left"')
    return Form(contract, {"model.h5": model}, scores, probabilities=True, aligned=False, buckets="")


def stacked_lstm() -> Form:
    """Two files after Keras' lstm_seq2seq, two layers deep; a Tokenizer's JSON; probabilities, no weights."""
    keras.utils.set_random_seed(3)
    texts = keras.Input((None,))
    deep, *lower = layers.LSTM(UNITS, return_sequences=True, return_state=True)(embedded(texts, SOURCE))
    _, *upper = layers.LSTM(UNITS, return_state=True)(deep)
    encoder = keras.Model(texts, [*lower, *upper])
    encoder.set_weights([weight * 2.5 for weight in encoder.get_weights()])
    word, states = keras.Input((None,)), [keras.Input((UNITS,)) for _ in range(4)]
    deep, *lower = layers.LSTM(UNITS, return_sequences=True, return_state=True)(
        embedded(word, TARGET), initial_state=states[:2]
    )
    deep, *upper = layers.LSTM(UNITS, return_sequences=True, return_state=True)(
        deep, initial_state=states[2:]
    )
    decoder = ready(keras.Model([word, states], [scored(deep, activation="softmax"), [*lower, *upper]]))

    def scores(text: str, ids: Sequence[int]) -> Array:
        states = encoder(tf.constant(ids_of(text)))
        for piece in ids:
            answer, states = decoder([tf.constant([[piece]]), states])
        return np.asarray(answer)[0, -1]

    index = {word: number for number, word in enumerate(SOURCE) if number > 1}
    tokenizer = {"word_index": json.dumps(index), "filters": "", "lower": True, "split": " "}
    contract = words().replace(
        '"text_vectorization"\nfile = "source.txt"', '"word_index"\nfile = "source.json"'
    )
    return Form(
        '[encoder]\nfile = "encoder_model.keras"\n[decoder]\nfile = "decoder_model.keras"\n'
        + contract.replace('standardize = "strip_punctuation"\n', ""),
        {"encoder_model.keras": encoder, "decoder_model.keras": decoder},
        scores,
        probabilities=True,
        aligned=False,
        texts={"source.json": json.dumps({"class_name": "Tokenizer", "config": tokenizer})},
    )


def nested_parts() -> Form:
    """An encoder and a decoder in one file, the decoder's inputs a dict; the target is the first input."""
    keras.utils.set_random_seed(4)
    texts = keras.Input((None,), name="x")
    gru = layers.GRU(UNITS, return_sequences=True, return_state=True)
    encoder = keras.Model(texts, list(gru(embedded(texts, SOURCE))), name="encoder")
    written, context = keras.Input((None,), name="y"), keras.Input((None, UNITS), name="context")
    state = keras.Input((UNITS,), name="state")
    decoded, after = layers.GRU(UNITS, return_sequences=True, return_state=True)(
        embedded(written, TARGET), initial_state=state
    )
    attention = layers.MultiHeadAttention(2, 6)
    attended, weights = attention(decoded, context, return_attention_scores=True)
    dense = layers.Dense(16, activation="tanh")
    head = keras.Sequential([dense, layers.Dense(len(TARGET), name="scores")], name="head")
    outputs = [weights, head(layers.Concatenate()([decoded, attended])), after]
    decoder = keras.Model({"y": written, "context": context, "state": state}, outputs, name="decoder")
    a, b = keras.Input((None,), name="source"), keras.Input((None,), name="target")
    seen, first = encoder(a)
    model = keras.Model([b, a], decoder({"y": b, "context": seen, "state": first})[:2])
    model.set_weights([weight * 2 for weight in model.get_weights()])
    ready_head = head.layers[-1]
    kernel, bias = ready_head.get_weights()
    ready_head.set_weights([kernel, np.where(np.arange(len(TARGET)) <= START, -30, bias)])

    def scores(text: str, ids: Sequence[int]) -> Array:
        return np.asarray(model([np.array([ids]), ids_of(text)], training=False)[1])[0, -1]

    return Form(words(), {"model.keras": model}, scores)


FORMS: dict[str, Callable[[], Form]] = {
    "bidirectional": bidirectional_lstm,
    "stacked": stacked_lstm,
    "nested": nested_parts,
}
