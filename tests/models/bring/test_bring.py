"""A user's own Keras model: exported by its contract and answered as Keras does, or refused."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from seqserve.models.check import check_version
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.pipeline import Server
from seqserve.models.config import ConfigInvalid
from seqserve.service import errors
from seqserve.service.contract.manifest import FILE_NAME
from tests.doors import predict
from tests.models.bring.own import (
    HEAD,
    IDS,
    NUMBERS,
    answers,
    called,
    classifier,
    export,
    manifest_of,
    tables,
)
from tests.tfserving.reload import ModelServer, config_file

REPOSITORY = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]


# --- the worked example -----------------------------------------------------------------------------


def test_the_contract_of_the_example_is_short() -> None:
    """It can be read at a glance."""
    lines = (REPOSITORY / "examples/keras_classifier.toml").read_text("utf-8").splitlines()
    assert len(lines) <= 25


def test_the_example_is_served_by_both_backends(tmp_path: Path, model_server: ModelServer) -> None:
    """Its two documented commands, run as they stand; every door answers what the Keras model predicts."""
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    page = (REPOSITORY / "examples/keras_classifier.py").read_text("utf-8")
    commands = re.findall(r"^    ((?:python|seqserve) .+)$", page, re.MULTILINE)
    assert len(commands) == 2
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, env=env, check=True, timeout=120)
    model = keras.saving.load_model(tmp_path / "build/gestures.keras", compile=False)
    random = np.random.default_rng(2)
    rows = [(3 * random.normal(size=(n, 3))).round(3) for n in (3, 17, 40)]
    wanted = [model.predict((row / 3)[None], verbose=0)[0] for row in rows]
    version, sent = tmp_path / "build/models/gestures/1", [{"motion": row.tolist()} for row in rows]
    for server in (None, model_server):
        for got, expected in zip(answers(version, sent, server), wanted, strict=True):
            assert got == pytest.approx(expected, abs=1e-5)


# --- the usual shapes -------------------------------------------------------------------------------


def test_a_sequential_that_masks_zeros(tmp_path: Path) -> None:
    """The mask is inferred by trial; a step of zeros is refused, because the model would drop it."""
    model = classifier(layers.Masking(0.0), layers.LSTM(8))
    version = export(model, NUMBERS + HEAD, tmp_path)
    assert manifest_of(version).masking_inputs == ("x",)
    rows = tables(1, 5, 30)
    for got, row in zip(answers(version, [{"x": r.tolist()} for r in rows]), rows, strict=True):
        assert got == pytest.approx(model.predict(row[None], verbose=0)[0], abs=1e-5)
    doors = called(version, predict(sequences=[{"x": [[1, 2], [0, 0]]}], model="own"))
    assert [reason for reason, _ in doors] == ["PAD_COLLISION"] * 2


@pytest.mark.parametrize("masking", [True, False])
def test_a_fixed_length_padded_on_the_left(
    masking: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keras' `pad_sequences` and seqserve give the same answers; what is longer is refused, not cut."""
    body = [layers.Masking(0.0)] if masking else []
    model = classifier(*body, layers.GRU(8), shape=(20, 2))
    shorter = "limits.sequence_least = 1\n" if not masking else ""
    contract = NUMBERS.replace("[features", f'padding = "left"\n{shorter}[features')
    version = export(model, contract + HEAD, tmp_path)
    assert "every row has the one length 20" in capsys.readouterr().out
    assert manifest_of(version).masking_inputs == (("x",) if masking else ())
    rows = tables(2, 20)
    padded = keras.utils.pad_sequences(rows, maxlen=20, padding="pre", dtype="float32")
    wanted = model.predict(padded, verbose=0)
    for got, expected in zip(answers(version, [{"x": r.tolist()} for r in rows]), wanted, strict=True):
        assert got == pytest.approx(expected, abs=1e-5)
    doors = called(version, predict(sequences=[{"x": [[1, 2]] * 21}], model="own"))
    assert [reason for reason, _ in doors] == ["SEQUENCE_TOO_LONG"] * 2


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    """Ids for a float input, elapsed time for one with a column; heads by the names of output layers."""
    keras.utils.set_random_seed(4)
    event, gap = keras.Input((None,), name="event"), keras.Input((None, 1), name="gap-in")
    embedded = layers.Embedding(4, 6, mask_zero=True, embeddings_initializer="normal")(event)
    # Concatenate alone would lose the mask: of its inputs, one has none
    state = layers.LSTM(8)(layers.Concatenate()([embedded, gap]), mask=ops.not_equal(event, 0))
    out = [layers.Dense(3, name="next", kernel_initializer=keras.initializers.RandomNormal(0, 2))(state)]
    model = keras.Model({"event": event, "gap-in": gap}, [*out, layers.Dense(1, name="time")(state)])
    contract = (
        IDS
        + '[features.minutes]\nkind = "elapsed"\nunit = "minutes"\ninput = "gap-in"\ntransform = "log1p"\n'
        + HEAD.replace("probabilities", "logits")
        + 'output = "next"\n[heads.rest]\nkind = "numeric"\nunit = "minutes"\noutput = 1\n'
    )
    version = export(model, contract, tmp_path)
    assert manifest_of(version).masking_inputs == ("event",)
    sequence = {"event": ["a", "c", "b"], "minutes": [0, 4, 1]}
    times = np.log1p(np.array([[[0.0], [4.0], [1.0]]], np.float32))
    logits, _ = model.predict({"event": np.array([[1, 3, 2]]), "gap-in": times}, verbose=0)
    wanted = tf.nn.softmax(logits[0]).numpy()
    (got, _) = answers(version, [sequence, {"event": ["b"], "minutes": [0]}])
    assert got == pytest.approx(wanted, abs=1e-5)


