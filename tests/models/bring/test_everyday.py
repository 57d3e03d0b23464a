"""Ten models as people write, save and contract them: exported by the command, served by everything there is.

With `-rA` each test shows its line of a table: the model, the command, its seconds, the largest difference.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import pytest_asyncio
import tensorflow as tf
import tf_keras
from keras import layers
from typer.testing import CliRunner

from seqserve.models.cli import app
from tests.doors import Both, both_doors, predict
from tests.tfserving.reload import ModelServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]
Rows = list[dict[str, Any]]
Answers = list[dict[str, Any]]
"""By head, what the model itself gives for each sequence: numbers in the order of labels, or of columns."""
Saved = tuple[Path, Rows, Answers]
K2 = tf_keras.layers
RANDOM = np.random.default_rng(5)
BUCKETS = "buckets = [8, 24]\n"
EVENTS = ["visit", "search", "pay"]
LABEL = '[heads.label]\nkind = "softmax"\nlabels = ["a", "b", "c"]\nscores = "probabilities"\n'
EVENT = BUCKETS + '[features.event]\nkind = "categories"\nlabels = ["visit", "search", "pay"]\nfirst_id = 1\n'
SENSORS = '[features.sensors]\nkind = "numbers"\ncolumns = ["u", "v"]\n'
VISITS = [["visit", "search", "search", "pay"], ["pay"], ["search", "visit"] * 5]


@dataclass(frozen=True, slots=True)
class Own:
    """One model: `save` writes it to a folder and returns its file, the sequences, and its own answers."""

    name: str
    contract: str
    save: Callable[[Path], Saved]
    tolerance: float = 1e-5


def ids() -> np.ndarray:
    """Encode and pad the visits as training did."""
    return keras.utils.pad_sequences(
        [[1 + EVENTS.index(event) for event in events] for events in VISITS], padding="post"
    )


def sensors(*lengths: int) -> list[np.ndarray]:
    """Draw rows (steps, 2)."""
    return [RANDOM.normal(size=(length, 2)).round(3).astype(np.float32) for length in lengths]


def softmax(state: Any, **options: Any) -> Any:
    """Classify, with weights far from zero so that answers differ."""
    kernel = keras.initializers.RandomNormal(0, 1.5, seed=6)
    return layers.Dense(3, activation="softmax", name="label", kernel_initializer=kernel, **options)(state)


def labelled(rows: Rows, labels: np.ndarray) -> tuple[Rows, Answers]:
    """Put what the model gives for its padded rows beside them."""
    return rows, [{"label": row} for row in labels]


def by_sensors(predicted: Callable[[np.ndarray], np.ndarray]) -> tuple[Rows, Answers]:
    """Return sequences of two sensors, and what the model gives for them, padded as training did."""
    rows = sensors(3, 1, 17)
    padded = keras.utils.pad_sequences(rows, padding="post", dtype="float32")
    return labelled([{"sensors": row.tolist()} for row in rows], predicted(padded))


def _classifier(folder: Path) -> Saved:
    event = keras.Input((None,), name="event")
    state = layers.LSTM(8)(layers.Embedding(4, 6, mask_zero=True)(event))
    model = keras.Model(event, softmax(state))
    model.save(folder / "classifier.keras")
    return folder / "classifier.keras", *labelled(
        [{"event": events} for events in VISITS], model.predict(ids(), verbose=0)
    )


def _timed(folder: Path) -> Saved:
    event, gap = keras.Input((None,), name="event"), keras.Input((None, 1), name="minutes")
    embed = layers.Embedding(4, 6, mask_zero=True)
    state = layers.LSTM(8)(layers.Concatenate()([embed(event), gap]), mask=embed.compute_mask(event))
    model = keras.Model([event, gap], [softmax(state), layers.Dense(1, name="wait")(state)])
    model.save(folder / "timed.keras")
    minutes = [[0.0, *range(3, 2 + len(events))] for events in VISITS]
    times = np.log1p(keras.utils.pad_sequences(minutes, padding="post", dtype="float32"))[..., None]
    labels, waits = model.predict([ids(), times], verbose=0)
    rows = [{"event": events, "minutes": m} for events, m in zip(VISITS, minutes, strict=True)]
    answers = [{"label": label, "wait": np.expm1(wait)} for label, wait in zip(labels, waits, strict=True)]
    return folder / "timed.keras", rows, answers


def _forecaster(folder: Path) -> Saved:
    model = keras.Sequential(
        [keras.Input((24, 2)), layers.LSTM(16), layers.Dense(6), layers.Reshape((6, 1))], name="forecaster"
    )
    model.save(folder / "forecaster.keras")
    windows = np.stack(sensors(24, 24)) * [5, 20] + [15, 300]
    ahead = model.predict((windows - [15, 300]) / [5, 20], verbose=0) * 5 + 15
    rows = [{"window": window.tolist()} for window in windows]
    return folder / "forecaster.keras", rows, [{"ahead": values} for values in ahead]


@contextmanager
def _halves() -> Iterator[None]:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _mixed(folder: Path) -> Saved:
    with _halves():
        x = keras.Input((None, 2), name="sensors")
        state = layers.LSTM(8)(layers.Masking(0.0)(x))
        model = keras.Model(x, softmax(state, dtype="float32"))
    model.save(folder / "mixed.keras")
    return folder / "mixed.keras", *by_sensors(lambda rows: model.predict(rows, verbose=0))


def _exported(folder: Path) -> Saved:
    x = keras.Input((None, 2), name="sensors")
    model = keras.Model(x, softmax(layers.Bidirectional(layers.GRU(5))(layers.Masking(0.0)(x))))
    model.export(str(folder / "exported"), verbose=False)
    signature = tf.saved_model.load(str(folder / "exported")).signatures["serving_default"]
    return folder / "exported", *by_sensors(lambda rows: signature(tf.constant(rows))["output_0"].numpy())


def _of_keras_2() -> Any:
    kernel = tf_keras.initializers.RandomNormal(0, 1.5, seed=6)
    body = [K2.Masking(0.0), K2.LSTM(8), K2.Dense(3, activation="softmax", kernel_initializer=kernel)]
    return tf_keras.Sequential([K2.InputLayer((None, 2)), *body])


def _h5(folder: Path) -> Saved:
    model = _of_keras_2()
    model.save(folder / "keras2.h5")
    return folder / "keras2.h5", *by_sensors(lambda rows: model.predict(rows, verbose=0))


def _saved_by_keras_2(folder: Path) -> Saved:
    model = _of_keras_2()
    model.save(folder / "keras2", save_format="tf")
    return folder / "keras2", *by_sensors(lambda rows: model.predict(rows, verbose=0))


def _texts(folder: Path) -> Saved:
    vectorize = layers.TextVectorization()
    vectorize.adapt(["the parcel came late", "my invoice is wrong", "parcel and invoice came"])
    note = keras.Input((1,), dtype="string", name="note")
    embedded = layers.Embedding(vectorize.vocabulary_size(), 6, mask_zero=True)(vectorize(note))
    model = keras.Model(note, softmax(layers.GRU(8)(embedded)))
    model.save(folder / "texts.keras")
    texts = ["The parcel, is LATE!", "nothing known", "invoice " * 20]
    labels = model.predict(tf.constant([[text] for text in texts]), verbose=0)
    return folder / "texts.keras", *labelled([{"note": text} for text in texts], labels)


def _with_static(folder: Path) -> Saved:
    event, region = keras.Input((None,), name="event"), keras.Input((1,), name="region", dtype="int32")
    customer = keras.Input((2,), name="customer")
    state = layers.LSTM(6)(layers.Embedding(4, 5, mask_zero=True)(event))
    place = layers.Flatten()(layers.Embedding(2, 3)(region))
    model = keras.Model([event, region, customer], softmax(layers.Concatenate()([state, place, customer])))
    model.save(folder / "static.keras")
    customers = np.array([[31, 4.5], [70, 0], [18, 2.25]])
    regions = ["south", "north", "south"]
    labels = model.predict([ids(), np.array([[1], [0], [1]]), (customers - [40, 3]) / [10, 2]], verbose=0)
    rows = [
        {"event": events, "region": region, "customer": customer}
        for events, region, customer in zip(VISITS, regions, customers.tolist(), strict=True)
    ]
    return folder / "static.keras", *labelled(rows, labels)


def _branches(folder: Path) -> Saved:
    event, x = keras.Input((None,), name="event"), keras.Input((None, 2), name="sensors")
    one = layers.LSTM(6)(layers.Embedding(4, 5, mask_zero=True)(event))
    other = layers.GRU(6)(layers.Masking(-9.0)(x))
    model = keras.Model([event, x], softmax(layers.Concatenate()([one, other])))
    model.save(folder / "branches.keras")
    tables = sensors(9, 4, 1)
    padded = keras.utils.pad_sequences(tables, padding="post", dtype="float32", value=-9.0)
    rows = [{"event": e, "sensors": table.tolist()} for e, table in zip(VISITS, tables, strict=True)]
    return folder / "branches.keras", *labelled(rows, model.predict([ids(), padded], verbose=0))


MODELS = (
    Own("classifier", EVENT + LABEL, _classifier),
    Own(
        "timed",
        EVENT
        + '[features.minutes]\nkind = "elapsed"\nunit = "minutes"\ntransform = "log1p"\n'
        + LABEL
        + '[heads.wait]\nkind = "numeric"\nunit = "minutes"\ninverse = "expm1"\n',
        _timed,
    ),
    Own(
        "forecaster",
        '[features.window]\nkind = "numbers"\ncolumns = ["temperature", "load"]\nmean = [15, 300]\n'
        'scale = [5, 20]\n[heads.ahead]\nkind = "numeric"\ncolumns = ["temperature"]\nmean = [15]\n'
        'scale = [5]\nper = "horizon"\n',
        _forecaster,
    ),
    Own("mixed", BUCKETS + SENSORS + LABEL, _mixed, tolerance=1e-2),
    Own("exported", BUCKETS + SENSORS + LABEL, _exported),
    Own("h5", BUCKETS + SENSORS + LABEL, _h5),
    Own("keras2", BUCKETS + SENSORS + LABEL, _saved_by_keras_2),
    Own(
        "texts",
        '[features.note]\nkind = "text"\n'
        + LABEL
        + '[[examples]]\nnote = "my parcel is late"\n[[examples]]\nnote = "invoice"\n',
        _texts,
    ),
    Own(
        "static",
        EVENT
        + '[features.region]\nkind = "categories"\nlabels = ["north", "south"]\nper = "sequence"\n'
        + '[features.customer]\nkind = "numbers"\ncolumns = ["age", "income"]\nmean = [40, 3]\n'
        + 'scale = [10, 2]\nper = "sequence"\n'
        + LABEL,
        _with_static,
    ),
    Own("branches", EVENT + SENSORS + LABEL, _branches),
)


@dataclass(frozen=True, slots=True)
class Made:
    """What the command made of a model, in which time, and what the model itself answers."""

    command: str
    seconds: float
    result: Any
    rows: Rows
    answers: Answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models lie as their people saved them, and `models`, the root."""
    return tmp_path_factory.mktemp("everyday")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Made]:
    """Every model, saved and given to the command, by name."""
    return {own.name: make(own, folder) for own in MODELS}


