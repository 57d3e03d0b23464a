"""The forecaster: what it sees of a window, what its intervals hold, and that a seed makes an answer."""

import asyncio
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from seqserve.models.check import check_version
from seqserve.models.config import CONFIGS, ConfigInvalid, ForecasterConfig, read_config
from seqserve.models.dropout import Dropouts, Place
from seqserve.models.evaluate import evaluate_version
from seqserve.models.evaluate.forecasts import to_measure
from seqserve.models.forecast import Forecaster
from seqserve.models.intervals import conformal_bound
from seqserve.models.recipes import recipe_for
from seqserve.models.tables import read_table
from seqserve.service.contract.manifest import FILE_NAME, PREDICT_SIGNATURE, Manifest, parse_manifest
from tests.models.tables import FORECASTER, SEASON, write_table
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
    told = "\n".join(check_version(version))
    assert all(case in told for case in ("padded", "with garbage in the padding", "among neighbours"))
    assert "3 golden examples hold" in told


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.integers(0, 2**31 - 1))
def test_a_row_and_a_seed_make_one_answer(model: Any, neighbours: list[int], seed: int) -> None:
    """The same alone, at any place and beside any rows of any seeds; another seed moves one head only."""
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
    """On rows after all that was seen both heads cover about 90 %, and errors are below the baselines'."""
    longer = write_table(tmp_path / "longer.csv", ROWS + 1500)
    found = asyncio.run(evaluate_version(version, longer))
    assert found["windows"] == 1500 - HORIZON + 1
    assert found["from"] == "2026-02-12 12:00:00"  # 1020 hours after the first
    for head in ("", "sampled_"):
        assert 0.87 <= found[f"{head}coverage_90"] <= 0.96
        low, high = found["intervals"][f"{head}coverage_90"]
        assert low < found[f"{head}coverage_90"] < high
        assert found[f"{head}mse"] < 0.75 * found["mse_season_ago"] < found["mse_last_value"]


def test_the_hours_that_are_measured(version: Path, table: Path, tmp_path: Path) -> None:
    """The training file: its validation rows. Rows without the last one seen: all but the first history."""
    held_out = asyncio.run(evaluate_version(version, table))
    assert held_out["windows"] == DATA["validation"] - HORIZON + 1
    assert held_out["from"] == "2026-02-07 12:00:00"  # 900 hours after the first
    recorded = parse_manifest((version / "assets" / FILE_NAME).read_bytes()).card or {}
    assert recorded["metrics"] == held_out
    new = write_table(tmp_path / "new.csv", ROWS + 60, skipped=ROWS)
    assert asyncio.run(evaluate_version(version, new))["windows"] == 60 - HISTORY - HORIZON + 1
    with pytest.raises(ConfigInvalid, match="none is left"):
        asyncio.run(evaluate_version(version, write_table(tmp_path / "cut.csv", ROWS, skipped=1)))


def test_rows_that_were_seen_are_known_again(tmp_path: Path) -> None:
    """By time and values, in any order of columns and with fewer digits; another place's are not."""
    path = write_table(tmp_path / "loads.csv", ROWS + 50)
    table, config = read_table(path, "time"), read_config(FORECASTER, "test")
    assert isinstance(config, ForecasterConfig)
    seen = dict(zip(table.columns, table.values[ROWS - 1].tolist(), strict=True))
    card = {"last_row": {"time": table.times[ROWS - 1], "values": seen}}
    turned = [
        ",".join([time[:16], *(f"{x:.4f}" for x in row[::-1])])
        for time, row in zip(table.times, table.values.tolist(), strict=True)
    ]
    rewritten = tmp_path / "rewritten.csv"
    rewritten.write_text("\n".join(["time,west,north,east", *turned]) + "\n")
    for file in (path, rewritten):
        found = to_measure(config, file, card)
        assert (found.first, len(found.table.times)) == (ROWS, ROWS + 50)
    fewer = config.model_copy(update={"data": config.data.model_copy(update={"test": 30})})
    short = to_measure(fewer, path, card)
    assert (short.first, len(short.table.times)) == (ROWS, ROWS + 30)
    card["last_row"]["values"] = {name: value + 1 for name, value in seen.items()}
    assert to_measure(config, path, card).first == 0


def test_baselines_are_what_they_are_called(version: Path, table: Path) -> None:
    """MSE of the value a season ago and of the last one, computed from the file alone."""
    values = read_table(table, "time").values
    train = values[: DATA["train"]]
    scaled = (values - train.mean(axis=0)) / train.std(axis=0)
    origins = range(DATA["train"], ROWS - HORIZON + 1)
    truth = np.stack([scaled[o : o + HORIZON] for o in origins])
    ago = np.stack([scaled[o - SEASON : o - SEASON + HORIZON] for o in origins])
    last = np.stack([scaled[[o - 1] * HORIZON] for o in origins])
    found = asyncio.run(evaluate_version(version, table))
    assert found["mse_season_ago"] == pytest.approx(np.square(ago - truth).mean(), abs=1e-4)
    assert found["mse_last_value"] == pytest.approx(np.square(last - truth).mean(), abs=1e-4)


def plain(history: int = 6, season: int = 2) -> Forecaster:
    """A network that drops nothing."""
    nothing = Place(0.0, (1,))
    return Forecaster(history, 3, 2, season, 4, Dropouts(nothing, nothing, nothing), samples=1)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**31 - 1))
