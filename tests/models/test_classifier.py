"""The classifier: `.ts` files in, names of classes out, in whatever order they were trained."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from seqserve.models.calibration import calibrate, calibration_error, fitted_temperature, probabilities
from seqserve.models.check import check_version
from seqserve.models.cli import app
from seqserve.models.config import ClassifierConfig, ConfigInvalid, read_config
from seqserve.models.crossvalidate_classes import crossvalidate_series
from seqserve.models.evaluate import evaluate_version
from seqserve.models.evaluate.classes import Judged, class_figures
from seqserve.models.evaluate.figures import Figure
from seqserve.models.recipes import recipe_for
from seqserve.models.series import Series, read_series, stratified
from tests.models.made import CLASSIFIER, PITCHES, waves, write_series
from tests.trained import Trained, Wanted

Versions = tuple[Path, Path]


def config_with(section: str, **fields: Any) -> ClassifierConfig:
    """The small configuration with some fields of a section changed."""
    config = read_config({**CLASSIFIER, section: {**CLASSIFIER[section], **fields}}, "test")
    assert isinstance(config, ClassifierConfig)
    return config


@pytest.fixture(scope="module")
def series_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of made waves."""
    return write_series(tmp_path_factory.mktemp("waves") / "waves.ts", waves(150, seed=1))


@pytest.fixture(scope="module")
def versions(trained: Trained, series_file: Path) -> Versions:
    """The same model trained with its classes in sorted order, and in the reverse one."""
    orders = ((), tuple(sorted(PITCHES, reverse=True)))
    first, second = (trained(Wanted(config_with("data", labels=order), series_file)) for order in orders)
    return first / "waves/1", second / "waves/1"


def manifest_of(version: Path) -> dict[str, Any]:
    """Read a version's manifest as it lies there."""
    table: dict[str, Any] = json.loads((version / "assets" / "manifest.json").read_bytes())
    return table


def test_the_order_of_the_classes_is_a_matter_of_naming(versions: Versions) -> None:
    """Trained with its outputs in another order, the model gives the same answers by name."""
    one, other = map(manifest_of, versions)
    assert one["heads"]["pitch"]["labels"] == ["high", "low", "middle"]
    assert other["heads"]["pitch"]["labels"] == ["middle", "low", "high"]
    assert [example["request"] for example in one["examples"]] == [e["request"] for e in other["examples"]]
    for first, second in zip(one["examples"], other["examples"], strict=True):
        answers = [example["items"][0]["heads"]["pitch"] for example in (first, second)]
        assert answers[0]["label"] == answers[1]["label"]
        given = [{top["label"]: top["probability"] for top in answer["top"]} for answer in answers]
        assert given[0] == pytest.approx(given[1], abs=1e-3)
        assert sum(given[0].values()) == pytest.approx(1)
    metrics = [{k: v for k, v in m["card"]["metrics"].items() if k != "intervals"} for m in (one, other)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-3)


def test_versions_are_certified_and_measured_on_new_data(versions: Versions, tmp_path: Path) -> None:
    """`check` passes, garbage in the padding included; unseen sequences are named right, in intervals."""
    assert "with garbage in the padding" in "\n".join(check_version(versions[0]))
    fresh = write_series(tmp_path / "test.ts", waves(60, seed=2))
    found = asyncio.run(evaluate_version(versions[0], fresh))
    assert (found["sequences"], found["refused"]) == (60, 0)
    assert found["accuracy"] > 0.9
    assert found["intervals"].keys() == {"accuracy", "log_loss", "macro_f1", "ece"}
    long = waves(40, seed=3)
    long[0].values.resize((30, 2), refcheck=False)  # longer than the last bucket: refused, and so wrong
    refused = asyncio.run(evaluate_version(versions[0], write_series(tmp_path / "long.ts", long)))
    assert refused["refused"] == 1


def test_the_file_of_training_is_measured_by_its_validation_part(
    versions: Versions, series_file: Path
) -> None:
    """What was trained on is not measured: the held-out tenth is, and gives the card's figures again."""
    again = asyncio.run(evaluate_version(versions[0], series_file))
    assert again["sequences"] == 15
    assert again == manifest_of(versions[0])["card"]["metrics"]


