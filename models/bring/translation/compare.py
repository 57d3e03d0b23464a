"""A vocabulary's ids against those of the user's own code, for the texts given and for drawn ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.legacy.preprocessing.text import Tokenizer

from seqserve.models.bring.translation.vocabularies import Read
from seqserve.models.config import ConfigInvalid
from seqserve.service.errors import SeqserveError

DRAWN = 40
LONGEST = 12
Ids = Callable[[Sequence[str]], Any]
"""Texts to their ids: lists, an array, or a tensor, ragged or padded."""


def draw_texts(read: Read, count: int = DRAWN) -> list[str]:
    """Return texts of the vocabulary's own words, the same ones each time."""
    random = np.random.default_rng(0)
    words = [word for word in _words(read) if word.strip()]
    joint = "" if read.table.get("kind") == "characters" or read.table.get("char_level") else " "
    lengths = random.integers(1, LONGEST + 1, count)
    return [joint.join(random.choice(words, length)) for length in lengths] if words else []


def _words(read: Read) -> Iterator[str]:
    """Yield the entries that are words: no marks in brackets, which stand for no text."""
    special = set(read.special.model_dump().values())
    for number in range(read.vocabulary.size):
        if number not in special:
            word = read.vocabulary.decode([number])
            if not (word.startswith(("[", "<")) and len(word) > 1):
                yield word


def compare_ids(side: str, read: Read, texts: Sequence[str], own: Ids | None) -> str | None:
    """Compare, and return a line that says with what; None where there is nothing to compare with.

    Args:
        own: the user's own function; what Keras does for such a vocabulary if None.

    Raises:
        ConfigInvalid: the ids of a text differ; the message shows both.
    """
    theirs, what = (own, f"{side}.ids") if own is not None else _of_keras(read)
    if theirs is None:
        return None
    changed = [change(text) for text in texts for change in (str, str.upper, lambda t: f"  {t}?! é")]
    compared = 0
    for text in changed:
        try:
            ours = read.vocabulary.encode(text)
        except SeqserveError:
            continue  # refused at the door
        wanted = _plain(theirs([text]), read.special.pad)
        compared += 1
        if ours and wanted not in _written(read, ours):
            raise ConfigInvalid(
                f"{side}: of {text!r}, {what} makes the ids {wanted}, {side} {ours}: {_why(wanted, ours)}"
            )
    return f"{side}: the ids of {compared} texts are those of {what}"


def _written(read: Read, ids: list[int]) -> list[list[int]]:
    """Return how a user's code may write ids: as they are sent or without what is added, from either end."""
    begin, end = int(read.tokens.add_start), int(read.tokens.add_end)
    bare = ids[begin : len(ids) - end]
    return [ids, bare, ids[::-1], bare[::-1]]


def _why(wanted: list[int], ours: list[int]) -> str:
    if wanted[:-1] == ours or wanted[1:] == ours or wanted[1:-1] == ours:
        return "is source.add_start or source.add_end missing, with source.start or source.end?"
    return "are its steps, standardize, split and file those of training?"


def _plain(ids: Any, pad: int) -> list[int]:
    """Return the ids of one text, without the padding on either side."""
    rows = ids.to_list() if isinstance(ids, tf.RaggedTensor) else np.asarray(ids).tolist()
    row = [int(i) for i in rows[0]]
    real = [place for place, number in enumerate(row) if number != pad]
    return row[real[0] : real[-1] + 1] if real else []


def _of_keras(read: Read) -> tuple[Ids | None, str]:
    """Return what Keras makes ids with where it has the same vocabulary, and its name."""
    table = read.table
    if table.get("steps"):
        return None, ""
    if table.get("kind") == "text_vectorization":
        entries = list(table["vocabulary"])
        while entries[-1] == "":
            entries.pop()
        layer = keras.layers.TextVectorization(
            standardize=table["standardize"], split=table["split"], vocabulary=entries, ragged=True
        )
        return lambda texts: layer(tf.constant(texts)), "Keras' TextVectorization"
    if table.get("kind") == "word_index" and "filters" in table:
        fields = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
        tokenizer = Tokenizer(**{field: table[field] for field in fields if field in table})
        tokenizer.word_index = table["word_index"]
        return tokenizer.texts_to_sequences, "Keras' Tokenizer"
    return None, ""
