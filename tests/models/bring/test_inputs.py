"""What goes into a user's own model: values of a whole sequence, masks of several, windows of one length."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
STATIC = (
    '[features.region]\nkind = "categories"\nlabels = ["north", "south"]\nunknown = "map"\nunknown_id = 2\n'
    'per = "sequence"\n'
    '[features.customer]\nkind = "numbers"\ncolumns = ["age", "income"]\nmean = [40, 3]\nscale = [10, 2]\n'
    'per = "sequence"\n'
)


def joined(*parts: Any) -> Any:
    """Dense layers on all parts, their weights far from zero."""
    random = keras.initializers.RandomNormal(0, 1, seed=6)
    return layers.Dense(3, activation="softmax", name="label", kernel_initializer=random)(
        layers.Concatenate()(list(parts))
    )


def sequence_and_static() -> keras.Model:
    """Events that are masked, beside a region and two numbers of the whole sequence."""
    keras.utils.set_random_seed(3)
    event, region = keras.Input((None,), name="event"), keras.Input((1,), name="region", dtype="int32")
    customer = keras.Input((2,), name="customer")
    state = layers.LSTM(6)(layers.Embedding(4, 5, mask_zero=True)(event))
    place = layers.Flatten()(layers.Embedding(3, 2, embeddings_initializer="normal")(region))
    return keras.Model([event, region, customer], joined(state, place, customer))


def test_values_of_the_whole_sequence(tmp_path: Path) -> None:
    """Labels and numbers beside a masked sequence: both doors, the model's own answers."""
    model = sequence_and_static()
    version = export(model, IDS + STATIC + HEAD, tmp_path)
    tensors = manifest_of(version).signatures[PREDICT_SIGNATURE].inputs
    assert [tensors[name].axes for name in ("event", "region", "customer")] == [
        ("batch", "time"),
        ("batch",),
        ("batch", "unit"),
    ]
    rows = [
        {"event": ["a", "c", "b"], "region": "south", "customer": [31, 4.5]},
        {"event": ["b"], "region": "abroad", "customer": [70, 0]},
    ]
    fed = [
        [np.array([[1, 3, 2]]), np.array([[1]]), np.array([[-0.9, 0.75]])],
        [np.array([[2]]), np.array([[2]]), np.array([[3.0, -1.5]])],
    ]
    for got, inputs in zip(answers(version, rows), fed, strict=True):
        assert got == pytest.approx(model.predict(inputs, verbose=0)[0], abs=1e-5)
    for wrong, reason in (
        ({"customer": [31, 4, 5]}, "WRONG_WIDTH"),
        ({"customer": [[31, 4], [30, 5]]}, "UNEQUAL_LENGTHS"),
        ({"region": ["north", "south"]}, "UNEQUAL_LENGTHS"),
        ({"region": 5.5}, "WRONG_TYPE"),
    ):
        doors = called(version, predict(sequences=[{**rows[0], **wrong}], model="own"))
        assert [found for found, _ in doors] == [reason] * 2, wrong


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ('per = "sequence"\n[features.c', "[features.c"),
            ["features.region", "1 steps", 'per = "sequence"'],
        ),
        (
            ("scale = [10, 2]\nper = ", "scale = [10, 2]\n#"),
            ["features.customer", 'per = "sequence"', "2 values"],
        ),
        (
            ('"income"]\nmean = [40, 3]\nscale = [10, 2]', '"i", "j"]'),
            ["features.customer", "give width = 2"],
        ),
        (
            ("first_id = 1\n", 'first_id = 1\nper = "sequence"\n'),
            ["features.event", 'leave per = "sequence" out'],
        ),
    ],
    ids=["one label", "columns", "too many columns", "a sequence"],
)
def test_a_width_is_no_time_axis(change: tuple[str, str], words: list[str], tmp_path: Path) -> None:
    """The message names the feature and says what per would do."""
    with pytest.raises(ConfigInvalid) as caught:
        export(sequence_and_static(), (IDS + STATIC + HEAD).replace(*change), tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


STREAMS = (
    IDS
    + '[features.minutes]\nkind = "elapsed"\nunit = "minutes"\n'
    + '[features.load]\nkind = "numbers"\ncolumns = ["u", "v"]\n'
)


def two_branches(**shapes: Any) -> keras.Model:
    """Events with their times, masked by the events, and measurements, masked by -9."""
    keras.utils.set_random_seed(4)
    event, gap = keras.Input((None,), name="event"), keras.Input((None, 1), name="minutes")
    load = keras.Input((None, 2), name="load")
    embedded = layers.Embedding(4, 5, mask_zero=True, embeddings_initializer="normal")(event)
    both = layers.Concatenate()([embedded, gap])
    one = layers.LSTM(6)(both, mask=keras.ops.not_equal(event, 0))
    other = layers.GRU(6)(layers.Masking(-9.0)(load))
    return keras.Model([event, gap, load], joined(one, other))


def test_branches_with_masks_of_their_own(tmp_path: Path) -> None:
    """Each has its pad value and its steps; a step that is the padding of either is refused."""
    model = two_branches()
    version = export(model, STREAMS + HEAD, tmp_path)
    manifest = manifest_of(version)
    assert manifest.masking_inputs == ("event", "load")
    assert manifest.streams == (("event", "minutes"), ("load",))
    tensors = manifest.signatures[PREDICT_SIGNATURE].inputs
    assert (tensors["event"].pad_value, tensors["load"].pad_value) == (0, -9)
    loads = tables(5, 1)
    rows = [
        {"event": ["a", "c", "b"], "minutes": [0, 4, 1], "load": loads[0].tolist()},
        {"event": ["b", "b"], "minutes": [0, 0], "load": loads[1].tolist()},
    ]
    fed = [
        [np.array([[1, 3, 2]]), np.array([[[0.0], [4], [1]]]), loads[0][None]],
        [np.array([[2, 2]]), np.zeros((1, 2, 1)), loads[1][None]],
    ]
    for got, inputs in zip(answers(version, rows), fed, strict=True):
        assert got == pytest.approx(model.predict(inputs, verbose=0)[0], abs=1e-5)
    for wrong, reason in (
        ({"load": [[1, 2], [-9, -9]]}, "PAD_COLLISION"),
        ({"minutes": [0, 4]}, "UNEQUAL_LENGTHS"),
        ({"load": []}, "EMPTY_SEQUENCE"),
    ):
        doors = called(version, predict(sequences=[{**rows[0], **wrong}], model="own"))
        assert [found for found, _ in doors] == [reason] * 2, wrong


def test_branches_of_one_length_with_masks_of_their_own(tmp_path: Path) -> None:
    """A fixed time axis for both: shorter ones are served, since each of them is masked."""
    keras.utils.set_random_seed(5)
    inputs = [keras.Input((12,), name=name) for name in ("click", "buy")]
    states = [layers.LSTM(5)(layers.Embedding(4, 4, mask_zero=True)(x)) for x in inputs]
    model = keras.Model(inputs, joined(*states))
    contract = (
        IDS.replace('name = "own"\n', 'name = "own"\npadding = "left"\n').replace("event", "click")
        + IDS.replace('name = "own"\n', "").replace("event", "buy")
        + HEAD
    )
    version = export(model, contract, tmp_path)
    manifest = manifest_of(version)
    assert (manifest.masking_inputs, manifest.limits.sequence_least) == (("click", "buy"), None)
    (got,) = answers(version, [{"click": ["a", "b", "a"], "buy": ["c"]}])
    padded = [np.array([[0] * (12 - len(ids)) + ids]) for ids in ([1, 2, 1], [3])]
    assert got == pytest.approx(model.predict(padded, verbose=0)[0], abs=1e-5)


WHO = '[features.who]\nkind = "categories"\nlabels = ["a", "b", "c"]\nfirst_id = 1\n'


@pytest.mark.parametrize(
    ("joined_masks", "where", "refused"),
    [("logical_or", "all", [("x", "x")]), ("logical_and", None, [("x", "a"), ("a", "x")])],
    ids=["both", "either"],
)
def test_a_mask_made_of_two(
    joined_masks: str, where: str | None, refused: list[tuple[str, str]], tmp_path: Path
) -> None:
    """A recurrent layer behind two embeddings: as Keras joins their masks, and the other way."""
    keras.utils.set_random_seed(6)
    inputs = [keras.Input((None,), name=name) for name in ("event", "who")]
    parts = [layers.Embedding(4, 4, embeddings_initializer="normal")(x) for x in inputs]
    mask = getattr(keras.ops, joined_masks)(*(keras.ops.not_equal(x, 0) for x in inputs))
    state = layers.GRU(5)(layers.Concatenate()(parts), mask=mask)
    contract = IDS + WHO + HEAD
    if where == "all":
        contract = contract.replace("first_id = 1", 'unknown = "map"\nunknown_id = 0\nfirst_id = 1')
    version = export(keras.Model(inputs, joined(state)), contract, tmp_path)
    manifest = manifest_of(version)
    assert (manifest.masking_inputs, manifest.mask_where) == (("event", "who"), where)
    assert manifest.streams is None
    for event, who in refused:
        row = predict(sequences=[{"event": ["a", event], "who": ["b", who]}], model="own")
        wanted = "PAD_COLLISION" if where == "all" else "UNKNOWN_CATEGORY"
        assert [reason for reason, _ in called(version, row)] == [wanted] * 2


@pytest.mark.parametrize("shapes", [((12,), (8,)), ((12, 1), (8, 1))], ids=["flat", "columns"])
def test_time_axes_of_two_sizes_are_refused(shapes: Any, tmp_path: Path) -> None:
    """Both sizes and what to do, whether or not one of them could be the width of a value."""
    inputs = [keras.Input(shape, name=name) for name, shape in zip(("first", "second"), shapes, strict=True)]
    rows = [x if len(x.shape) == 3 else layers.Reshape((-1, 1))(x) for x in inputs]
    model = keras.Model(inputs, joined(*(layers.GRU(3)(x) for x in rows)))
    contract = 'name = "own"\n' + "".join(f'[features.{x.name}]\nkind = "numbers"\n' for x in inputs) + HEAD
    with pytest.raises(ConfigInvalid, match=r"12.*8.*build the model again with None, or one size, in the"):
        export(model, contract, tmp_path)


def test_a_window_is_never_filled_up(tmp_path: Path) -> None:
    """Without a mask a fixed time axis takes its own length alone, and no side of padding is asked for."""
    model = classifier(layers.GRU(8), shape=(20, 2))
    version = export(model, NUMBERS + HEAD, tmp_path)
    assert manifest_of(version).limits.sequence_least == 20
    (row,) = tables(20)
    (got,) = answers(version, [{"x": row.tolist()}])
    assert got == pytest.approx(model.predict(row[None], verbose=0)[0], abs=1e-5)
    doors = called(version, predict(sequences=[{"x": row[1:].tolist()}], model="own"))
    assert [reason for reason, _ in doors] == ["SEQUENCE_TOO_SHORT"] * 2


def test_names_and_labels_as_people_have_them(tmp_path: Path) -> None:
    """Outputs by their keys, one of them named as a feature is; labels that are whole numbers."""
    keras.utils.set_random_seed(9)
    x = keras.Input((None, 2), name="x")
    state = layers.LSTM(6)(layers.Masking(0.0)(x))
    kernel = keras.initializers.RandomNormal(0, 2, seed=6)
    classes = layers.Dense(3, activation="softmax", kernel_initializer=kernel)(state)
    model = keras.Model(x, {"load": layers.Dense(1)(state), "kind": classes})
    contract = (
        NUMBERS.replace("features.x", "features.load")
        + '[heads.kind]\nkind = "softmax"\nlabels = [0, 1, 12]\nscores = "probabilities"\n'
        + '[heads.load]\nkind = "numeric"\n'
    )
    version = export(model, contract, tmp_path)
    (row,) = tables(7)
    wanted = model.predict(row[None], verbose=0)
    sent = predict(sequences=[{"load": row.tolist()}], model="own", top_k=3)
    for answer, _ in called(version, sent):
        heads = answer["predictions"][0]["heads"]
        assert heads["load"]["value"] == pytest.approx(wanted["load"][0, 0], abs=1e-5)
        assert {e["label"]: e["probability"] for e in heads["kind"]["top"]} == pytest.approx(
            dict(zip(("0", "1", "12"), wanted["kind"][0].tolist(), strict=True)), abs=1e-5
        )