def test_a_mask_as_an_input(tmp_path: Path) -> None:
    """An explicit mask: garbage in the padding changes nothing, and a step of zeros is a step."""
    x, steps = keras.Input((None, 2), name="x"), keras.Input((None,), dtype="bool", name="steps")
    keras.utils.set_random_seed(5)
    mask = ops.cast(steps, "float32")[:, :, None]
    mean = ops.sum(x * mask, axis=1) / ops.sum(mask, axis=1)
    model = keras.Model([x, steps], layers.Dense(3, activation="softmax", name="label")(mean * 2))
    version = export(model, NUMBERS.replace("[features", 'mask_input = "steps"\n[features') + HEAD, tmp_path)
    assert manifest_of(version).mask_input == "steps"
    row = np.array([[1, 2], [0, 0], [3, 1]], np.float32)
    (got,) = answers(version, [{"x": row.tolist()}])
    assert got == pytest.approx(model.predict([row[None], np.ones((1, 3), bool)], verbose=0)[0], abs=1e-5)


OWN = '''
import keras
from keras import layers, ops

class Halve(layers.Layer):
    """Not registered, but known by its name."""
    def call(self, x):
        return x / 2
'''


def test_own_layers_are_imported_or_asked_for(tmp_path: Path) -> None:
    """Without the file the message names the layer and the option; with it the model is exported."""
    file = tmp_path / "own_layers.py"
    file.write_text(OWN)
    scope: dict[str, Any] = {"__name__": "own_layers"}
    exec(OWN, scope)
    model = classifier(scope["Halve"](), layers.Masking(0.0), layers.LSTM(4))
    with pytest.raises(ConfigInvalid, match=r"class 'Halve' of its own: give --import FILE\.py"):
        export(model, NUMBERS + HEAD, tmp_path)
    assert manifest_of(export(model, NUMBERS + HEAD, tmp_path, imports=[file])).masking_inputs == ("x",)


