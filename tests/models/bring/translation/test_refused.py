"""What cannot be served is refused with the contract's field, the model's part, and the way out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from seqserve.models.bring import bring
from seqserve.models.bring.load import load_contract
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.config import ConfigInvalid
from tests.models.bring.translation.forms import (
    LENGTH,
    SOURCE,
    TARGET,
    UNITS,
    Form,
    gru_with_dot_attention,
    ids_of,
    stacked_lstm,
    whole,
    words,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]


def brought(form: Form, folder: Path, imports: str | None = None) -> Any:
    """Save a form and bring it, with a file of the user's own if given."""
    path, contract = form.save(folder)
    files = []
    if imports is not None:
        (folder / "steps.py").write_text(imports)
        files = [folder / "steps.py"]
    return bring(path, load_contract(contract), 1, files)


def refused(form: Form, folder: Path, imports: str | None = None) -> str:
    """Return why a form is refused, on one line."""
    with pytest.raises(ConfigInvalid) as caught:
        brought(form, folder, imports)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_translator_as_it_was_taught_is_no_sequence_model(tmp_path: Path) -> None:
    """Its second time axis is the target's: as a tagger it would want the answer as its input."""
    form = gru_with_dot_attention()
    features = "".join(
        f'[features.{name}]\nkind = "categories"\nlabels = {entries[1:]}\nfirst_id = 1\n'
        for name, entries in (("english", SOURCE), ("german", TARGET))
    )
    head = f'[heads.word]\nkind = "softmax"\nper = "step"\nlabels = {TARGET}\nscores = "logits"\n'
    path, contract = form.save(tmp_path)
    contract.write_text('name = "own"\n' + (features + head).replace("'", '"'))
    with pytest.raises(ConfigInvalid) as caught:
        bring(path, load_contract(contract), 1)
    message = caught.value.message
    assert "the model's output has the time axis of input 'german'" in message
    assert "'english' (None, None) float32 may have another" in message
    assert 'Then task = "translation", with [source] and [target]' in message


def test_padding_that_leaks_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Attention that is not masked: `source.length` is what the user's own loop pads to."""
    form = gru_with_dot_attention(mask=False)
    with pytest.raises(PaddingLeak) as caught:
        form.export(tmp_path)
    assert "changes by" in caught.value.message
    assert caught.value.message.endswith(
        "; give source.length, the length that training sources were padded to, and source.padding; or "
        "--allow-leak, if your own loop pads nothing"
    )


def test_a_vocabulary_of_another_size(tmp_path: Path) -> None:
    """Of a whole model, whose width is seen only where it is tried."""
    form = gru_with_dot_attention()
    entries = len(TARGET)
    message = refused(replace(form, texts={"target.txt": "\n".join(TARGET[:-1])}), tmp_path)
    assert message.startswith(
        f"target: the vocabulary has {entries - 1} entries, the decoder {entries} scores"
    )
    assert message.endswith(f"If so, target.size = {entries}")
    message = refused(replace(form, texts={"target.txt": "\n".join([*TARGET, "more"])}), tmp_path)
    assert message.endswith("An entry that is no word counts too")


def test_scores_that_are_not_what_the_contract_says(tmp_path: Path) -> None:
    """Probabilities that are none, and numbers that are none."""
    form = gru_with_dot_attention()
    said = replace(form, contract='[decoder]\nscores = "probabilities"\n' + form.contract)
    message = refused(said, tmp_path)
    assert message == "decoder.scores: 'probabilities', but the scores do not sum to 1; leave it out"
    (model,) = form.files.values()
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    assert refused(form, tmp_path) == "decoder: its scores are not finite: are its weights those of training?"


def attending_to_itself(written: Any) -> Any:
    """Self-attention on the target's side, which sees nothing to its right."""
    return layers.MultiHeadAttention(1, 4)(written, written, use_causal_mask=True)


def convolved(written: Any) -> Any:
    """A convolution that reads the last three words."""
    return layers.Conv1D(UNITS, 3, padding="causal")(written)


@pytest.mark.parametrize("reading", [attending_to_itself, convolved])
def test_a_decoder_that_reads_all_it_has_written(reading: Callable[[Any], Any], tmp_path: Path) -> None:
    """One step of it is not the last step of the whole."""
    keras.utils.set_random_seed(1)
    texts, written = keras.Input((None,)), keras.Input((None,))
    state = layers.GRU(UNITS)(layers.Embedding(len(SOURCE), 4)(texts))
    read = reading(layers.Embedding(len(TARGET), 4)(written))
    decoded = layers.GRU(UNITS, return_sequences=True)(read, initial_state=state)
    model = keras.Model([texts, written], layers.Dense(len(TARGET))(decoded))
    model.set_weights([weight * 2.5 for weight in model.get_weights()])
    message = refused(Form(words(), {"model.keras": model}, whole(model)), tmp_path)
    assert message.startswith("decoder: at piece 2 of a translation the scores are off by")
    assert "reads more than the last piece and the recurrent state (self-attention, a convolution" in message


def test_state_that_is_kept_and_a_fixed_batch(tmp_path: Path) -> None:
    """They would carry one caller's text into another's answer."""
    form = stacked_lstm()
    texts = keras.Input(batch_shape=(2, None))
    _, *states = layers.LSTM(UNITS, return_state=True, stateful=True)(layers.Embedding(9, 4)(texts))
    encoder = keras.Model(texts, states * 2)
    files = {**form.files, "encoder_model.keras": encoder}
    assert "is stateful=True" in refused(replace(form, files=files), tmp_path)
    texts = keras.Input(batch_shape=(2, None))
    _, *states = layers.LSTM(UNITS, return_state=True)(layers.Embedding(9, 4)(texts))
    files = {**form.files, "encoder_model.keras": keras.Model(texts, states * 2)}
    assert "has a fixed batch of 2" in refused(replace(form, files=files), tmp_path)