@pytest.mark.slow
def test_cross_validation_answers_every_sequence_unseen(series_file: Path, tmp_path: Path) -> None:
    """Figures over all sequences, each answered by a network of the other folds; with a calibrated pair."""
    file, out = tmp_path / "waves.toml", tmp_path / "folds.json"
    tables = {name: value for name, value in CLASSIFIER.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in CLASSIFIER.items() if name not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{field} = {json.dumps(value)}" for field, value in table.items())]
    file.write_text("\n".join(lines))
    command = ["crossvalidate", str(file), "--data", str(series_file), "--folds", "2", "--out", str(out)]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    found = json.loads(told.output.splitlines()[-1])
    assert found == json.loads(out.read_bytes())
    low, high = found["intervals"]["accuracy"]
    assert (found["sequences"], found["accuracy"] > 0.8, low < high) == (150, True, True)
    assert {"ece", "ece_calibrated", "log_loss", "log_loss_calibrated", "temperature"} <= found.keys()
    told = CliRunner().invoke(app, [*command, "--ways", "none"])
    assert (told.exit_code, "--ways" in told.output) == (1, True)
    odd = [*waves(9, seed=1), Series(np.zeros((4, 2)), "odd")]
    with pytest.raises(ConfigInvalid, match="class 'odd' has 1 sequence"):
        crossvalidate_series(config_with("data"), odd, 2)


# --- temperature --------------------------------------------------------------------------------


def drawn(rows: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths from the probabilities of logits, which are returned `sharpness` times too big."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (rows, 4))
    truth = (np.cumsum(probabilities(logits, 1.0), axis=1) < random.random((rows, 1))).sum(axis=1)
    return logits * sharpness, truth.clip(0, 3)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness: float) -> None:
    """It is the factor by which the logits are off, and the calibration error falls to what chance leaves."""
    logits, truth = drawn(4000, sharpness, 1)
    found = calibrate(logits, truth, np.arange(4000) % 5)
    assert found.temperature == pytest.approx(sharpness, rel=0.06)
    assert found.ece_before > 0.1
    assert found.ece_after < 0.03
    assert found.log_loss_after < found.log_loss_before


@given(st.integers(2, 60), st.floats(1, 30))
def test_rows_that_are_all_right_do_not_make_it_certain(rows: int, size: float) -> None:
    """Where nothing is wrong, n rows are held to (n + 1) / (n + 2), not to a temperature of 0."""
    logits = np.eye(3)[np.arange(rows) % 3] * size
    temperature = fitted_temperature(logits, np.arange(rows) % 3)
    sure = probabilities(logits, temperature).max(axis=1)
    np.testing.assert_allclose(sure, (rows + 1) / (rows + 2), atol=1e-3)


def test_the_calibration_error_is_the_gap_within_bins() -> None:
    """Ten rows at 0.9 of which six are right are off by 0.3; a bin of its own for each fifteenth."""
    table = np.repeat([[0.9, 0.1]], 10, axis=0)
    truth = np.array([0] * 6 + [1] * 4)
    assert calibration_error(table, truth) == pytest.approx(0.3)
    mixed = np.concatenate([table, np.repeat([[0.6, 0.4]], 10, axis=0)])
    # the second bin is under-confident by 0.4: gaps of different bins do not cancel
    assert calibration_error(mixed, np.concatenate([truth, np.zeros(10, int)])) == pytest.approx(0.35)


def test_macro_f1_is_over_the_true_labels() -> None:
    """F1 of a, b and c reckoned by hand; what is refused has no label and is wrong."""
    said = {"a": "aab", "b": "bb", "c": ["", "a"]}
    judged = [Judged(truth, answer, 0.5, 0.5) for truth, answers in said.items() for answer in answers]
    found = class_figures(judged)["macro_f1"]
    assert isinstance(found, Figure)
    assert found.value == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)


# --- data ---------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Values and labels of sequences of different lengths survive the form."""
    series = waves(7, seed=5)
    read = read_series(write_series(tmp_path / "a.ts", series))
    assert [one.label for one in read] == [one.label for one in series]
    for one, other in zip(read, series, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


HEAD = "@timeStamps false\n@classLabel true a b\n@data\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "1,2:3,4:a\n1,2:3:a\n", "line 5 dimension 2: 1 values, the first dimension has 2"),
        (HEAD + "1,2:3,x:a\n", "line 4 dimension 2: value 2 is no number: 'x'"),
        (HEAD + "1,NaN:3,4:a\n", "line 4 dimension 1: value 2 is missing"),
        (HEAD + "1,?:a\n", r"line 4 dimension 1: value 2 is no number: '\?'"),
        (HEAD + "1,2:3,4:a\n1,2:b\n", "line 5: 1 dimensions, the lines before have 2"),
        (HEAD + "1,2:3,4:c\n", "line 4: label 'c' is none of"),
        (HEAD + "1,2\n", "line 4: dimension:…:label is wanted"),
        (HEAD, "no sequence is in it"),
        ("@classLabel false\n@data\n1,2\n", "line 1: the sequences have no class"),
        ("@timeStamps true\n", "line 1: values with time stamps are not read"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, told: str, tmp_path: Path) -> None:
    """File, line and dimension are named, and what is wrong."""
    (tmp_path / "bad.ts").write_text(text)
    with pytest.raises(ConfigInvalid, match=rf"bad\.ts.*{told}"):
        read_series(tmp_path / "bad.ts")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda: config_with("serving", buckets=[4, 8]), r"serving\.buckets: a sequence has 20 steps"),
        (lambda: config_with("data", labels=["low", "high"]), r"data\.labels: low, high; the sequences have"),
        (lambda: config_with("data", columns=["one"]), r"data\.columns: 1 names for 2 dimensions"),
        (lambda: config_with("data", feature="lengths"), "'lengths' is the name of another input"),
        (lambda: config_with("model", calibration_folds=1), "calibration_folds: 0, or 2 to 20"),
    ],
)
def test_a_configuration_that_does_not_fit_says_so(
    change: Callable[[], ClassifierConfig], told: str, series_file: Path
) -> None:
    """Before training: the field, the limit and the value."""
    with pytest.raises(ConfigInvalid, match=told):
        recipe_for(change(), series_file)
    with pytest.raises(ConfigInvalid, match="--data"):
        recipe_for(config_with("data"), None)


@given(st.lists(st.integers(0, 4).map(str), min_size=1, max_size=80), st.integers(2, 10))
def test_parts_are_alike_in_size_and_in_classes(labels: list[str], parts: int) -> None:
    """Each part has as many rows as another, and of each class, give or take one."""
    of_row = stratified(labels, parts, seed=0)
    sizes = np.bincount(of_row, minlength=parts)
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        shares = Counter(of_row[np.array(labels) == label].tolist())
        counts = [shares[part] for part in range(parts)]
        assert max(counts) - min(counts) <= 1
