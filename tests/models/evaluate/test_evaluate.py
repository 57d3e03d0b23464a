"""Figures and their intervals; every kind of model is measured, with pictures."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from seqserve.models.cli import app
from seqserve.models.evaluate.figures import Figure, as_json, figure, mean
from seqserve.models.evaluate.translation import Chrf, corpus_figures
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.contract.manifest_file import parse_manifest


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    """For many independent rows the bootstrap agrees with mean ± 1.96 standard errors."""
    values = np.random.default_rng(0).normal(3, 2, 4000)
    interval, error = mean(values), 1.96 * values.std() / 4000**0.5
    assert abs(interval.value - values.mean()) < 1e-9
    np.testing.assert_allclose(
        [interval.low, interval.high], [values.mean() - error, values.mean() + error], atol=0.01
    )


def test_rows_of_one_group_are_drawn_together() -> None:
    """Ten copies of each row say no more than the rows did."""
    values = np.random.default_rng(0).normal(size=100)
    groups = np.repeat(np.arange(100), 10)
    alone, copied = mean(values), mean(np.repeat(values, 10), groups)
    np.testing.assert_allclose([copied.low, copied.high], [alone.low, alone.high], atol=1e-9)
    naive = mean(np.repeat(values, 10))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_any_statistic_of_sums_has_an_interval() -> None:
    """F1 of 30 true positives, 10 false ones and 20 missed."""
    rows = np.array([[1, 0, 0]] * 30 + [[0, 1, 0]] * 10 + [[0, 0, 1]] * 20)
    score = figure(rows, lambda sums: 2 * sums[..., 0] / (2 * sums[..., 0] + sums[..., 1] + sums[..., 2]))
    assert abs(score.value - 60 / 90) < 1e-9
    assert score.low < score.value < score.high
    assert as_json({"f1": score, "rows": 60})["intervals"].keys() == {"f1"}


@pytest.mark.parametrize(
    ("name", "figures", "pictures"),
    [
        ("en-de", {"bleu", "chrf", "greedy_bleu"}, {"attention"}),
        ("shop", {"accuracy", "log_loss", "mae_minutes"}, {"confusion", "reliability"}),
        ("waves", {"accuracy", "log_loss", "macro_f1", "ece"}, {"confusion", "reliability"}),
        ("steps", {"accuracy", "log_loss", "macro_f1", "ece"}, {"confusion", "reliability"}),
        ("loads", {"mse", "mae", "coverage_90", "sampled_coverage_90"}, {"forecast"}),
    ],
)
def test_every_kind_of_model_is_measured(
    name: str,
    figures: set[str],
    pictures: set[str],
    root: Path,
    kinds: Path,
    data_of: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The command's last line is what the card says of the same rows, with intervals; pictures are drawn."""
    version = (root if name in ("en-de", "shop") else kinds) / name / "1"
    arguments = [str(version), "--data", str(data_of[name]), "--plot", str(tmp_path / "plots")]
    run = CliRunner().invoke(app, ["evaluate", *arguments])
    assert run.exit_code == 0, run.output
    measured = orjson.loads(run.output.splitlines()[-1])
    assert measured == (parse_manifest((version / "assets" / FILE_NAME).read_bytes()).card or {})["metrics"]
    assert figures <= measured["intervals"].keys()
    assert all(low <= measured[figure] <= high for figure, (low, high) in measured["intervals"].items())
    assert {path.stem for path in (tmp_path / "plots").glob("*.png")} == pictures


def test_few_and_poor_texts_are_scored() -> None:
    """A bootstrap sample in which nothing matches scores 0, and does not crash."""
    score = corpus_figures("chrf", Chrf(), ["", "xyz", "ein Hund"], [["zwei", "abc", "ein Hund"]])["chrf"]
    assert isinstance(score, Figure)
    assert 0 < score.value < 100
