"""SavedModels of others: exported by a signature and answered as they answer, or refused with the way out."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import layers

from seqserve.models.bring.translation.proof import AnswersDiffer
from seqserve.models.check import check_version
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.pipeline import Server
from seqserve.models.config import ConfigInvalid
from seqserve.service import errors
from tests.doors import predict, translate
from tests.models.bring.own import answers, called, manifest_of, tables
from tests.models.bring.saved import (
    EXAMPLES,
    NOTE,
    NUMBERS,
    SENTENCES,
    SOFTMAX,
    TEXTS,
    Totals,
    Words,
    classifier_of_texts,
    export,
    save_as_tensorflow_1,
    save_parsing,
    sequential,
)
from tests.tfserving.reload import ModelServer, config_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
MASKED = {
    "keras 3, two ways": (keras, lambda: [layers.Masking(-10.0), layers.Bidirectional(layers.GRU(4))]),
    "keras 2": (tf_keras, lambda: [tf_keras.layers.Masking(-10.0), tf_keras.layers.LSTM(6)]),
}


def saved_by_keras(model: Any, folder: Path) -> Path:
    """Save as each Keras does for serving."""
    if isinstance(model, keras.Model):
        model.export(str(folder), verbose=False)
    else:
        model.save(str(folder), save_format="tf")
    return folder


@pytest.mark.parametrize(("kind", "body"), MASKED.values(), ids=MASKED)
def test_a_masked_model_is_answered_as_keras_does(
    kind: Any, body: Callable[[], list[Any]], tmp_path: Path, model_server: ModelServer
) -> None:
    """What it masks by is found in its graph, and no operation needs a GPU; both backends, both doors."""
    model = sequential(kind, *body())
    version = export(saved_by_keras(model, tmp_path / "saved"), NUMBERS + SOFTMAX, tmp_path / "models")
    manifest = manifest_of(version)
    assert (manifest.masking_inputs, manifest.signatures["serving_default"].inputs["x"].pad_value) == (
        ("x",),
        -10,
    )
    rows = tables(3, 1, 17)
    wanted = [model.predict(row[None], verbose=0)[0] for row in rows]
    sequences = [{"x": row.tolist()} for row in rows]
    for server in (None, model_server):
        for got, one in zip(answers(version, sequences, server), wanted, strict=True):
            assert got == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("kind", [keras, tf_keras])
def test_text_to_a_class(kind: Any, tmp_path: Path, model_server: ModelServer) -> None:
    """A text goes to the graph as it is, its vocabulary travels; other rows beside it change nothing."""
    model = classifier_of_texts(kind)
    folder = saved_by_keras(model, tmp_path / "saved")
    version = export(folder, NOTE + SOFTMAX + EXAMPLES, tmp_path / "models")
    shutil.rmtree(folder)
    wanted = model.predict(tf.constant([[text] for text in TEXTS]), verbose=0)
    for server in (None, model_server):
        got = answers(version, [{"note": text} for text in TEXTS], server)
        assert np.array(got) == pytest.approx(wanted, abs=1e-5)
    model_server.serve(config_file({"own": version.parent}))
    check_version(version, Server(model_server.address))


@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("", "EMPTY_TEXT"),
        ("x" * 2001, "TEXT_TOO_LONG"),
        (["a", "b"], "WRONG_TYPE"),
        (None, "MISSING_FEATURE"),
    ],
)
def test_texts_that_are_refused_at_both_doors(plain: Path, note: Any, reason: str) -> None:
    row = predict(reason, sequences=[{"note": note}], model="own")
    assert called(plain, row) == [(reason, "INVALID_ARGUMENT")] * 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version that answers a text by a text."""
    folder = tmp_path_factory.mktemp("plain")
    module = Words(folder / "words.txt")
    tf.saved_model.save(module, str(folder / "saved"), signatures={"say": module.translate})
    (folder / "words.txt").unlink()
    return export(folder / "saved", NOTE + '[heads.german]\nkind = "text"\n' + EXAMPLES, folder / "models")


def test_a_head_of_text(plain: Path, model_server: ModelServer) -> None:
    """The only signature is taken; tables from a file and variables of strings travel."""
    row = predict(sequences=[{"note": "Two dogs"}, {"note": "a big cat"}], model="own")
    for server in (None, model_server):
        for answer, _ in called(plain, row, server):
            texts = [item["heads"]["german"]["text"] for item in answer["predictions"]]
            assert texts == ["zwei Hunde", "eine ? Katze"]


