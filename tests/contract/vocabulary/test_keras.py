"""Ids against the real things: Keras 3's and Keras 2's `TextVectorization`, Keras 2's `Tokenizer`."""

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import keras
import orjson
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Vocabulary
from seqserve.service.contract.vocabulary.load import load_vocabulary
from tests.contract.vocabulary.drawn import ASSIGNED_TEXT, KNOWN_WORDS, TEXT, TEXTS, unaccented

STANDARDIZATIONS = ("lower_and_strip_punctuation", "lower", "strip_punctuation", None)
SPLITS = ("whitespace", "character", None)
LISTED = [*KNOWN_WORDS, "dont", "dogs.", "Two", "[START]", "[END]", *"abcdosté .'", "two dogs", "\u0308"]


def vocabulary_of(special: SpecialIds, **file: Any) -> Vocabulary:
    spec = Tokens(tokenizer="v.json", special_ids=special, add_end=False)
    return load_vocabulary(orjson.dumps(file), spec)


def layer_ids(layer: Any, texts: list[str]) -> list[list[int]]:
    """Return the ids that a ragged layer gives each text; the ones of an empty text count as none."""
    ids = layer(tf.constant([*texts, ""])[:, None])
    rows = ids.to_list() if isinstance(ids, tf.RaggedTensor) else ids.numpy().tolist()
    return [row if row != rows[-1] else [] for row in rows[:-1]]


# a layer is made once for each way: that takes a tenth of a second
KINDS = {"keras 3": keras.layers.TextVectorization, "keras 2": tf_keras.layers.TextVectorization}
WAYS = [("keras 3", how, split) for how in STANDARDIZATIONS for split in SPLITS]


@pytest.mark.parametrize(
    ("made_by", "standardize", "split"), [*WAYS, ("keras 2", "lower_and_strip_punctuation", "whitespace")]
)
def test_text_vectorization(made_by: str, standardize: str | None, split: str | None) -> None:
    """Any text has the layer's ids, for every standardization and split."""
    layer = KINDS[made_by](standardize=standardize, split=split, vocabulary=LISTED, ragged=True)
    ours = vocabulary_of(
        SpecialIds(start=None, end=None),
        kind="text_vectorization",
        vocabulary=layer.get_vocabulary(),
        standardize=standardize,
        split=split,
    )
    assert ours.size == layer.vocabulary_size()

    @given(texts=TEXTS)
    @settings(max_examples=25, deadline=None)
    def check(texts: list[str]) -> None:
        assert [ours.encode(text) for text in texts] == layer_ids(layer, texts)

    check()


def _standardize(text: tf.Tensor) -> tf.Tensor:
    """Standardize as translators after TensorFlow's tutorial do, after the Unicode form."""
    kept = tf.strings.regex_replace(tf.strings.lower(text), "[^ a-z.?!,¿]", "")
    spaced = tf.strings.regex_replace(kept, "[.?!,¿]", r" \0 ")
    return tf.strings.join(["[START]", tf.strings.strip(spaced), "[END]"], separator=" ")


TUTORIAL = (
    {"step": "unicode", "form": "NFKD"},
    {"step": "lower", "letters": "ascii"},
    {"step": "replace", "pattern": "[^ a-z.?!,¿]", "replacement": ""},
    {"step": "replace", "pattern": "[.?!,¿]", "replacement": r" \0 "},
    {"step": "strip", "spaces": "ascii"},
    {"step": "prefix", "text": "[START] "},
    {"step": "suffix", "text": " [END]"},
)


def test_a_standardization_of_ones_own() -> None:
    """As ordered steps it gives the ids of a layer with the same as a function; TensorFlow Text's
    normalization, which needs a package of its own, is Python's here."""
    layer = keras.layers.TextVectorization(standardize=_standardize, vocabulary=LISTED, ragged=True)
    words = layer.get_vocabulary()
    ours = vocabulary_of(
        SpecialIds(start=words.index("[START]"), end=words.index("[END]")),
        kind="text_vectorization",
        vocabulary=words,
        standardize=None,
        split="whitespace",
        steps=TUTORIAL,
    )

    @given(texts=TEXTS)
    @settings(max_examples=25, deadline=None)
    def check(texts: list[str]) -> None:
        normalized = [unicodedata.normalize("NFKD", text) for text in texts]
        assert [ours.encode(text) for text in texts] == layer_ids(layer, normalized)

    check()
    ids = ours.encode("Two dogs, e\u0301té!")
    assert (ids[0], ids[-1]) == (words.index("[START]"), words.index("[END]"))
    assert ours.decode(ids) == "two dogs [UNK] [UNK] [UNK]"


# --- Keras 2's Tokenizer --------------------------------------------------------------------------

