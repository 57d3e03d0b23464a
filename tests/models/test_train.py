"""Training: resumable, reproducible, and blind to padding."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from typer.testing import CliRunner

from seqserve.models.cli import app, training
from seqserve.models.config import CONFIGS, ConfigInvalid, load_config, read_config
from seqserve.models.data.cases import read_log
from seqserve.models.data.texts import read_pairs
from seqserve.models.recipes import recipe_for
from seqserve.models.train import fit, make_reproducible

CONFIG = """
name = "shop"
task = "events"
[data]
kind = "log"
event = "event"
unit = "minutes"
[model]
embedding = 8
units = 8
dropout = 0.3
[training]
epochs = 4
batch_size = 16
seed = 7
ema = 0.9
[serving]
buckets = [4, 8, 32]
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file."""
    path = tmp_path_factory.mktemp("config") / "shop.toml"
    path.write_text(CONFIG)
    return path


def start(config: Path, data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start the real command."""
    arguments = ["train", str(config), "--data", str(data), "--out", str(out), *options]
    command = [sys.executable, "-m", "models", *arguments]
    env = {**os.environ, "NO_COLOR": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def weights(version: Path) -> dict[str, np.ndarray]:
    """Read an exported version's variables."""
    reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(config: Path, log_data: Path, tmp_path: Path) -> None:
    """Killed by SIGKILL in its third epoch and resumed, a run ends with an uninterrupted run's weights.

    The weights are averages: both they and those that training goes on with are kept.
    """
    whole = start(config, log_data, tmp_path / "whole")
    killed = start(config, log_data, tmp_path / "killed")
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("epoch 2/4"):
            killed.kill()
            break
    killed.communicate()
    assert not list((tmp_path / "killed").glob("shop/[0-9]*"))
    resumed = start(config, log_data, tmp_path / "killed", "--resume")
    said, _ = resumed.communicate(timeout=120)
    whole.communicate(timeout=120)
    assert (whole.returncode, resumed.returncode) == (0, 0)
    assert "resumed after epoch 2" in said or "resumed after epoch 3" in said
    one, other = weights(tmp_path / "whole/shop/1"), weights(tmp_path / "killed/shop/1")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_averages_are_exported_and_training_goes_on_without_them(log_data: Path, tmp_path: Path) -> None:
    """Every epoch's loss is that of a run without averages; averages are what is validated and left."""
    metrics, left = {}, {}
    for ema in (0.0, 0.9):
        training = {"epochs": 2, "batch_size": 16, "ema": ema}
        config = read_config({**tomllib.loads(CONFIG), "training": training}, "test")
        make_reproducible(1)
        task = recipe_for(config, log_data).task
        metrics[ema] = fit(task, config, tmp_path / str(ema), Console(quiet=True), resume=False)
        left[ema] = [np.asarray(variable) for variable in task.network.trainable_variables]
    kept = [np.asarray(v) for v in task.network.optimizer.variables if v.path.endswith("average")]
    assert metrics[0.0]["loss"] == metrics[0.9]["loss"]
    assert metrics[0.0]["val_loss"] != metrics[0.9]["val_loss"]
    assert all(np.array_equal(*pair) for pair in zip(left[0.9], kept, strict=True))
    assert not any(np.array_equal(*pair) for pair in zip(left[0.0], left[0.9], strict=True))


@pytest.mark.slow
def test_checkpoints_of_another_configuration_are_refused(
    config: Path, log_data: Path, tmp_path: Path
) -> None:
    """Resuming with a changed configuration says so instead of mixing two runs."""
    work = tmp_path / ".training" / "shop"
    work.mkdir(parents=True)
    other = read_config({**tomllib.loads(CONFIG), "training": {"epochs": 9, "batch_size": 1}}, "test")
    (work / "run.json").write_text(other.model_dump_json())
    run = start(config, log_data, tmp_path, "--resume")
    said, _ = run.communicate(timeout=60)
    assert (run.returncode, "another run" in said) == (1, True)


@pytest.mark.parametrize("kind", ["translation", "events"])
def test_padding_adds_nothing_to_the_loss(kind: str, config: Path, text_data: Path, log_data: Path) -> None:
    """A short row's loss and metrics are the same alone and padded beside a long one."""
    tables: dict[str, dict[str, Any]] = {
        "translation": {
            "name": "t",
            "task": "translation",
            "data": {"kind": "parallel"},
            "model": {"vocabulary_size": 120, "embedding": 8, "units": 8, "dropout": 0.0},
            "training": {"epochs": 1, "batch_size": 2, "label_smoothing": 0.1},
        },
        "events": tomllib.loads(CONFIG),
    }
    recipe = recipe_for(read_config(tables[kind], "test"), text_data if kind == "translation" else log_data)
    task = recipe.task
    drawn = task.draw(np.random.default_rng(0))
    order = np.argsort(drawn.lengths)
    short, long = order[:1], order[-1:]
    x, y, weights = drawn.batch(np.concatenate([short, long]))
    answers = task.network(x)
    whole = float(task.network.compute_loss(x, y, answers, weights))
    spoiled = float(task.network.compute_loss(x, _spoil(y, weights), answers, weights))
    assert whole == pytest.approx(spoiled, rel=1e-6)
    alone = [_accuracy(task.network, drawn.batch(rows)) for rows in (short, long)]
    hits = sum(share * steps for share, steps in alone)
    share, steps = _accuracy(task.network, (x, y, weights))
    assert share * steps == pytest.approx(hits, abs=1e-4)
    assert steps == sum(steps for _, steps in alone)
    if kind == "translation":  # the events' heads are over different numbers of steps
        losses = [
            _loss(task.network, drawn.batch(rows)) * n
            for rows, (_, n) in zip((short, long), alone, strict=True)
        ]
        assert whole * steps == pytest.approx(sum(losses), rel=1e-5)


def _loss(network: Any, batch: Any) -> float:
    x, y, weights = batch
    return float(network.compute_loss(x, y, network(x), weights))


def _accuracy(network: Any, batch: Any) -> tuple[float, float]:
    """Return the masked accuracy of a batch, and how many steps it is over."""
    x, y, weights = batch
    metrics = network.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    share = next(value for name, value in metrics.items() if name.endswith("accuracy"))
    return share, float((weights["next_event"] if isinstance(weights, dict) else weights).sum())


def _spoil(targets: Any, weights: Any) -> Any:
    """Put another legal target wherever the weight is 0."""
    if isinstance(targets, dict):
        return {name: _spoil(targets[name], weights[name]) for name in targets}
    return np.where(weights == 0, targets.dtype.type(1), targets)


def test_data_and_configuration_errors_say_where(tmp_path: Path) -> None:
    """A missing file, a missing column, unequal line counts and an unknown key are each named."""
    (tmp_path / "train.en").write_text("a\nb\n")
    (tmp_path / "train.de").write_text("a\n")
    (tmp_path / "log.csv").write_text("Case,What\n1,2\n")
    head = "\ufeffCaseID,ActivityID,CompleteTimestamp\n"
    (tmp_path / "short.csv").write_text(head + "1,a,2026-01-01 00:00:00\n1\n")
    (tmp_path / "empty.csv").write_text(head)
    (tmp_path / "stamp.csv").write_text(head + "1,a,soon\n")
    (tmp_path / "backwards.csv").write_text(head + "1,a,2026-01-02 00:00:00\n1,b,2026-01-01 00:00:00\n")
    (tmp_path / "bad.toml").write_text(CONFIG.replace("dropout", "droput"))
    faults = [
        (lambda: read_pairs(tmp_path, "train", "en", "de"), "2 en and 1 de lines"),
        (lambda: read_pairs(tmp_path, "val", "en", "de"), "val.en"),
        (lambda: read_log(tmp_path / "log.csv"), "line 1: column 'CaseID' is missing; .*'Case'"),
        (lambda: read_log(tmp_path / "short.csv"), "line 3: ActivityID"),
        (lambda: read_log(tmp_path / "stamp.csv"), "line 2: CompleteTimestamp"),
        (lambda: read_log(tmp_path / "backwards.csv"), "case 1: event 2 is earlier"),
        (lambda: read_log(tmp_path / "empty.csv"), "it holds no case"),
        (lambda: load_config(tmp_path / "bad.toml"), "model.droput"),
        (lambda: load_config(tmp_path / "none.toml"), "none.toml"),
        (lambda: changed("training.epochs", 0), "training.epochs"),
        (lambda: changed("serving.buckets", [8, 4]), "serving: .*buckets: ascending"),
        (lambda: changed("data.event", "elapsed"), "both 'elapsed'"),
        (lambda: changed("data.event", "case-event"), "data.event"),
        (lambda: changed("name", "../x"), "name"),
    ]
    for action, message in faults:
        with pytest.raises(ConfigInvalid, match=message):
            action()


def changed(path: str, value: Any) -> None:
    """Read the configuration with one field changed."""
    table = tomllib.loads(CONFIG)
    *section, field = path.split(".")
    (table[section[0]] if section else table)[field] = value
    read_config(table, "changed")


@pytest.mark.slow
def test_the_demo_fails_with_the_model_that_is_trained_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that one's process says is shown, and its status is the command's."""
    for name in ("demo_translation", "unheard_of"):
        shutil.copy(CONFIGS / "demo_events.toml", tmp_path / f"{name}.toml")
    monkeypatch.setattr(training, "CONFIGS", tmp_path)
    monkeypatch.setattr(training, "DEMO", ("demo_translation", "unheard_of"))
    monkeypatch.setattr(training, "train_model", lambda *_, **__: tmp_path)
    run = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert run.exit_code == 1
    assert "unheard_of is no TOML file" in run.output