def test_a_window_ends_at_its_last_real_step(real: int, padding: int, seed: int) -> None:
    """Whatever lies in the padding; its first season, or value, stands for what is missing, in phase."""
    series = np.random.default_rng(seed).normal(size=(1, real + padding, 2)).astype("float32")
    window = plain().aligned(tf.constant(series), tf.constant([real]))
    led = [
        series[0, step % 2 if step < 0 and step % 2 < real else max(step, 0)]
        for step in range(real - 6, real)
    ]
    np.testing.assert_array_equal(window[0], led)


def test_a_forecast_moves_and_an_interval_grows_with_its_window() -> None:
    """A column raised by 10 is forecast 10 higher; one ten times as lively has ten times the width."""
    model, random = plain(), np.random.default_rng(0)
    model.linear.assign(random.normal(size=model.linear.shape))
    model.head.kernel.assign(random.normal(size=model.head.kernel.shape))
    model.usual.assign([1e-6, 1e-6])
    window, lengths = random.normal(size=(1, 6, 2)).astype("float32"), np.array([6], "int32")
    answer, raised, grown = (model((given, lengths)).numpy() for given in (window, window + 10, window * 10))
    np.testing.assert_allclose(raised, answer + 10, atol=1e-4)
    np.testing.assert_allclose(grown, answer * 10, rtol=1e-3, atol=1e-3)


def test_usual_change_counts_pairs_of_real_steps() -> None:
    """With fewer steps than a season and one the usual change stands in; else it counts for 12 steps."""
    model = plain(history=6, season=2)
    model.usual.assign([4.0, 9.0])
    series = tf.constant(np.arange(12).reshape(1, 6, 2), tf.float32)  # changes by 4 in a season
    for length, pairs in ((1, 0), (2, 0), (3, 1), (6, 4)):
        window = model.aligned(series, tf.constant([length]))
        wanted = [((16 * pairs + 12 * usual) / (pairs + 12)) ** 0.5 for usual in (4.0, 9.0)]
        np.testing.assert_allclose(model.change(window, tf.constant([length]))[0, 0], wanted, rtol=1e-6)


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


@settings(max_examples=5)
@given(st.integers(0, 2**31 - 1))
def test_a_bound_errs_on_the_safe_side(seed: int) -> None:
    """Of blocks that differ, the bound is above the plain quantile; of many alike ones, hardly."""
    random = np.random.default_rng(seed)
    unlike = np.concatenate([random.normal(scale, 1, (50, 2)) for scale in random.normal(0, 1, 10)])
    assert conformal_bound(unlike, 0.9, 50) > np.quantile(unlike, 0.9)
    alike = random.normal(0, 1, (5000, 2))
    assert 0 < conformal_bound(alike, 0.9, 50) - np.quantile(alike, 0.9) < 0.1


def test_without_samples_there_is_one_head_and_no_seed(table: Path) -> None:
    """`samples = 0` leaves Monte Carlo dropout out."""
    config = read_config({**FORECASTER, "model": {"units": 4, "samples": 0}}, "test")
    manifest = recipe_for(config, table).draft(1, {}).manifest
    assert (list(manifest.heads), manifest.options) == (["load"], {})
    assert list(manifest.signatures[PREDICT_SIGNATURE].inputs) == ["hours", "lengths"]


@pytest.mark.parametrize(
    ("section", "given", "told"),
    [
        ("data", {"history": 6}, "no two seasons of 6"),
        ("data", {"feature": "seed"}, "feature: 'seed'"),
        ("model", {"samples": 5, "before": {"rate": 0, "noise": "step"}, "inside": 0}, None),
        ("model", {"before": {"rate": 0.1, "noise": "steps"}}, "model.before.noise"),
        ("serving", {"buckets": [6, 12]}, "the last one is the history, 18"),
    ],
)
def test_a_configuration_that_contradicts_itself(
    section: str, given: dict[str, Any], told: str | None
) -> None:
    """Is refused with its reason; the third drops after the LSTM, so its samples do differ."""
    table = {**FORECASTER, section: {**FORECASTER[section], **given}}
    if told is None:
        assert read_config(table, "test")
        table[section] |= {"after": {"rate": 0, "noise": "step"}}
        told = "all the same"
    with pytest.raises(ConfigInvalid, match=told):
        read_config(table, "test")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("when,a\n1,2\n", "'time' and distinct others"),
        ("time,a,a\n", "'time' and distinct others"),
        ("time,a\n2026-01-01 00:00:00\n", "line 2: 1 cells"),
        ("time,a\nsoon,1\n", "line 2: time"),
        ("time,a\n2026-01-01,x\n", "line 2: a: could not"),
        ("time,a\n2026-01-01,inf\n", "line 2: a is inf"),
        ("time,a\n2026-01-01,1\n2026-01-02,1\n2026-01-04,1\n", "row 3: 2 days"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, told: str, tmp_path: Path) -> None:
    """Header, cells, numbers and gaps are each named."""
    path = tmp_path / "table.csv"
    path.write_text("\ufeff" + text)
    with pytest.raises(ConfigInvalid, match=told):
        read_table(path, "time")


def test_the_shipped_configuration_is_whole(manifest: Manifest) -> None:
    """Every field of the shipped file is one that the version's card can be read back from."""
    shipped = read_config(tomllib.loads((CONFIGS / "etth1.toml").read_text()), "etth1.toml")
    assert read_config(json.loads(shipped.model_dump_json()), "card") == shipped
    assert read_config((manifest.card or {})["config"], "card") == read_config(FORECASTER, "tests")
