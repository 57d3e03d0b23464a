"""Cross-validation: folds, what counts as right, and the command from a log to its tables."""

import datetime
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from seqserve.models.cli import app
from seqserve.models.config import ConfigInvalid, EventsData
from seqserve.models.crossvalidate import make_folds, parse_ways
from seqserve.models.data import END, Case
from seqserve.models.evaluate.prefixes import differences_of, figures_of, prefixes_of, score

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
    found = make_folds(cases, folds, seed)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(cases))
    for fold, again in zip(found, make_folds(cases, folds, seed), strict=True):
        assert sorted([*fold.train, *fold.test]) == list(range(cases))
        assert np.array_equal(fold.test, again.test)


def test_what_counts_as_right() -> None:
    """Four prefixes: right, the end where b came, the end right, and one that was refused."""
    cases = [Case(("a", "b", "a", "b"), (0.0, DAY, 3 * DAY, 4 * DAY)), Case(("a", "b"), (0.0, DAY))]
    prefixes = list(prefixes_of(cases, DATA))
    assert [(p.case, p.events, p.truth) for p in prefixes] == [
        (0, 2, "a"),
        (0, 3, "b"),
        (0, 4, END),
        (1, 2, END),
    ]
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8], [0, 0, 0]])
    found = score(prefixes, ("a", "b", END), probabilities, np.array([1.0, 1.5, 9.0, np.nan]))
    figures = {name: getattr(f, "value", f) for name, f in figures_of(found, "days").items()}
    losses = -np.log([0.7, 0.3, 0.8, 1e-9])
    assert figures == pytest.approx(
        {
            "prefixes": 4,
            "log_loss": losses.mean(),
            "accuracy": 0.5,
            "accuracy_without_end": 0.5,
            "accuracy_among_events": 1.0,
            "mae_days": 0.75,  # 1 for 2 days, 1.5 for 1 day
            "refused": 1,
        }
    )


def test_a_difference_is_paired() -> None:
    """A model that is better by the same on every prefix has an interval of no width, whatever each is."""
    case = Case(tuple("abababab"), tuple(DAY * n for n in range(8)))
    prefixes = list(prefixes_of([case, case, case], DATA))
    hard = np.random.default_rng(0).uniform(0.1, 0.4, len(prefixes))
    waits = np.zeros(len(prefixes))

    def scored(given: np.ndarray) -> object:
        places = [("a", "b", END).index(prefix.truth) for prefix in prefixes]
        table = np.repeat((1 - given)[:, None] / 2, 3, axis=1)
        table[np.arange(len(places)), places] = given
        return score(prefixes, ("a", "b", END), table, waits)

    found = differences_of(scored(2 * hard), scored(hard), "days")  # type: ignore[arg-type]
    difference = found["log_loss"]
    assert [difference.low, difference.high] == pytest.approx([-np.log(2)] * 2)  # type: ignore[union-attr]
    assert found["log_loss_share"].value == pytest.approx(-np.log(2) / -np.log(hard).mean())  # type: ignore[union-attr]


@pytest.mark.slow
def test_only_a_model_that_uses_time_finds_what_time_tells(tmp_path: Path) -> None:
    """After a short pause b comes, after a long one c: n-grams and `none` can but guess, `concat` knows."""
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
    command = ["crossvalidate", str(config), "--data", str(log), "--folds", "2", "--ways", "concat,none"]
    told = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert told.exit_code == 0, told.output
    found = json.loads(told.output.splitlines()[-1])
    assert found == json.loads(out.read_bytes())
    models = found["models"]
    assert list(models) == ["1-gram", "2-gram", "3-gram", "4-gram", "5-gram", "concat", "none"]
    assert {m["prefixes"] for m in models.values()} == {480}
    assert models["concat"]["accuracy"] > 0.97
    assert models["none"]["accuracy"] < 0.85
    assert max(models[f"{n}-gram"]["accuracy"] for n in range(1, 6)) < 0.85
    assert found["differences"]["concat"]["intervals"]["log_loss"][1] < -0.1
    assert found["best_ngram"] in models


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    """Another task, and a way that there is not."""
    with pytest.raises(ConfigInvalid, match="'warp'"):
        parse_ways("warp")
    told = CliRunner().invoke(app, ["crossvalidate", "multi30k", "--data", str(tmp_path)])
    assert (told.exit_code, "only events and classifier" in told.output) == (1, True)