CORPUS = (" ".join(KNOWN_WORDS), "two dogs run, don't they? Two DOGS\trun.", "<start> a-b <end>", "two two")
TOKENIZERS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "unknown words mapped": {"oov_token": "<OOV>"},
    "nothing filtered": {"filters": "", "lower": False},
    "the commonest": {"num_words": 6},
    "the commonest, others mapped": {"num_words": 6, "oov_token": "<OOV>"},
    "more than there are": {"num_words": 100, "oov_token": "<OOV>"},
    "another separator": {"split": "ab", "filters": ",.\t"},
    "characters": {"char_level": True},
    "characters, others mapped": {"char_level": True, "lower": False, "oov_token": "?"},  # the text's own ?
}


def _fitted(**options: Any) -> Any:
    tokenizer = tf_keras.preprocessing.text.Tokenizer(**options)
    tokenizer.fit_on_texts(CORPUS)
    return tokenizer


def _read(tokenizer: Any) -> Vocabulary:
    special = SpecialIds(unknown=tokenizer.word_index.get(tokenizer.oov_token), start=None, end=None)
    spec = Tokens(tokenizer="v.json", special_ids=special, add_end=False)
    return load_vocabulary(tokenizer.to_json().encode(), spec)


@pytest.mark.parametrize("options", TOKENIZERS.values(), ids=TOKENIZERS)
@given(texts=st.lists(TEXT, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_tokenizer(options: dict[str, Any], texts: list[str]) -> None:
    """Its own JSON is a vocabulary that gives its ids, those of unknown words included or left out."""
    tokenizer = _fitted(**options)
    ours = _read(tokenizer)
    assert [ours.encode(text) for text in texts] == tokenizer.texts_to_sequences(texts)


@pytest.mark.parametrize("options", TOKENIZERS.values(), ids=TOKENIZERS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_tokenizer_decodes(options: dict[str, Any], data: st.DataObject) -> None:
    """Ids are written as it writes them; characters without its spaces between them."""
    tokenizer = _fitted(**options)
    ours = _read(tokenizer)
    ids = data.draw(st.lists(st.integers(1, ours.size - 1), max_size=12))
    written = tokenizer.sequences_to_texts([[i] for i in ids])
    joint = "" if options.get("char_level") else " "
    assert ours.decode([0, *ids, 0]) == joint.join(filter(None, written))


def _preprocessed(text: str) -> str:
    """Prepare a sentence as the older form of TensorFlow's tutorial has it, in Python."""
    spaced = re.sub("([?.!,¿])", r" \1 ", unaccented(text.lower().strip()))
    return f"<start> {re.sub('[^a-zA-Z?.!,¿]+', ' ', spaced).strip()} <end>"


OLDER_TUTORIAL = (
    {"step": "lower", "letters": "all"},
    {"step": "strip", "spaces": "all"},
    {"step": "unicode", "form": "NFD"},
    {"step": "replace", "pattern": r"\p{Mn}", "replacement": ""},
    {"step": "replace", "pattern": "([?.!,¿])", "replacement": r" \1 "},
    {"step": "replace", "pattern": "[^a-zA-Z?.!,¿]+", "replacement": " "},
    {"step": "strip", "spaces": "all"},
    {"step": "prefix", "text": "<start> "},
    {"step": "suffix", "text": " <end>"},
)


def _older() -> tuple[Any, Callable[[str], list[int]]]:
    tokenizer = tf_keras.preprocessing.text.Tokenizer(filters="")
    tokenizer.fit_on_texts([_preprocessed(text) for text in CORPUS])
    index = tokenizer.word_index
    ours = vocabulary_of(
        SpecialIds(unknown=None, start=index["<start>"], end=index["<end>"]),
        kind="word_index",
        word_index=index,
        lower=True,
        steps=OLDER_TUTORIAL,
    )
    return tokenizer, ours.encode


OLDER = _older()


@given(texts=st.lists(ASSIGNED_TEXT, min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_preparing_in_python(texts: list[str]) -> None:
    """Steps before a Tokenizer give the ids of sentences prepared by a Python function."""
    tokenizer, encode = OLDER
    *wanted, nothing = tokenizer.texts_to_sequences([_preprocessed(text) for text in (*texts, "")])
    assert [encode(text) for text in texts] == [ids if ids != nothing else [] for ids in wanted]


def test_a_bare_word_index() -> None:
    """The words of a JSON object of ids are what stands between spaces; nothing else is done to a text."""
    index = {"<start>": 1, "<end>": 2, "Two": 3, "dogs.": 5}
    spec = Tokens(tokenizer="v.json", special_ids=SpecialIds(unknown=None, start=1, end=2), add_start=True)
    ours = load_vocabulary(json.dumps(index).encode(), spec)
    assert ours.size == 6
    assert ours.encode(" Two  dogs. two dogs") == [1, 3, 5, 2]
    assert ours.decode([1, 3, 4, 5, 2, 0]) == "Two dogs."
