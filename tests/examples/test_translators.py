"""The four translators of examples/translators: what each saves is whole, and answers as its loop does."""

import importlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqserve.models.networks.decoding import Bounds, beamless, for_beams, greedy
from seqserve.service.contract.manifest import SpecialIds
from tests.translators import FOLDER, STYLES, Style

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]


@pytest.fixture(scope="module")
def root(translators: Path) -> Iterator[Path]:
    """The root of the translators; the scripts import each other, as they do when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield translators


def run(root: Path, name: str) -> tuple[Any, Path]:
    """Return a script, and the folder that it wrote."""
    return importlib.import_module(name), root / f"dates-{name}" / "trained"


def expected(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sources and the translations of expected.jsonl."""
    lines = [json.loads(line) for line in (folder / "expected.jsonl").read_text("utf-8").splitlines()]
    assert {tuple(line) for line in lines} == {("source", "translation")}
    return [line["source"] for line in lines], [line["translation"] for line in lines]


def served(load: Any, folder: Path, ids: np.ndarray, start: int, end: int, longest: int) -> Any:
    """Decode greedily by this project's loop around the functions that a `load` returns."""
    encode, advance = load(folder)
    special = SpecialIds(pad=0, unknown=1, start=start, end=end)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def decode(ids: tf.Tensor) -> Any:
        rows, (state, memory) = tf.shape(ids)[:1], encode(ids)
        bounds = Bounds(tf.fill(rows, longest), tf.zeros(rows))
        return greedy(beamless(advance), state, for_beams(memory, 1), bounds, special)

    return decode(tf.constant(ids, tf.int32))


def assert_same(decoded: Any, translations: Sequence[Any]) -> None:
    """Ids are equal, and so are the sums of log p."""
    lengths, ids, scores = (np.asarray(x)[:, 0] for x in (decoded.lengths, decoded.ids, decoded.scores))
    for place, one in enumerate(translations):
        assert ids[place, : lengths[place]].tolist() == one.ids
        assert scores[place] == pytest.approx(sum(one.scores), abs=1e-4)


def test_attention(root: Path) -> None:
    """The model that Keras loads, in this project's loop, gives the ids of the script's own."""
    script, folder = run(root, "attention")
    source, target = (
        keras.layers.TextVectorization(
            standardize=script.standardize,
            ragged=True,
            vocabulary=(folder / name).read_text("utf-8").split("\n")[:-1],
        )
        for name in ("source.txt", "target.txt")
    )
    texts, wanted = expected(folder)
    model = keras.saving.load_model(folder / "translator.keras", compile=False)
    translations = script.translate(model, source, target, texts)
    assert [one.text for one in translations] == wanted
    ids = source(tf.constant(texts)).to_tensor().numpy()
    words = target.get_vocabulary()
    load = importlib.import_module("attention_steps").load
    decoded = served(load, folder, ids, words.index("[START]"), words.index("[END]"), script.LONGEST)
    assert_same(decoded, translations)
    attention = np.asarray(decoded.attention)[:, 0, 0]
    assert attention[ids != 0].sum() == pytest.approx(len(texts), rel=1e-5)


