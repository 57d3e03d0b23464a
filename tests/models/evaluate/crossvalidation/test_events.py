"""Cross-validation: folds, what counts as right, and the command from a log to its tables."""

import datetime
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from typer.testing import CliRunner

from seqserve.models.cli import app
from seqserve.models.config import ConfigInvalid, EventsData
from seqserve.models.evaluate.crossvalidation.events import make_folds, parse_ways

DAY = 86400.0
DATA = EventsData(kind="log")
CONFIG = """
name = "shop"
task = "events"
[data]
kind = "log"
unit = "minutes"
[model]
embedding = 4
units = 8
dropout = 0.0
[training]
epochs = 8
batch_size = 8
learning_rate = 0.02
[serving]
buckets = [4]
"""


@given(st.integers(20, 300), st.integers(2, 5), st.integers(0, 9))
def test_every_case_is_in_exactly_one_test_fold(cases: int, folds: int, seed: int) -> None:
    """And in each fold, a case is trained on or scored; the same for the same seed."""
    if cases < 10 * folds:
        with pytest.raises(ConfigInvalid, match=f"{cases} cases in {folds} folds"):
            make_folds(cases, folds, seed)
        return
    dealt = make_folds(cases, folds, seed)
    assert sorted(np.concatenate([fold.test for fold in dealt])) == list(range(cases))
    for fold, again in zip(dealt, make_folds(cases, folds, seed), strict=True):
        assert sorted([*fold.train, *fold.test]) == list(range(cases))
        assert np.array_equal(fold.test, again.test)


@pytest.mark.slow
def test_only_a_model_that_uses_time_learns_what_it_says(tmp_path: Path) -> None:
    """After a short pause b comes, after a long one c: n-grams can only guess, `concat` knows."""
    log, config, out = tmp_path / "log.csv", tmp_path / "shop.toml", tmp_path / "out.json"
    draw, start = random.Random(1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    lines = ["CaseID,ActivityID,CompleteTimestamp"]
    for number in range(240):
        short = draw.random() < 0.5
        minutes = (0, 2 if short else 600, 700)
        for event, minute in zip(("a", "a", "b" if short else "c"), minutes, strict=True):
            lines.append(f"{number},{event},{start + datetime.timedelta(minutes=minute):%Y-%m-%d %H:%M:%S}")
    log.write_text("\n".join(lines) + "\n")
    config.write_text(CONFIG)
    command = ["crossvalidate", str(config), "--data", str(log), "--folds", "2", "--ways", "concat"]
    run = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert run.exit_code == 0, run.output
    report = json.loads(run.output.splitlines()[-1])
    assert report == json.loads(out.read_bytes())
    models = report["models"]
    assert list(models) == ["1-gram", "2-gram", "3-gram", "4-gram", "5-gram", "concat"]
    assert {m["prefixes"] for m in models.values()} == {480}
    assert models["concat"]["accuracy"] > 0.97
    assert max(models[f"{n}-gram"]["accuracy"] for n in range(1, 6)) < 0.85
    assert report["differences"]["concat"]["intervals"]["log_loss"][1] < -0.1
    assert report["best_ngram"] in models


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    """Another task, and a way of using time that does not exist."""
    with pytest.raises(ConfigInvalid, match="'warp'"):
        parse_ways("warp")
    assert parse_ways("none,concat") == parse_ways("concat,none") == ("concat", "none")
    run = CliRunner().invoke(app, ["crossvalidate", "multi30k", "--data", str(tmp_path)])
    assert (run.exit_code, "only events and classifier" in run.output) == (1, True)
