"""Files that Keras 2 saved, and what is looked for in a file before any Keras opens it."""

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from seqserve.models.bring import stored
from seqserve.models.config import ConfigInvalid
from tests.models.bring.own import answers, manifest_of, tables
from tests.models.bring.saved import NUMBERS, SOFTMAX, export, sequential

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]
K = tf_keras.layers


def functional() -> Any:
    """Operations that are no layers, which Keras 2 writes down as TFOpLambda."""
    tf_keras.utils.set_random_seed(3)
    rows = tf_keras.Input((None, 2))
    total = tf.reduce_sum(tf.math.tanh(rows), axis=1) * 2.0
    return tf_keras.Model(rows, K.Dense(3, activation="softmax", name="label")(total))


MODELS: dict[str, tuple[str, Callable[[], Any]]] = {
    "lstm.h5": ("own.h5", lambda: sequential(tf_keras, K.Masking(-10.0), K.LSTM(6))),
    "gru.keras": ("own.keras", lambda: sequential(tf_keras, K.Masking(-10.0), K.Bidirectional(K.GRU(4)))),
    "operations.h5": ("own.h5", functional),
}


@pytest.mark.parametrize(("name", "make"), MODELS.values(), ids=MODELS)
def test_a_file_of_keras_2_is_answered_as_keras_2_does(
    name: str, make: Callable[[], Any], tmp_path: Path
) -> None:
    model = make()
    model.save(tmp_path / name)
    version = export(tmp_path / name, NUMBERS + SOFTMAX, tmp_path / "models")
    assert manifest_of(version).masking_inputs == ("x",)
    rows = tables(3, 1, 17)
    wanted = [model.predict(row[None], verbose=0)[0] for row in rows]
    for got, one in zip(answers(version, [{"x": row.tolist()} for row in rows]), wanted, strict=True):
        assert got == pytest.approx(one, abs=1e-5)


def test_without_tf_keras_the_message_has_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequential(tf_keras, K.LSTM(6)).save(tmp_path / "own.h5")
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ConfigInvalid, match=r'saved by Keras 2 \(2\..*\): pip install "seqserve\[keras2\]"'):
        export(tmp_path / "own.h5", NUMBERS + SOFTMAX, tmp_path / "models")


def test_state_between_calls_is_refused(tmp_path: Path) -> None:
    rows = tf_keras.Input(batch_shape=(1, None, 2))
    model = tf_keras.Model(
        rows, K.Dense(3, activation="softmax")(K.LSTM(6, stateful=True, name="kept")(rows))
    )
    model.save(tmp_path / "own.h5")
    with pytest.raises(ConfigInvalid, match="layer 'kept' is stateful=True"):
        export(tmp_path / "own.h5", NUMBERS + SOFTMAX, tmp_path / "models")


# --- what a file may not hold ---------------------------------------------------------------------


def test_stored_code_never_runs(tmp_path: Path) -> None:
    """Neither of Keras 2 nor of Keras 3, in neither form, with --import or without."""
    marker, script = tmp_path / "ran", tmp_path / "own.py"
    script.write_text("class Nothing:\n    pass\n", "utf-8")
    code = f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]"
    for kind, form in ((tf_keras, "h5"), (tf_keras, "keras"), (keras, "h5"), (keras, "keras")):
        inner = kind.Sequential([kind.layers.Lambda(eval(code), name="danger")])
        path = tmp_path / f"{kind.__name__}.{form}"
        sequential(kind, kind.layers.LSTM(2, return_sequences=True), inner, kind.layers.LSTM(2)).save(path)
        marker.unlink(missing_ok=True)
        for imports in ([], [script]):
            with pytest.raises(ConfigInvalid, match=r"layer 'danger' is a Lambda whose code .* --import"):
                export(path, NUMBERS + SOFTMAX, tmp_path / "models", imports=imports)
        assert not marker.exists()


def test_a_file_that_is_two_at_once_is_looked_into_twice(tmp_path: Path) -> None:
    """Which of the two is read depends on the name and on the reader."""
    model = sequential(tf_keras, K.Lambda(lambda x: x, name="danger"), K.LSTM(2))
    model.save(tmp_path / "own.h5")
    with zipfile.ZipFile(tmp_path / "own.h5", "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ConfigInvalid, match="layer 'danger' is a Lambda"):
        stored.keras_version(tmp_path / "own.h5")


def _unpacking(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("assets/zeros", bytes(2 << 20))


def _weights_unpacking(path: Path) -> None:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_dataset("kernel", (2 << 20,), np.float32, compression="gzip", fillvalue=1.0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", weights.getvalue())


def _h5_unpacking(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("kernel", (2 << 20,), np.float32, compression="gzip", fillvalue=1.0)


def _linked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["weights/kernel"] = h5py.ExternalLink("/etc/passwd", "/")


def _virtual(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("kernel", (4,), np.uint8, external=[("/etc/hostname", 0, 4)])


def _cut_short(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"class_name": ')


REFUSED = {
    "parts that unpack to much": (_unpacking, r"its parts unpack to .* GiB, more than .* GiB"),
    "weights that unpack to much": (_weights_unpacking, r"its parts unpack to .* GiB"),
    "an h5 that unpacks to much": (_h5_unpacking, r"its parts unpack to .* GiB"),
    "a link to another file": (_linked, "'weights/kernel' is a link to another place"),
    "values in another file": (_virtual, "'/kernel' has its values elsewhere"),
    "a config cut short": (_cut_short, "its config.json cannot be read"),
}


@pytest.mark.parametrize(("write", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_file_may_not_hold(
    write: Callable[[Path], None], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES", 2**20)
    write(tmp_path / "own.keras")
    with pytest.raises(ConfigInvalid, match=says):
        stored.keras_version(tmp_path / "own.keras")


def test_a_hard_link_to_an_ancestor_ends(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_group("a")["again"] = file["/"]
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": []}})
    assert stored.keras_version(tmp_path / "own.h5") == "2.15.0"