def test_attention_weights(root: Path) -> None:
    """The weights alone, in a model built anew, are those of the model's file."""
    script, folder = run(root, "attention")
    whole = keras.saving.load_model(folder / "translator.keras", compile=False)
    alone = script.Translator(**whole.sizes)
    alone((tf.zeros((1, 2), tf.int64), tf.zeros((1, 2), tf.int64)))
    alone.load_weights(folder / "translator.weights.h5")
    for one, other in zip(alone.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_checkpoint(root: Path) -> None:
    """The checkpoint, restored into this project's loop, gives the ids of the script's own."""
    script, folder = run(root, "checkpoint")
    source_words, target_words = (
        json.loads((folder / f"{side}_words.json").read_text("utf-8")) for side in ("source", "target")
    )
    contract = tomllib.loads((FOLDER / "checkpoint.toml").read_text("utf-8"))
    lengths = contract["source"]["length"], contract["target"]["length"]
    encoder, decoder = script.build(len(source_words), len(target_words))
    newest = tf.train.latest_checkpoint(folder / script.CHECKPOINTS)
    tf.train.Checkpoint(encoder=encoder, decoder=decoder).restore(newest).expect_partial()
    evaluator = script.Evaluator(encoder, decoder, (source_words, target_words), lengths)
    texts, wanted = expected(folder)
    translations, attention = evaluator.evaluate(texts)
    assert [one.text for one in translations] == wanted
    load = importlib.import_module("checkpoint_steps").load
    start, end = target_words["<start>"], target_words["<end>"]
    decoded = served(load, folder, evaluator.encode(texts), start, end, lengths[1])
    assert_same(decoded, translations)
    first = np.asarray(decoded.attention)[:, 0, 0]
    assert first == pytest.approx(attention[:, 0], abs=1e-5)


def test_characters(root: Path) -> None:
    """What is written character by character is as likely as the model, given it at once, says."""
    script, folder = run(root, "characters")
    model = keras.saving.load_model(folder / "s2s_model.keras")
    indices = [
        json.loads((folder / f"{side}_characters.json").read_text("utf-8")) for side in ("source", "target")
    ]
    contract = tomllib.loads((FOLDER / "characters.toml").read_text("utf-8"))
    lengths = contract["source"]["length"], contract["target"]["length"]
    texts, wanted = expected(folder)
    translations = script.Sampler(model, indices, lengths).decode(texts)
    assert [one.text for one in translations] == wanted
    source = script.one_hot(texts, lengths[0], indices[0])
    characters = "".join(indices[1])
    written = ["".join(characters[i] for i in one.ids) for one in translations]
    target = script.one_hot([script.START + text for text in written], lengths[1] + 1, indices[1])
    log_p = np.log(model.predict([source, target[:, :-1]], verbose=0))
    for row, one in zip(log_p, translations, strict=True):
        steps = range(len(one.ids))
        assert row[steps, one.ids] == pytest.approx(one.scores, abs=1e-4)
        assert row.argmax(axis=-1)[: len(one.ids)].tolist() == one.ids


def test_strings(root: Path) -> None:
    """The SavedModel gives by its signature, a text at a time, what it gave for all texts at once."""
    _, folder = run(root, "strings")
    texts, wanted = expected(folder)
    loaded = tf.saved_model.load(str(folder / "translator"))
    call = loaded.signatures["serving_default"]
    for text, translation in list(zip(texts, wanted, strict=True))[:20]:
        (answer,) = call(tf.constant([text])).values()
        assert answer.numpy()[0].decode() == translation


def test_strings_without_accents(root: Path) -> None:
    """With tensorflow_text an accented letter is the plain one; without, the letter itself."""
    script = importlib.import_module("strings")
    assert script.without_accents(tf.constant("22. März")).numpy().decode() == "[START] 22 .  marz [END]"
    assert script.standardize(tf.constant("22. März")).numpy().decode() == "[START] 22 .  märz [END]"


@pytest.mark.parametrize("name", ["attention", "checkpoint", "characters", "strings"])
def test_a_contract_names_what_its_script_writes(root: Path, name: str) -> None:
    """Its files are there, its marks are in the target's vocabulary, its function is in the steps' file."""
    _, folder = run(root, name)
    contract = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    parts = (contract, contract["source"], contract["target"])
    files = [folder / part["file"] for part in parts if "file" in part]
    assert files
    assert all(file.exists() for file in files)
    if "function" in contract:
        assert callable(getattr(importlib.import_module(f"{name}_steps"), contract["function"]))
    if contract["target"]["kind"] != "none":
        text = (folder / contract["target"]["file"]).read_text("utf-8")
        words = json.loads(text) if text.startswith("{") else text.split("\n")
        assert {contract["target"]["start"], contract["target"]["end"]} <= set(words)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.script)
def test_a_contract_says_what_its_script_expects(style: Style) -> None:
    """Each has examples; only those whose translator makes no mistakes say what it gives for them."""
    contract = tomllib.loads((FOLDER / f"{style.script}.toml").read_text("utf-8"))
    assert contract["name"] == style.name
    sure = style.script in ("attention", "strings")
    says = [bool(example.get("expected")) for example in contract["examples"]]
    assert says == [sure] * len(says)
