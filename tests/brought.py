"""Small sequence models of a user's own, exported by their contracts: what goes in beside plain sequences."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import layers

from seqserve.models.cli import export_own
from tests.trained import update

HEAD = '[heads.label]\nkind = "softmax"\nlabels = ["a", "b", "c"]\nscores = "probabilities"\n'
ORDERS = """
name = "orders"
buckets = [4, 16]
[features.event]
kind = "categories"
labels = ["visit", "pay"]
first_id = 1
[features.load]
kind = "numbers"
columns = ["u", "v"]
[features.region]
kind = "categories"
labels = ["north", "7"]
per = "sequence"
unknown = "map"
unknown_id = 2
[features.customer]
kind = "numbers"
columns = ["age", "income"]
per = "sequence"
"""
WINDOW = 'name = "window"\n[features.x]\nkind = "numbers"\n'
NOTES = """
name = "notes"
buckets = [8, 16]
[features.note]
kind = "tokens"
vocabulary = { kind = "text_vectorization", file = "words.txt" }
[[examples]]
note = "two dogs run"
[[examples]]
note = "run two"
"""
WORDS = ["", "[UNK]", "two", "dogs", "run"]


def _softmax(*parts: Any) -> Any:
    kernel = keras.initializers.RandomNormal(0, 2, seed=6)
    state = layers.Concatenate()(list(parts)) if len(parts) > 1 else parts[0]
    return layers.Dense(3, activation="softmax", name="label", kernel_initializer=kernel)(state)


def _orders() -> keras.Model:
    event, load = keras.Input((None,), name="event"), keras.Input((None, 2), name="load")
    region, customer = keras.Input((1,), name="region"), keras.Input((2,), name="customer")
    first = layers.LSTM(4)(layers.Embedding(3, 4, mask_zero=True)(event))
    second = layers.GRU(4)(layers.Masking(-9.0)(load))
    place = layers.Flatten()(layers.Embedding(3, 2, embeddings_initializer="normal")(region))
    return keras.Model([event, load, region, customer], _softmax(first, second, place, customer))


def _window() -> keras.Model:
    x = keras.Input((6, 1), name="x")
    return keras.Model(x, _softmax(layers.GRU(4)(x)))


def _notes() -> keras.Model:
    x = keras.Input((None,), name="note")
    embedded = layers.Embedding(5, 4, mask_zero=True, embeddings_initializer="normal")(x)
    return keras.Model(x, _softmax(layers.GRU(4, return_sequences=True)(embedded)))


@dataclass(frozen=True, slots=True)
class Own:
    """One of them, untrained: what it answers is what Keras' own weights give."""

    name: str
    build: Callable[[], keras.Model]
    contract: str

    @property
    def key(self) -> str:
        """The content of this file."""
        hashed = hashlib.sha256(self.name.encode())
        update(hashed, Path(__file__))
        return hashed.hexdigest()[:16]

    def make(self, root: Path) -> None:
        """Save and export it."""
        folder = root.parent
        keras.utils.set_random_seed(8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras', when it saves
            self.build().save(folder / "own.keras")
            (folder / "own.toml").write_text(self.contract)
            (folder / "words.txt").write_text("\n".join(WORDS))
            export_own(folder / "own.keras", folder / "own.toml", root, None, [], allow_leak=False)


OWN = (
    Own("orders", _orders, ORDERS + HEAD),
    Own("window", _window, WINDOW + HEAD),
    Own("notes", _notes, NOTES.replace("[[examples]]", HEAD + 'per = "step"\n[[examples]]', 1)),
)
