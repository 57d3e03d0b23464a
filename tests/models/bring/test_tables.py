"""The labels of a contract against the ids that a model has: both numbers stand in what is said."""

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras import layers, ops

from seqserve.models.bring import bring
from seqserve.models.bring.contract import Contract
from seqserve.models.bring.keras_file import load_keras
from seqserve.models.bring.load import load_contract
from seqserve.models.bring.matching import match_contract
from seqserve.models.bring.tables import check_ids_fit, check_ids_named, ids_of
from seqserve.models.config import ConfigInvalid
from tests.models.bring.own import HEAD, IDS, classifier

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, saving


def embedded(rows: int = 4) -> keras.Model:
    """Ids 0 to rows - 1, 0 masked."""
    return classifier(layers.Embedding(rows, 4, mask_zero=True, name="ids"), layers.LSTM(4), shape=(None,))


def one_hot() -> keras.Model:
    """Four ids; what is beyond them becomes zeros, in silence."""
    event = keras.Input((None,), dtype="int32")
    state = layers.LSTM(4)(ops.one_hot(event, 4))
    return keras.Model(event, layers.Dense(3, activation="softmax")(state))


def nested() -> keras.Model:
    """A model within a model."""
    event = keras.Input((None,))
    return keras.Model(event, embedded()(event))


FOUR = "the model has 4 ids, 0 to 3"
Fault = tuple[Callable[[], keras.Model], str, list[str]]
FAULTS: dict[str, Fault] = {
    "left out": (
        embedded,
        IDS.replace(', "c"', ""),
        ["features.event.labels: 2 labels take the ids first_id = 1 to 2", FOUR, "id 3 is without a label"],
    ),
    "several left out": (lambda: embedded(9), IDS, ["the model has 9 ids", "5 ids, 4 to 8", "spare_ids = 5"]),
    "first_id too low": (
        embedded,
        IDS.replace("first_id = 1\n", ""),
        ["3 labels take the ids first_id = 0 to 2", FOUR, "first_id = 1 if training's ids began there"],
    ),
    "one too many": (embedded, IDS.replace('"c"', '"c", "d"'), ["4 labels", "1 to 4", FOUR, "lacks 4"]),
    "unknown_id": (embedded, f'{IDS}unknown = "map"\nunknown_id = 7\n', ["(unknown_id 7)", FOUR, "lacks 7"]),
    "one-hot": (one_hot, IDS.replace('"c"', '"c", "d"'), ["1 to 4", FOUR, "operation 'one_hot"]),
    "nested": (nested, IDS.replace(', "c"', ""), ["2 labels", FOUR, "Embedding 'ids'"]),
    "numbers": (
        embedded,
        'name = "own"\n[features.event]\nkind = "numbers"\n',
        ["features.event.kind: 'numbers'", "Embedding 'ids'", 'kind = "categories"'],
    ),
}


def check(model: keras.Model, contract: str, folder: Path) -> None:
    """Compare a contract's labels with what the model's file shows of its ids."""
    model.save(folder / "own.keras")
    (folder / "own.toml").write_text(contract + HEAD, "utf-8")
    read, file = load_contract(folder / "own.toml"), load_keras(folder / "own.keras")
    assert isinstance(read, Contract)
    ids = ids_of(read, file, match_contract(read, file))
    check_ids_fit(read, ids)
    check_ids_named(read, ids)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_labels_and_ids_are_as_many(fault: Fault, tmp_path: Path) -> None:
    model, contract, words = fault
    with pytest.raises(ConfigInvalid) as caught:
        check(model(), contract, tmp_path)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        (4, ""),
        (7, "spare_ids = 3\n"),
        (5, 'unknown = "map"\nunknown_id = 4\n'),
        (5, "pad_value = 4\n"),
    ],
    ids=["as many", "spare", "unknown behind", "padding behind"],
)
def test_ids_that_are_accounted_for_pass(rows: int, more: str, tmp_path: Path) -> None:
    check(embedded(rows), IDS + more, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ('"a", "b"', ["2 labels", FOUR, "by trial", "id 3"]),
        ('"a", "b", "c", "d"', ["1 to 4", FOUR, "lacks 4"]),
    ],
)
def test_a_graph_without_layers_is_tried(labels: str, words: list[str], tmp_path: Path) -> None:
    embedded().export(tmp_path / "own", verbose=False)
    (tmp_path / "own.toml").write_text(IDS.replace('"a", "b", "c"', labels) + HEAD, "utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        bring(tmp_path / "own", load_contract(tmp_path / "own.toml"), 1)
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message
