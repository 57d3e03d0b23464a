"""The forecaster: what it sees of a window, what its intervals hold, and that a seed determines an answer."""

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from seqserve.models.check import check_version
from seqserve.models.config import CONFIGS, ConfigInvalid, read_config
from seqserve.models.data.tables import read_table
from seqserve.models.evaluate import evaluate_version
from seqserve.models.recipes import recipe_for
from seqserve.service.contract.manifest import FILE_NAME, PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.manifest_file import parse_manifest
from tests.models.small import FORECASTER, SEASON, write_table
from tests.trained import Trained, wanted

DATA = FORECASTER["data"]
ROWS, HISTORY, HORIZON = DATA["train"] + DATA["validation"], DATA["history"], DATA["horizon"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated table of the training and validation rows."""
    return write_table(tmp_path_factory.mktemp("series") / "loads.csv", ROWS)


@pytest.fixture(scope="module")
def version(trained: Trained, table: Path) -> Path:
    """A small forecaster, trained, exported and certified by the real command."""
    return trained(wanted(FORECASTER, table)) / "loads/1"


@pytest.fixture(scope="module")
def manifest(version: Path) -> Manifest:
    """What the version says of itself."""
    return parse_manifest((version / "assets" / FILE_NAME).read_bytes())


@pytest.fixture(scope="module")
def model(version: Path) -> Iterator[Any]:
    """The exported graph, called with raw tensors: (windows, lengths, seeds) to outputs by name."""
    loaded = tf.saved_model.load(str(version))
    signature = loaded.signatures[PREDICT_SIGNATURE]

    def call(windows: Any, lengths: Any, seeds: Any) -> dict[str, np.ndarray]:
        inputs = {"hours": tf.constant(windows, tf.float32)}
        rows = {"lengths": tf.constant(lengths, tf.int32), "seed": tf.constant(seeds, tf.int32)}
        return {name: value.numpy() for name, value in signature(**inputs, **rows).items()}

    yield call
    del loaded


def test_a_version_is_certified(version: Path) -> None:
    """Padding, garbage in it, and neighbours are invisible to both heads; goldens hold, one with a seed."""
    report = "\n".join(check_version(version))
    assert all(case in report for case in ("padded", "with garbage in the padding", "among neighbours"))
    assert "3 golden examples hold" in report


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_a_row_and_a_seed_make_one_answer(model: Any, neighbours: list[int], seed: int) -> None:
    """The same alone and at any place beside any rows of any seeds; another seed moves one head only."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(len(neighbours) + 1, HISTORY, 3))
    place = int(random.integers(len(rows)))
    lengths, seeds = np.full(len(rows), HISTORY), np.insert(neighbours, place, seed)
    alone = model(rows[place : place + 1], [HISTORY], [seed])
    batch = model(rows, lengths, seeds)
    for name in ("load", "load_sampled"):
        np.testing.assert_allclose(batch[name][place], alone[name][0], rtol=1e-5, atol=1e-5)
    other = model(rows[place : place + 1], [HISTORY], [seed ^ 1])
    np.testing.assert_allclose(other["load"], alone["load"], rtol=1e-5, atol=1e-5)
    assert np.abs(other["load_sampled"] - alone["load_sampled"]).max() > 1e-4


def test_answers_are_ordered_and_in_the_columns_own_units(manifest: Manifest) -> None:
    """In every recorded answer low <= value <= high, 4 hours by 3 columns, around 0, -3 and 100."""
    for example in manifest.examples:
        for answer in example.items[0]["heads"].values():
            (interval,) = answer["intervals"]
            low, value, high = (
                np.array(part) for part in (interval["low"], answer["values"], interval["high"])
            )
            assert value.shape == (HORIZON, 3)
            assert ((low <= value) & (value <= high)).all()
            assert answer["columns"] == ["east", "north", "west"]
            assert abs(value[:, 2].mean() - 100) < 60
            assert interval["level"] == 0.9


def test_intervals_hold_what_they_say(version: Path, tmp_path: Path) -> None:
    """On later rows than training saw, both heads cover about 90 %, and errors are below the baselines'."""
    longer = write_table(tmp_path / "longer.csv", ROWS + 1500)
    measured = asyncio.run(evaluate_version(version, longer))
    assert measured["windows"] == 1500 - HORIZON + 1
    assert measured["from"] == "2026-02-12 12:00:00"  # 1020 hours after the first
    for head in ("", "sampled_"):
        assert 0.87 <= measured[f"{head}coverage_90"] <= 0.96
        low, high = measured["intervals"][f"{head}coverage_90"]
        assert low < measured[f"{head}coverage_90"] < high
        assert measured[f"{head}mse"] < 0.75 * measured["mse_season_ago"] < measured["mse_last_value"]


def test_the_hours_that_are_measured(version: Path, table: Path, tmp_path: Path) -> None:
    """The training file's validation rows; without the last row seen, all rows but the first history."""
    held_out = asyncio.run(evaluate_version(version, table))
    assert held_out["windows"] == DATA["validation"] - HORIZON + 1
    assert held_out["from"] == "2026-02-07 12:00:00"  # 900 hours after the first
    recorded = parse_manifest((version / "assets" / FILE_NAME).read_bytes()).card or {}
    assert recorded["metrics"] == held_out
    new = write_table(tmp_path / "new.csv", ROWS + 60, skipped=ROWS)
    assert asyncio.run(evaluate_version(version, new))["windows"] == 60 - HISTORY - HORIZON + 1
    with pytest.raises(ConfigInvalid, match="none is left"):
        asyncio.run(evaluate_version(version, write_table(tmp_path / "cut.csv", ROWS, skipped=1)))


def test_baselines_are_what_their_names_say(version: Path, table: Path) -> None:
    """MSE of the value a season ago and of the last one, computed from the file alone."""
    values = read_table(table, "time").values
    train = values[: DATA["train"]]
    scaled = (values - train.mean(axis=0)) / train.std(axis=0)
    origins = range(DATA["train"], ROWS - HORIZON + 1)
    truth = np.stack([scaled[o : o + HORIZON] for o in origins])
    ago = np.stack([scaled[o - SEASON : o - SEASON + HORIZON] for o in origins])
    last = np.stack([scaled[[o - 1] * HORIZON] for o in origins])
    measured = asyncio.run(evaluate_version(version, table))
    assert measured["mse_season_ago"] == pytest.approx(np.square(ago - truth).mean(), abs=1e-4)
    assert measured["mse_last_value"] == pytest.approx(np.square(last - truth).mean(), abs=1e-4)


def test_the_linear_map_finds_a_linear_law(tmp_path: Path) -> None:
    """Before any training, a noiseless season is forecast almost exactly."""
    lines = [
        f"2026-01-{day:02} {hour:02}:00:00,{np.sin(hour * np.pi / 3)}"
        for day in range(1, 32)
        for hour in range(24)
    ]
    path = tmp_path / "sine.csv"
    path.write_text("\n".join(["time,tide", *lines]) + "\n")
    model = {**FORECASTER["model"], "ridge": 1e-3}
    config = {**FORECASTER, "data": {**DATA, "train": 600, "validation": 100}, "model": model}
    task = recipe_for(read_config(config, "test"), path).task
    (inputs, truth, _) = task.draw(np.random.default_rng(0)).batch(np.arange(5))
    np.testing.assert_allclose(task.network(inputs)[..., 1], truth, atol=1e-3)


def test_without_samples_there_is_one_head_and_no_seed(table: Path) -> None:
    """`samples = 0` leaves Monte Carlo dropout out."""
    config = read_config({**FORECASTER, "model": {"units": 4, "samples": 0}}, "test")
    manifest = recipe_for(config, table).draft(1, {}).manifest
    assert (list(manifest.heads), manifest.options) == (["load"], {})
    assert list(manifest.signatures[PREDICT_SIGNATURE].inputs) == ["hours", "lengths"]


@pytest.mark.parametrize(
    ("section", "given", "message"),
    [
        ("data", {"history": 6}, "no two seasons of 6"),
        ("data", {"feature": "seed"}, "feature: 'seed'"),
        ("model", {"samples": 5, "before": {"rate": 0, "noise": "step"}, "inside": 0}, None),
        ("model", {"before": {"rate": 0.1, "noise": "steps"}}, "model.before.noise"),
        ("serving", {"buckets": [6, 12]}, "the last one is the history, 18"),
    ],
)
def test_a_configuration_that_contradicts_itself(
    section: str, given: dict[str, Any], message: str | None
) -> None:
    """It is refused with its reason; the third drops after the LSTM, so its samples do differ."""
    table = {**FORECASTER, section: {**FORECASTER[section], **given}}
    if message is None:
        assert read_config(table, "test")
        table[section] |= {"after": {"rate": 0, "noise": "step"}}
        message = "all the same"
    with pytest.raises(ConfigInvalid, match=message):
        read_config(table, "test")


def test_the_shipped_configuration_is_whole(manifest: Manifest) -> None:
    """Every field of the shipped file is one that the version's card can be read back from."""
    shipped = read_config(tomllib.loads((CONFIGS / "etth1.toml").read_text()), "etth1.toml")
    assert read_config(json.loads(shipped.model_dump_json()), "card") == shipped
    assert read_config((manifest.card or {})["config"], "card") == read_config(FORECASTER, "tests")
