"""The classifier: `.ts` files in, names of classes out, in whatever order they were trained."""

import asyncio
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from seqserve.models.check import check_version
from seqserve.models.cli import app
from seqserve.models.config import ClassifierConfig, ConfigInvalid, read_config
from seqserve.models.data.series import Series
from seqserve.models.evaluate import evaluate_version
from seqserve.models.evaluate.crossvalidation.classifier import crossvalidate_series
from seqserve.models.recipes import recipe_for
from seqserve.service.contract.manifest import Manifest, Softmax
from tests.models.small import CLASSIFIER, PITCHES, waves, write_series
from tests.trained import Trained, Wanted

Versions = tuple[Path, Path]


def config_with(section: str, **fields: Any) -> ClassifierConfig:
    """The small configuration with some fields of a section changed."""
    config = read_config({**CLASSIFIER, section: {**CLASSIFIER[section], **fields}}, "test")
    assert isinstance(config, ClassifierConfig)
    return config


@pytest.fixture(scope="module")
def series_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of generated waves."""
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
    """`check` passes, garbage in the padding included; figures of unseen sequences have intervals."""
    assert "with garbage in the padding" in "\n".join(check_version(versions[0]))
    fresh = write_series(tmp_path / "test.ts", waves(60, seed=2))
    measured = asyncio.run(evaluate_version(versions[0], fresh))
    assert (measured["sequences"], measured["refused"]) == (60, 0)
    assert measured["accuracy"] > 0.9
    assert measured["intervals"].keys() == {"accuracy", "log_loss", "macro_f1", "ece"}
    long = waves(40, seed=3)
    long[0].values.resize((30, 2), refcheck=False)  # longer than the last bucket: refused, and so wrong
    refused = asyncio.run(evaluate_version(versions[0], write_series(tmp_path / "long.ts", long)))
    assert refused["refused"] == 1


def test_the_file_of_training_is_measured_by_its_validation_part(
    versions: Versions, series_file: Path
) -> None:
    """Not what was trained on but the held-out tenth is measured, and it gives the card's figures again."""
    again = asyncio.run(evaluate_version(versions[0], series_file))
    assert again["sequences"] == 15
    assert again == manifest_of(versions[0])["card"]["metrics"]


@pytest.mark.slow
def test_cross_validation_answers_every_sequence_unseen(series_file: Path, tmp_path: Path) -> None:
    """Figures over all sequences, each answered by a network of the other folds, with a calibrated pair."""
    file, out = tmp_path / "waves.toml", tmp_path / "folds.json"
    tables = {name: value for name, value in CLASSIFIER.items() if isinstance(value, dict)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in CLASSIFIER.items() if name not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{field} = {json.dumps(value)}" for field, value in table.items())]
    file.write_text("\n".join(lines))
    command = ["crossvalidate", str(file), "--data", str(series_file), "--folds", "2", "--out", str(out)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    figures = json.loads(run.output.splitlines()[-1])
    assert figures == json.loads(out.read_bytes())
    low, high = figures["intervals"]["accuracy"]
    assert (figures["sequences"], figures["accuracy"] > 0.8, low < high) == (150, True, True)
    assert {"ece", "ece_calibrated", "log_loss", "log_loss_calibrated", "temperature"} <= figures.keys()
    run = CliRunner().invoke(app, [*command, "--ways", "none"])
    assert (run.exit_code, "--ways" in run.output) == (1, True)
    odd = [*waves(9, seed=1), Series(np.zeros((4, 2)), "odd")]
    with pytest.raises(ConfigInvalid, match="class 'odd' has 1 sequence"):
        crossvalidate_series(config_with("data"), odd, 2)


def test_calibration_is_a_step_of_its_own(series_file: Path) -> None:
    """A draft trains nothing: it is `calibrate` that trains a network for each fold, and it says so."""
    config = config_with("model", calibration_folds=2)
    config = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    recipe, console = recipe_for(config, series_file), Console(file=StringIO(), record=True)
    before = recipe.draft(1, {}).manifest
    assert (temperature_of(before), before.card) == (None, {})
    card = recipe.calibrate(console)
    after = recipe.draft(1, card).manifest
    assert temperature_of(after) == pytest.approx(card["calibration"]["temperature"], abs=1e-4)
    assert card["calibration"]["rows"] == 150  # every sequence, by the network that did not see it
    shown = console.export_text()
    assert "calibration: 2 networks" in shown
    assert "on 150 rows that were not trained on" in shown


def temperature_of(manifest: Manifest) -> float | None:
    """Return the temperature of the classifier's head."""
    head = manifest.heads["pitch"]
    assert isinstance(head, Softmax)
    return head.temperature


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: config_with("serving", buckets=[4, 8]), r"serving\.buckets: a sequence has 20 steps"),
        (lambda: config_with("data", labels=["low", "high"]), r"data\.labels: low, high; the sequences have"),
        (lambda: config_with("data", columns=["one"]), r"data\.columns: 1 names for 2 dimensions"),
        (lambda: config_with("data", feature="lengths"), "'lengths' is the name of another input"),
        (lambda: config_with("model", calibration_folds=1), "calibration_folds: 0, or 2 to 20"),
    ],
)
def test_a_configuration_that_does_not_fit_says_so(
    change: Callable[[], ClassifierConfig], message: str, series_file: Path
) -> None:
    """Before training: the field, the limit and the value."""
    with pytest.raises(ConfigInvalid, match=message):
        recipe_for(change(), series_file)
    with pytest.raises(ConfigInvalid, match="--data"):
        recipe_for(config_with("data"), None)