def test_what_is_not_there(tmp_path: Path) -> None:
    """MODEL, a part's file, a part's layer: each by its own name."""
    form = gru_with_dot_attention()
    contract = form.save(tmp_path)[1]
    with pytest.raises(ConfigInvalid) as caught:
        bring(tmp_path / "other.keras", load_contract(contract), 1)
    assert caught.value.message == f"{tmp_path / 'other.keras'}: there is no such file or folder"
    parts = replace(form, contract='[encoder]\nfile = "encoder.keras"\n[decoder]\n' + form.contract)
    assert str(tmp_path / "encoder.keras") in refused(parts, tmp_path)
    parts = replace(form, contract='[encoder]\nlayer = "encoder"\n[decoder]\n' + form.contract)
    message = refused(parts, tmp_path)
    assert message.startswith("encoder.layer: 'encoder' is not a model with inputs of its own in model.keras")
    assert 'function = "load" of a file given by --import' in message
    folder = replace(form, files={**form.files, "other.keras": next(iter(form.files.values()))})
    message = refused(folder, tmp_path / "two")
    assert f"{tmp_path / 'two'} is a folder: give [encoder] and [decoder]" in message


def function(body: str) -> str:
    """Return a file whose `load` returns an encoder and a step of this body."""
    return f"""
import tensorflow as tf

def load(path):
    def encode(ids):
        return tf.zeros((tf.shape(ids)[0], 4)), tf.one_hot(ids, 4)

    def advance(word, state, memory):
        scores = tf.one_hot(word + 1, {len(TARGET)})
        {body}

    return encode, advance
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return scores, state[:, None], None",
            "decoder: the state goes in as [(1, 4)] and comes back as [(1, 1, 4)]: return it in the form in "
            "which it is taken (a recurrent layer gives it with return_state=True)",
        ),
        (
            "return scores[0], state, None",
            "decoder: scores (batch, pieces) or (batch, 1, pieces) are expected",
        ),
        ("raise KeyError('h')", "decoder: the model fails on ids [2]: KeyError: 'h'"),
    ],
)
def test_a_function_that_does_not_fit(body: str, message: str, tmp_path: Path) -> None:
    """What it returns is looked at, and what it raises is shown."""
    form = gru_with_dot_attention()
    said = replace(form, contract='function = "load"\n' + form.contract)
    assert refused(said, tmp_path, function(body)).startswith(message)


def test_a_function_that_is_not_there_or_returns_other_things(tmp_path: Path) -> None:
    """Without --import, under another name, and where it is no pair."""
    form = gru_with_dot_attention()
    said = replace(form, contract='function = "load"\n' + form.contract)
    assert refused(said, tmp_path) == "function: 'load' is not in a file given by --import (there: nothing)"
    message = refused(said, tmp_path, "def other(path):\n    pass\n")
    assert message == "function: 'load' is not in a file given by --import (there: 'other')"
    message = refused(said, tmp_path, "def load(path):\n    return None\n")
    assert f"function: load('{tmp_path / 'model.keras'}') does not return (encode, advance)" in message


@keras.saving.register_keras_serializable("forms")
class Writer(layers.Layer):
    """A layer of one's own around a recurrent one."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gru = layers.GRU(UNITS, return_sequences=True, name="inner")

    def build(self, written_shape: Any, state_shape: Any) -> None:
        """Build the layer inside."""
        self.gru.build(written_shape)
        self.built = True

    def call(self, written: Any, state: Any) -> Any:
        return self.gru(written, initial_state=state)


def test_layers_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --import they are unknown; with it, one that holds a recurrent layer cannot be run by steps."""
    texts, written = keras.Input((None,)), keras.Input((None,))
    state = layers.GRU(UNITS)(layers.Embedding(len(SOURCE), 4)(texts))
    decoded = Writer(name="writer")(layers.Embedding(len(TARGET), 4)(written), state)
    model = keras.Model([texts, written], layers.Dense(len(TARGET))(decoded))
    form = Form(words(), {"model.keras": model}, whole(model))
    assert "layer 'writer' is a class of its own that holds 'inner'" in refused(form, tmp_path)
    monkeypatch.delitem(keras.saving.get_custom_objects(), "forms>Writer")
    monkeypatch.setattr(Writer, "__module__", "elsewhere")
    form.save(tmp_path)
    with pytest.raises(ConfigInvalid, match=r"a class 'Writer' of its own: give --import FILE\.py"):
        bring(tmp_path / "model.keras", load_contract(tmp_path / "own.toml"), 1)


def test_attention_on_padding_is_served_without_alignment(tmp_path: Path) -> None:
    """And the user is told which weights do not sum to 1, and why."""
    lines = f"length = {LENGTH}"
    form = gru_with_dot_attention(mask=False, source=lambda text: ids_of(text, LENGTH), lines=lines)
    notes = brought(form, tmp_path).notes
    (told,) = [note for note in notes if note.startswith("alignment: none")]
    assert "not to 1: part of them lies on padding, or they are no softmax" in told
    assert any(f"every source is padded on the right to {LENGTH}" in note for note in notes)