def make(own: Own, folder: Path) -> Made:
    """Save a model and export it as its user does."""
    keras.utils.set_random_seed(7)
    path, rows, answers = own.save(folder)
    contract = folder / f"{own.name}.toml"
    contract.write_text(f'name = "{own.name}"\n{own.contract}', "utf-8")
    begin = time.perf_counter()
    given = ["export", str(path), "--contract", str(contract), "--out", str(folder / "models")]
    result = CliRunner().invoke(app, given)
    command = f"seqserve export {path.name} --contract {contract.name}"
    return Made(command, time.perf_counter() - begin, result, rows, answers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(
    folder: Path, made: dict[str, Made], model_server: ModelServer
) -> AsyncIterator[tuple[Both, Both]]:
    """One gateway for all of them over either backend."""
    root = folder / "models"
    async with both_doors(root) as embedded, both_doors(root, model_server) as served:
        yield embedded, served


@pytest.mark.parametrize("own", MODELS, ids=lambda own: own.name)
async def test_answers_are_the_models_own(
    own: Own, made: dict[str, Made], services: tuple[Both, Both]
) -> None:
    one = made[own.name]
    assert one.result.exit_code == 0, one.result.output
    assert "golden examples hold" in one.result.output
    row = predict(sequences=one.rows, model=own.name, top_k=3)
    off = 0.0
    for both in services:
        for items in ((await both.by_rest(row))[0], (await both.by_grpc(row))[0]):
            for item, wanted in zip(items["predictions"], one.answers, strict=True):
                off = max([off, *(apart(item["heads"][head], values) for head, values in wanted.items())])
    print(f"| {own.name} | `{one.command}` | {one.seconds:.1f} s | {off:.1e} |")
    assert off <= own.tolerance


def apart(head: dict[str, Any], wanted: np.ndarray) -> float:
    """Return the largest difference of a head's answer, relative where values are above 1."""
    if "top" in head:
        given = {entry["label"]: entry["probability"] for entry in head["top"]}
        values = [given[label] for label in ("a", "b", "c")]
    else:
        values = head.get("values", head.get("value"))
    served = np.reshape(values, wanted.shape)
    return float((np.abs(served - wanted) / np.maximum(1, np.abs(wanted))).max())