@pytest.mark.parametrize("by_resource", [True, False])
def test_a_graph_of_tensorflow_1(by_resource: bool, tmp_path: Path, model_server: ModelServer) -> None:
    """Its table's file travels; variables that a session holds become constants."""
    wanted = save_as_tensorflow_1(tmp_path / "saved", by_resource)
    (tmp_path / "words.txt").unlink()
    heads = '[heads.y]\nkind = "numeric"\ncolumns = ["a", "b", "c"]\n'
    version = export(tmp_path / "saved", NOTE + heads + EXAMPLES, tmp_path / "models")
    shutil.rmtree(tmp_path / "saved")
    assert (version / "assets" / "words.txt").exists()
    row = predict(sequences=[{"note": "dogs"}, {"note": "none"}], model="own")
    for server in (None, model_server):
        for answer, _ in called(version, row, server):
            heads_of = [item["heads"]["y"] for item in answer["predictions"]]
            values = [head.get("value", head.get("values")) for head in heads_of]  # gRPC has two members
            assert np.array(values) == pytest.approx(wanted)


def test_a_text_beside_a_sequence(tmp_path: Path) -> None:
    """The sequence is padded and masked, the text is not."""
    keras.utils.set_random_seed(3)
    vectorize = layers.TextVectorization()
    vectorize.adapt(SENTENCES)
    note, x = keras.Input((1,), dtype="string", name="note"), keras.Input((None, 2), name="x")
    said = layers.GRU(4)(layers.Embedding(20, 4, mask_zero=True)(vectorize(note)))
    done = layers.LSTM(4)(layers.Masking(-10.0)(x))
    label = layers.Dense(3, activation="softmax")(layers.Concatenate()([said, done]))
    model = keras.Model([note, x], label)
    contract = (
        NUMBERS + NOTE + SOFTMAX + '[[examples]]\nnote = "two dogs run"\nx = [[1.0, 2.0], [0.5, 0.1]]\n'
    )
    version = export(saved_by_keras(model, tmp_path / "saved"), contract, tmp_path / "models")
    assert manifest_of(version).masking_inputs == ("x",)
    rows = tables(3, 1, 17)
    sequences = [{"note": text, "x": row.tolist()} for text, row in zip(TEXTS, rows, strict=False)]
    wanted = [
        model.predict([tf.constant([[text]]), row[None]], verbose=0)[0]
        for text, row in zip(TEXTS, rows, strict=False)
    ]
    assert np.array(answers(version, sequences)) == pytest.approx(np.array(wanted), abs=1e-5)


def test_a_leak_says_what_helps(tmp_path: Path) -> None:
    """A mean over all steps is another one with padding; rows alone are answered as Keras does."""
    model = sequential(tf_keras, tf_keras.layers.Dense(4), tf_keras.layers.GlobalAveragePooling1D())
    folder = saved_by_keras(model, tmp_path / "saved")
    with pytest.raises(PaddingLeak, match=r"; let the model mask its padding .*, or give --allow-leak"):
        export(folder, NUMBERS + SOFTMAX, tmp_path / "models")
    version = export(folder, NUMBERS + SOFTMAX, tmp_path / "models", allow_leak=True)
    rows = tables(3, 7)
    wanted = [model.predict(row[None], verbose=0)[0] for row in rows]
    got = answers(version, [{"x": row.tolist()} for row in rows])
    assert np.array(got) == pytest.approx(np.array(wanted), abs=1e-5)


# --- what is refused ------------------------------------------------------------------------------

SUM = '[features.x]\nkind = "numbers"\n[heads.y]\nkind = "numeric"\n'
REFUSED: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "messages as inputs": (
        save_parsing,
        NOTE + '[heads.y]\nkind = "numeric"\n' + EXAMPLES,
        r"input 'examples' .* serialized tf.Example messages \(operation ParseExampleV2\): save a signature",
    ),
    "Python code": (
        lambda folder: Totals().save(folder, function="by_python"),
        SUM,
        r"operation EagerPyFunc calls Python code, .* write it with TensorFlow's own",
    ),
    "a fixed batch": (
        lambda folder: Totals().save(folder, 1, None),
        SUM,
        r"input 'x' \(1, None\) float32 has no open batch axis.* None as the first size",
    ),
    "a number of axes that nobody knows": (
        lambda folder: Totals().save(folder, function="without_shape"),
        SUM,
        r"'y' has no known number of axes: save it again with tf.ensure_shape",
    ),
    "a signature that is not there": (
        lambda folder: Totals().save(folder),
        'signature = "other"\n' + SUM,
        "signature: .* has no signature 'other'; it has 'serving_default'",
    ),
    "numbers for a text": (
        lambda folder: Totals().save(folder),
        NOTE + '[heads.y]\nkind = "numeric"\n' + EXAMPLES,
        r"features.note: text cannot go into input 'x'",
    ),
    "no SavedModel": (Path.mkdir, SUM, r"a folder with a saved_model.pb is expected, or MODEL.keras"),
    "a graph cut short": (
        lambda folder: (Totals().save(folder) / "saved_model.pb").write_bytes(b"\x08\x01\x12"),
        SUM,
        "TensorFlow cannot load it",
    ),
    "texts without examples": (
        lambda folder: Totals().save(folder),
        NOTE + '[heads.y]\nkind = "numeric"\n',
        "examples: features.note is text, of which none can be drawn; give some",
    ),
    "buckets of texts": (
        lambda folder: _save_words(folder),
        "buckets = [8]\n" + NOTE + '[heads.german]\nkind = "text"\n' + EXAMPLES,
        r"buckets: \[8\], but no feature has steps to be padded; leave it out",
    ),
    "scores where there is text": (
        lambda folder: _save_words(folder),
        NOTE + '[heads.german]\nkind = "numeric"\n' + EXAMPLES,
        "heads.german: output 'german' .* is text; kind = \"text\" answers with it",
    ),
}


