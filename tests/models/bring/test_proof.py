"""A sequence model's served answers against those of the user's own code: equal, or explained."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from seqserve.models.bring.translation.proof import NOT_COMPARED, AnswersDiffer
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.config import ConfigInvalid
from tests.models.bring.own import HEAD, IDS, LABELS, classifier, export, manifest_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
LENGTH = 8


def fixed() -> keras.Model:
    """Rows of ids padded in front to 8, with nothing masked."""
    return classifier(layers.Embedding(4, 4, name="ids"), layers.GRU(6), shape=(LENGTH,))


def sequences(count: int = 6) -> list[list[str]]:
    """Sequences of 1 to 7 labels."""
    random = np.random.default_rng(7)
    return [[LABELS[n] for n in random.integers(0, 3, 1 + at % 7)] for at in range(count)]


def predicted(model: keras.Model, rows: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """What a user has: rows encoded and padded by hand, and what `predict` gives for them."""
    ids = [[1 + LABELS.index(label) for label in row] for row in rows]
    padded = keras.utils.pad_sequences(ids, maxlen=LENGTH, padding="pre")
    return padded, model.predict(padded, verbose=0)


def write(folder: Path, rows: list[list[str]], answers: np.ndarray, by_name: bool = True) -> Path:
    """Write items of JSON, a line each."""
    file = folder / "expected.jsonl"
    items = [
        {"event": row, "expected": {"label": dict(zip(LABELS, map(float, one), strict=True))}}
        if by_name
        else {"event": row, "expected": {"label": [float(x) for x in one]}}
        for row, one in zip(rows, answers, strict=True)
    ]
    file.write_text("".join(f"{json.dumps(item)}\n" for item in items), "utf-8")
    return file


def contract(padding: str = "left", more: str = "", head: str = HEAD) -> str:
    """The contract, right unless something else is given."""
    limits = f"limits = {{sequence_steps = {LENGTH}, sequence_least = 1}}"
    return f'padding = "{padding}"\n{limits}\n{IDS}{more}{head}'


def test_expected_answers_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the examples, by label; of a file, by probability; of raw arrays: all through the served path."""
    model, rows = fixed(), sequences()
    padded, answers = predicted(model, rows)
    label = LABELS[int(answers[3].argmax())]
    given = f"\n[[examples]]\nevent = {rows[3]}\nexpected = {{label = '{label}'}}\n"
    given += "[[examples]]\nevent = ['a']\n"
    version = export(model, contract() + given, tmp_path, expect=write(tmp_path, rows, answers))
    assert (manifest_of(version).card or {})["metrics"] == {"compared": 7, "equal": 7}
    shown = capsys.readouterr().out
    assert "7 answers are those of your own code" in shown
    assert NOT_COMPARED not in shown
    assert "their order is not compared" not in shown
    arrays = tmp_path / "expected.npz"
    np.savez(arrays, event=padded, label=answers)
    version = export(model, contract(), tmp_path, expect=arrays)
    assert (manifest_of(version).card or {})["metrics"] == {"compared": 6, "equal": 6}
    assert "heads.label.labels: their order is not compared" in capsys.readouterr().out
    export(model, contract(), tmp_path)
    assert NOT_COMPARED in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (contract("right"), 'padding = "left"'),
        (
            contract(head=HEAD.replace('"a", "b", "c"', '"b", "c", "a"')),
            'heads.label.labels = ["a", "b", "c"]',
        ),
    ],
    ids=["padding", "labels"],
)
def test_a_wrong_contract_is_explained(wrong: str, cause: str, tmp_path: Path) -> None:
    """Nothing is written, though every check of the graph would pass."""
    model, rows = fixed(), sequences()
    _, answers = predicted(model, rows)
    with pytest.raises(AnswersDiffer) as caught:
        export(model, wrong, tmp_path, expect=write(tmp_path, rows, answers))
    assert "of 6 answers are not those of your own code" in caught.value.message
    assert f"They are equal with {cause}" in caught.value.message.replace(
        "labels in alphabetical order", cause[12:]
    )
    assert not list(tmp_path.glob("models/*/[0-9]*"))


def test_raw_arrays_show_the_wrong_side(tmp_path: Path) -> None:
    model, rows = fixed(), sequences()
    padded, answers = predicted(model, rows)
    np.savez(tmp_path / "expected.npz", event=padded, label=answers)
    with pytest.raises(AnswersDiffer, match='They are equal with padding = "left"'):
        export(model, contract("right"), tmp_path, expect=tmp_path / "expected.npz")


def test_a_leak_is_no_other_answer(tmp_path: Path) -> None:
    """A mean over padding too is not explained by the contract; run one by one, its rows are as expected."""
    model = classifier(layers.Embedding(4, 4), layers.GlobalAveragePooling1D(), shape=(None,))
    rows = sequences()
    ids = [np.array([[1 + LABELS.index(label) for label in row]]) for row in rows]
    expect = write(tmp_path, rows, np.concatenate([model.predict(row, verbose=0) for row in ids]))
    with pytest.raises(PaddingLeak, match=r"heads.label: .* where it is alone; let the model mask"):
        export(model, IDS + HEAD, tmp_path, expect=expect)
    version = export(model, IDS + HEAD, tmp_path, expect=expect, allow_leak=True)
    assert (manifest_of(version).card or {})["metrics"] == {"compared": 6, "equal": 6}
    assert manifest_of(version).batching == "single"


RAW: dict[str, tuple[dict[str, Any], str]] = {
    "other outputs": (
        {"label": np.full((2, 3), 1 / 3)},
        "for the file's own inputs .* is off by",
    ),
    "no outputs": ({}, "none of the model's outputs, .*: np.savez"),
    "other rows": ({"label": np.full((3, 3), 1 / 3)}, r"one number of rows .* \{'event': 2, 'label': 3\}"),
    "other width": ({"label": np.full((2, 4), 1 / 4)}, r"'label' has shape \(2, 4\), the model"),
    "no such id": ({"event": np.full((2, LENGTH), 3)}, "was given the id 3, but the 2 labels have the ids"),
}


@pytest.mark.parametrize(("arrays", "says"), RAW.values(), ids=RAW)
def test_arrays_that_do_not_fit_are_refused(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    model = fixed()
    given = {"event": np.ones((2, LENGTH), np.int32), **arrays}
    text = contract()
    if says.startswith("was given"):
        given["label"] = model.predict(given["event"], verbose=0)
        text = text.replace(', "c"]\nfirst_id', "]\nspare_ids = 1\nfirst_id")
    np.savez(tmp_path / "expected.npz", **given)
    with pytest.raises(ConfigInvalid, match=says):
        export(model, text, tmp_path, expect=tmp_path / "expected.npz")