def test_a_leak_is_named_and_goes_alone_where_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mean over time is refused, its output named; if allowed, rows are answered as Keras does alone."""
    model = classifier(layers.GlobalAveragePooling1D(), layers.Dense(8))
    with pytest.raises(PaddingLeak, match="output 'label' of 'serving_default' changes by"):
        export(model, NUMBERS + HEAD, tmp_path)
    assert not (tmp_path / "models/own/1").exists()
    version = export(model, NUMBERS + HEAD, tmp_path, allow_leak=True)
    manifest = manifest_of(version)
    assert manifest.batching == "single"
    assert "'label'" in (manifest.card or {})["padding_leak"]
    assert "one by one" in capsys.readouterr().err
    rows = [*tables(1, 9, 30), np.zeros((2, 2), np.float32)]
    for got, row in zip(answers(version, [{"x": r.tolist()} for r in rows]), rows, strict=True):
        assert got == pytest.approx(model.predict(row[None], verbose=0)[0], abs=1e-5)


# --- what does not fit ------------------------------------------------------------------------------


def lstm() -> keras.Model:
    """One input (None, None, 2), one output (None, 3)."""
    return classifier(layers.Masking(0.0), layers.LSTM(4))


def masked_steps() -> keras.Model:
    """As `steps`, but zeros are padding."""
    return classifier(layers.Masking(0.0), layers.GRU(4, return_sequences=True), shape=(10, 2))


def steps() -> keras.Model:
    """A label a step, over 10 steps."""
    return classifier(layers.LSTM(4, return_sequences=True), shape=(10, 2))


def embedded() -> keras.Model:
    """Ids 0 to 3, 0 masked."""
    return classifier(layers.Embedding(4, 4, mask_zero=True), layers.LSTM(4), shape=(None,))


def two() -> keras.Model:
    """Two inputs."""
    x, z = keras.Input((None, 2), name="x"), keras.Input((None, 1), name="z")
    return keras.Model([x, z], layers.Dense(3, name="label")(layers.LSTM(4)(layers.Concatenate()([x, z]))))


def stateful() -> keras.Model:
    """State kept between calls."""
    return keras.Sequential([keras.Input(batch_shape=(1, None, 2)), layers.LSTM(3, stateful=True)])


def with_lambda() -> keras.Model:
    """A model file with code in it."""
    return classifier(layers.Lambda(lambda x: x * 2), layers.LSTM(4))


def top(line: str) -> str:
    """A contract with one more line at its top."""
    return NUMBERS.replace("[features", f"{line}\n[features") + HEAD


Fault = tuple[Callable[[], keras.Model], str, list[str]]
FAULTS: list[Fault] = [
    (
        lstm,
        NUMBERS.replace('"v"', '"v", "w"') + HEAD,
        ["features.x", "(batch, time, 3)", "(None, None, 2)", "width = 2"],
    ),
    (lstm, NUMBERS + 'input = "y"\n' + HEAD, ["features.x.input", "no input 'y'", "(None, None, 2)"]),
    (lstm, IDS + HEAD, ["features.event", "(batch, time)", "(None, None, 2)", "one-hot"]),
    (two, NUMBERS + HEAD, ["input 'z' (None, None, 1)", "[features.z]"]),
    (
        two,
        NUMBERS + '[features.y]\nkind = "numbers"\ninput = "x"\n' + HEAD,
        ["features.y", "taken by features.x"],
    ),
    (two, NUMBERS + '[features.y]\nkind = "numbers"\n' + HEAD, ["features.y", "no input 'y'", "'z'"]),
    (two, top('mask_input = "w"'), ["mask_input", "no input 'w'", "'z'"]),
    (two, top('mask_input = "z"'), ["mask_input", "(batch, time)", "'z' (None, None, 1)"]),
    (
        lstm,
        NUMBERS + HEAD.replace('"c"', '"c", "d"'),
        ["heads.label", "(batch, 4)", "(None, 3)", "labels has 4"],
    ),
    (lstm, NUMBERS + HEAD + 'output = "out"\n', ["heads.label.output", "no output 'out'", "(None, 3)"]),
    (lstm, NUMBERS + HEAD + "output = 1\n", ["heads.label.output", "no output 1", "(None, 3)"]),
    (
        lstm,
        NUMBERS + HEAD + 'per = "step"\n',
        ["heads.label", "(batch, time, 3)", "(None, 3)", 'per = "sequence"'],
    ),
    (steps, NUMBERS + HEAD, ["heads.label", "(batch, 3)", "(None, 10, 3)", 'per = "step"']),
    (steps, top("buckets = [8, 16]") + 'per = "step"\n', ["buckets", "[8, 16]", "(None, 10, 2)", "[10]"]),
    (
        steps,
        top('padding = "right"\nlimits = {sequence_steps = 11}') + 'per = "step"\n',
        ["limits.sequence_steps", "11", "10"],
    ),
    (
        masked_steps,
        NUMBERS + HEAD + 'per = "step"\n',
        ["padding", "(None, 10, 2)", '"left"', "pad_sequences", "pre"],
    ),
    (lstm, top('padding = "left"'), ["padding", "(None, None, 2)", "buckets = [50]"]),
    (lstm, top('mask_from = "y"'), ["mask_from", "'y'"]),
    (lstm, top("examples = [{x = [[1, 2], [3]]}]"), ["examples.0.x.1", "1 columns"]),
    (
        lstm,
        NUMBERS + HEAD.replace("probabilities", "logits"),
        ["heads.label.scores", "'logits'", "sums to 1"],
    ),
    (two, NUMBERS + '[features.z]\nkind = "numbers"\n' + HEAD, ["heads.label.scores", "'probabilities'"]),
    (
        lstm,
        NUMBERS + HEAD.replace("scores", "score"),
        ["heads.label.score: there is no such field: is scores meant?", "own.toml"],
    ),
    (
        lstm,
        NUMBERS + '[heads.v]\nkind = "numeric"\ncolumns = ["p"]\n',
        ["heads.v", "(batch, 1)", "(None, 3)"],
    ),
    (
        embedded,
        IDS.replace("first_id = 1", "first_id = 0") + HEAD,
        ["features.event.first_id", "'a'", "first_id = 1"],
    ),
    (embedded, IDS.replace('"c"', '"c", "d"') + HEAD, ["features", "labels, first_id"]),
    (stateful, NUMBERS + HEAD, ["stateful=True", "'lstm", "explicit"]),
    (with_lambda, NUMBERS + HEAD, ["Lambda", "--import"]),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{n}-{words[0]}" for n, (_, _, words) in enumerate(FAULTS)])
def test_what_does_not_fit_is_refused_with_both_sides(fault: Fault, tmp_path: Path) -> None:
    """Each message has the field of the contract and the part of the model, and nothing is written."""
    model, contract, words = fault
    with pytest.raises(ConfigInvalid) as caught:
        export(model(), contract, tmp_path)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message
    assert not list(tmp_path.glob("models/*/[0-9]*"))


# --- at a running server ----------------------------------------------------------------------------


def test_a_server_is_held_to_the_directory(root: Path, model_server: ModelServer, tmp_path: Path) -> None:
    """The server computes with its own copy: padding and goldens are checked; other copies are refused."""
    model_server.serve(config_file({"shop": root / "shop"}))
    report = check_version(root / "shop" / "1", Server(model_server.address))
    assert any("padding is invisible" in line for line in report)
    assert any(model_server.address in line for line in report)
    loose = check_version(root / "shop" / "1", Server(model_server.address, "gpu"))
    assert any("GPU's tolerance of 0.005" in line for line in loose)
    other = Path(shutil.copytree(root / "shop" / "1", tmp_path / "shop" / "1"))
    path = other / "assets" / FILE_NAME
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(errors.FileChanged, match="has digest sha256:"):
        check_version(other, Server(model_server.address))
    shutil.move(other, other.with_name("2"))
    with pytest.raises(errors.VersionNotFound, match="version 2"):
        check_version(other.with_name("2"), Server(model_server.address))