def _save_words(folder: Path) -> Path:
    module = Words(folder.parent / "words.txt")
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.translate})
    return folder


@pytest.mark.parametrize(("save", "contract", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, save: Callable[[Path], Any], contract: str, says: str
) -> None:
    save(tmp_path / "saved")
    with pytest.raises(ConfigInvalid, match=says):
        export(tmp_path / "saved", contract, tmp_path / "models")
    assert not list(tmp_path.glob("models/*/*"))


def test_several_signatures_are_listed(tmp_path: Path) -> None:
    module = Totals()
    spec = tf.TensorSpec([None, None], tf.float32, name="x")
    traced = tf.function(module.total).get_concrete_function(spec)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"one": traced, "two": traced})
    with pytest.raises(ConfigInvalid, match="has 'one', 'two'; name one in the contract"):
        export(tmp_path / "saved", SUM, tmp_path / "models")


def test_a_version_is_not_exported_again(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"assets/manifest.json is there already: .* seqserve publish"):
        export(shutil.copytree(plain, tmp_path / "saved"), SUM, tmp_path / "models")


# --- translators of strings -----------------------------------------------------------------------

STRINGS = 'task = "translation"\n[source]\nkind = "none"\n[target]\nkind = "none"\n'
PAIRS = {
    "Two dogs": "zwei Hunde",
    "a cat sits": "eine Katze sitzt",
    "dogs": "Hunde",
    "a big cat": "eine ? Katze",
}


def strings(pairs: dict[str, str] = PAIRS) -> str:
    examples = (f'[[examples]]\nsource = "{text}"\nexpected = "{pairs[text]}"\n' for text in pairs)
    return STRINGS + "".join(examples)


def test_a_translator_of_strings(tmp_path: Path, model_server: ModelServer) -> None:
    """It answers as it does alone, without a score, by both backends and both doors, in batches."""
    folder = _save_words(tmp_path / "saved")
    expect = tmp_path / "expected.jsonl"
    expect.write_text('{"source": "two cats", "translation": "zwei"}\n', "utf-8")
    version = export(folder, strings(), tmp_path / "models", expect=expect)
    manifest = manifest_of(version)
    assert manifest.is_raw
    assert (manifest.card or {})["metrics"] == {"compared": 5, "equal": 5}
    row = translate(texts=[*PAIRS, ""], model="own", tokens=True)
    for server in (None, model_server):
        for answer, _ in called(version, row, server):
            *items, refused = answer["translations"]
            assert [item["text"] for item in items] == list(PAIRS.values())
            assert items[0] == {
                "text": "zwei Hunde",
                "source_tokens": ["Two", "dogs"],
                "target_tokens": ["zwei", "Hunde"],
            }
            assert refused["error"]["reason"] == "EMPTY_TEXT"
    model_server.serve(config_file({"own": version.parent}))
    check_version(version, Server(model_server.address))


def test_another_expected_translation_is_shown(tmp_path: Path) -> None:
    wrong = {**PAIRS, "dogs": "Katzen"}
    with pytest.raises(AnswersDiffer, match=r"1 of 4 .* 'dogs' gives 'Hunde', 'Katzen' is expected"):
        export(_save_words(tmp_path / "saved"), strings(wrong), tmp_path / "models")


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        (STRINGS, "examples: give one at least"),
        ("max_beams = 4\n" + strings(), 'max_beams: source.kind is "none"'),
        ("buckets = [8]\n" + strings(), 'buckets: source.kind is "none"'),
        (strings().replace("[target]\n", "[target]\nlength = 9\n"), "target.length: .* leave it out"),
    ],
)
def test_what_a_translator_of_strings_has_not(tmp_path: Path, contract: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says):
        export(_save_words(tmp_path / "saved"), contract, tmp_path / "models")


def test_a_translator_of_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigInvalid, match=r"source: .* takes 'x' \(None, None\) float32, not one string a row"
    ):
        export(Totals().save(tmp_path / "saved"), strings(), tmp_path / "models")


def test_a_graph_that_writes_no_utf_8_is_refused(tmp_path: Path) -> None:
    class Broken(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def cut(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"text": tf.strings.substr(text, 0, 1)}

    module = Broken()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.cut})
    with pytest.raises(ConfigInvalid, match="the output is a text that is not UTF-8"):
        export(tmp_path / "saved", strings({"über": "ü"}), tmp_path / "models")
    version = export(tmp_path / "saved", strings({"two": "t"}), tmp_path / "models")
    row = translate("BACKEND_FAILED", texts=["über"], model="own")
    assert called(version, row) == [(errors.BackendFailed.reason, "INTERNAL")] * 2
