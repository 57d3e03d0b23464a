"""The tagger: an answer for every real step; nothing is learned or measured from any other."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from seqserve.models.check import check_version
from seqserve.models.config import ConfigInvalid, TaggerConfig, read_config
from seqserve.models.data.cases import Case, read_log
from seqserve.models.evaluate import evaluate_version
from seqserve.models.recipes.labelled import LabelledRow, RealAccuracy, batch_of, logits_of
from seqserve.models.recipes.tagger import TaggerRecipe, baseline
from tests.models.small import TAGGER
from tests.trained import Trained, wanted


@pytest.fixture(scope="module")
def version(trained: Trained, log_data: Path) -> Path:
    """A small tagger, trained by the real command's function."""
    return trained(wanted(TAGGER, log_data)) / "steps/1"


def test_the_version_is_certified_and_answers_each_step(version: Path) -> None:
    """`check` passes, garbage in the padding included; the examples have one answer a step."""
    assert "with garbage in the padding" in "\n".join(check_version(version))
    manifest = json.loads((version / "assets" / "manifest.json").read_bytes())
    assert manifest["heads"]["event"]["per"] == "step"
    lengths = set()
    for example in manifest["examples"]:
        sent, got = (
            example["request"]["sequences"][0]["minutes"],
            example["items"][0]["heads"]["event"]["steps"],
        )
        assert len(sent) == len(got)
        lengths.add(len(sent))
    assert len(lengths) > 1
    assert {"accuracy", "macro_f1"} <= manifest["card"]["baseline"].keys()
    temperature = manifest["heads"]["event"]["temperature"]
    assert manifest["card"]["calibration"]["temperature"] == pytest.approx(temperature, abs=1e-4)


def test_every_step_of_a_log_is_measured(version: Path, log_data: Path, tmp_path: Path) -> None:
    """Another log's cases are all tagged; the training log's held-out tenth gives the card's figures."""
    other = tmp_path / "other.csv"
    other.write_text(log_data.read_text() + "x,visit,2026-01-01 00:00:00\n")
    cases = read_log(other)
    measured = asyncio.run(evaluate_version(version, other))
    assert (measured["sequences"], measured["steps"]) == (len(cases), sum(len(case.events) for case in cases))
    assert measured["intervals"].keys() == {"accuracy", "log_loss", "macro_f1", "ece"}
    again = asyncio.run(evaluate_version(version, log_data))
    assert again == json.loads((version / "assets" / "manifest.json").read_bytes())["card"]["metrics"]


def test_loss_and_accuracy_are_over_real_steps(log_data: Path) -> None:
    """Both equal the mean over real steps computed by hand, in batches of very different lengths too."""
    config = read_config({**TAGGER, "training": {**TAGGER["training"], "batch_size": 3}}, "test")
    assert isinstance(config, TaggerConfig)
    cases = sorted(read_log(log_data), key=lambda case: len(case.events))
    recipe = TaggerRecipe(config, cases, [*cases[:3], *cases[-3:]])
    network = recipe.task.network
    held_out = [row for batch in recipe.task.validation for row in _rows(batch)]
    logits = logits_of(network, held_out)
    right = [logit.argmax(axis=1) == row.target for logit, row in zip(logits, held_out, strict=True)]
    accuracy = RealAccuracy()
    for inputs, targets, weights in recipe.task.validation:
        accuracy.update_state(targets, network(inputs), weights)
    assert float(accuracy.result()) == pytest.approx(np.concatenate(right).mean(), abs=1e-6)
    x, y, weights = batch_of(held_out)
    spoiled = np.where(weights == 0, 1, y).astype(np.int32)
    logs = [logit - np.log(np.exp(logit).sum(axis=1, keepdims=True)) for logit in logits]
    by_hand = [-log[np.arange(len(log)), row.target] for log, row in zip(logs, held_out, strict=True)]
    loss = float(network.compute_loss(x, spoiled, network(x), weights))
    assert loss == pytest.approx(np.concatenate(by_hand).mean(), rel=1e-5)


def _rows(batch: tuple) -> list[LabelledRow]:  # type: ignore[type-arg]
    (values, lengths), targets, _ = batch
    return [LabelledRow(v[:n], t[:n]) for v, t, n in zip(values, targets, lengths, strict=True)]


def test_the_baseline_is_the_commonest_between_two_times() -> None:
    """Where the times beside an event determine it, the baseline is right; where they do not, it guesses."""
    timed = [Case(("a", "b", "c"), (0.0, 60.0, 7260.0)), Case(("a", "c"), (0.0, 7200.0))] * 4
    assert baseline(timed, timed)["accuracy"] == pytest.approx(1.0)
    untold = [Case((event,), (0.0,)) for event in "aaab"]
    assert baseline(untold, untold) == {"steps": 4, "accuracy": 0.75, "macro_f1": round(6 / 14, 4)}


def test_a_log_without_known_activities_is_refused() -> None:
    """Where all held-out cases have new activities, nothing is left to validate by."""
    config = read_config(TAGGER, "test")
    assert isinstance(config, TaggerConfig)
    with pytest.raises(ConfigInvalid, match="no validation case"):
        TaggerRecipe(config, [Case(("a",), (0.0,))], [Case(("b",), (0.0,))])
