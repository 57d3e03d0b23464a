"""Text for a user's own sequence model whose vocabulary is outside of it: to a class, and to a tag a word."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from seqserve.models.config import ConfigInvalid
from tests.doors import predict
from tests.models.bring.own import HEAD, answers, called, export, manifest_of
from tests.tfserving.reload import ModelServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
TEXTS = ["the parcel came late", "my invoice is wrong", "parcel and invoice came"]
EXAMPLES = "".join(f"[[examples]]\nnote = {json.dumps(text)}\n" for text in TEXTS)
NOTE = (
    'name = "own"\n[features.note]\nkind = "tokens"\n'
    'vocabulary = { kind = "text_vectorization", file = "words.txt", size = 20 }\n'
)


def vectorizer(folder: Path) -> Any:
    """The layer that training had, its vocabulary written as people write it."""
    layer = layers.TextVectorization()
    layer.adapt(TEXTS)
    (folder / "words.txt").write_text("\n".join(layer.get_vocabulary()))
    return layer


def tagger(*body: Any) -> keras.Model:
    """Embedded ids that are masked, then the body."""
    keras.utils.set_random_seed(2)
    x = state = keras.Input((None,), name="ids")
    state = layers.Embedding(20, 6, mask_zero=True, embeddings_initializer="normal")(state)
    for layer in body:
        state = layer(state)
    return keras.Model(x, layers.Dense(3, activation="softmax", kernel_initializer="normal")(state * 20))


def test_text_to_class(tmp_path: Path, model_server: ModelServer) -> None:
    """A model whose TextVectorization is outside: texts in, the model's own answers out of every door."""
    outside = vectorizer(tmp_path)
    model = tagger(layers.LSTM(6))
    version = export(model, NOTE + HEAD + EXAMPLES, tmp_path)
    manifest = manifest_of(version)
    assert (manifest.limits.text_pieces, manifest.limits.sequence_steps) == (40, None)
    assert manifest.masking_inputs == ("note",)
    texts = ["The parcel, is LATE!", "nothing known here", "invoice"]
    wanted = [model.predict(np.asarray(outside([text])), verbose=0)[0] for text in texts]
    for server in (None, model_server):
        for got, expected in zip(answers(version, [{"note": t} for t in texts], server), wanted, strict=True):
            assert got == pytest.approx(expected, abs=1e-5)
    for text, reason in (
        ("", "EMPTY_TEXT"),
        ("?!", "EMPTY_TEXT"),
        ("late " * 41, "TEXT_TOO_LONG"),
        ("x" * 2001, "TEXT_TOO_LONG"),
        (["late", "wrong"], "WRONG_TYPE"),
    ):
        doors = called(version, predict(sequences=[{"note": text}], model="own"))
        assert [found for found, _ in doors] == [reason] * 2, text


def test_text_to_a_tag_a_word(tmp_path: Path) -> None:
    """By characters: each word is answered at its first one, and stands beside its tag."""
    characters = sorted(set("".join(TEXTS)))
    (tmp_path / "words.json").write_text(json.dumps(["", *characters]))
    model = tagger(layers.GRU(6, return_sequences=True))
    contract = NOTE.replace("text_vectorization", "characters").replace("words.txt", "words.json")
    version = export(model, contract + HEAD + 'per = "step"\n' + EXAMPLES, tmp_path)
    text = "my late parcel"
    ids = np.array([[1 + characters.index(c) for c in text]])
    probabilities = model.predict(ids, verbose=0)[0][[0, 3, 8]]
    for answer, _ in called(version, predict(sequences=[{"note": text}], model="own", top_k=3)):
        head = answer["predictions"][0]["heads"]["label"]
        assert head["words"] == ["my", "late", "parcel"]
        for step, row in zip(head["steps"], probabilities, strict=True):
            assert {e["label"]: e["probability"] for e in step["top"]} == pytest.approx(
                dict(zip("abc", row.tolist(), strict=True)), abs=1e-5
            )


def test_two_texts_of_their_own_lengths(tmp_path: Path) -> None:
    """A pair, each masked by itself, beside a value of the whole pair."""
    outside = vectorizer(tmp_path)
    keras.utils.set_random_seed(7)
    inputs = [keras.Input((None,), name=name) for name in ("note", "reply")]
    shared = layers.Embedding(20, 6, mask_zero=True, embeddings_initializer="normal")
    states = [layers.GRU(5)(shared(x)) for x in inputs]
    days = keras.Input((1,), name="days")
    score = layers.Dense(3, activation="softmax", kernel_initializer="normal")
    model = keras.Model([*inputs, days], score(layers.Concatenate()([*states, days]) * 20))
    both = NOTE + NOTE.replace('name = "own"\n', "").replace("note", "reply")
    examples = EXAMPLES.replace("note =", 'days = 0.1\nreply = "the parcel"\nnote =')
    number = '[features.days]\nkind = "numbers"\nper = "sequence"\n'
    version = export(model, both + number + HEAD + examples, tmp_path)
    assert manifest_of(version).masking_inputs == ("note", "reply")
    row = {"note": "my parcel is late", "reply": "wrong", "days": 0.25}
    fed = [np.asarray(outside([row["note"]])), np.asarray(outside([row["reply"]])), np.array([[0.25]])]
    (got,) = answers(version, [row])
    assert got == pytest.approx(model.predict(fed, verbose=0)[0], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"words.txt"', '"word.txt"'), ["features.note.vocabulary.file", "word.txt", "not there"]),
        (
            ('"text_vectorization", file = "words.txt", size = 20', '"none"'),
            ["features.note", "vocabulary", 'kind = "text"'],
        ),
        ((EXAMPLES, ""), ["examples", "features.note"]),
        (('name = "own"\n', 'name = "own"\nlimits.text_pieces = 99\n'), ["limits.text_pieces", "99", "40"]),
        (
            (", size = 20", ""),
            ["words.txt gives the ids 0 to 10", "has 20, 0 to 19 (Embedding '", "or size = 20 if"],
        ),
        (
            ("size = 20", "size = 21"),
            ["features.note.vocabulary", "0 to 20", "has 20, 0 to 19", "max_tokens"],
        ),
    ],
    ids=["no file", "no vocabulary", "no examples", "pieces", "words left out", "too many words"],
)
def test_a_wrong_vocabulary_is_named(change: tuple[str, str], words: list[str], tmp_path: Path) -> None:
    """The message names the field of the contract."""
    vectorizer(tmp_path)
    with pytest.raises(ConfigInvalid) as caught:
        export(tagger(layers.LSTM(6)), (NOTE + HEAD + EXAMPLES).replace(*change), tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
