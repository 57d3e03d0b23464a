"""A small classifier, tagger and forecaster: their configurations, and made-up data to train them on."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.models.data.series import Series

PITCHES = {"low": 0.3, "middle": 0.8, "high": 1.6}  # radians a step
CLASSIFIER: dict[str, Any] = {
    "name": "waves",
    "task": "classifier",
    "data": {"feature": "signal", "columns": ["sine", "cosine"], "head": "pitch"},
    "model": {"filters": 8, "blocks": 1, "dropout": 0.1, "noise": 0.1, "calibration_folds": 0},
    "training": {"epochs": 14, "batch_size": 16, "learning_rate": 0.02},
    "serving": {"buckets": [4, 8, 24]},
}
TAGGER: dict[str, Any] = {
    "name": "steps",
    "task": "tagger",
    "data": {"kind": "log", "elapsed": "minutes", "head": "event", "unit": "minutes"},
    "model": {"filters": 8, "blocks": 1, "units": 6, "dropout": 0.1},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.02},
    "serving": {"buckets": [4, 8, 32]},
}
SEASON = 6
NOISE = 0.5
FORECASTER: dict[str, Any] = {
    "name": "loads",
    "task": "forecaster",
    "data": {
        "time": "time",
        "feature": "hours",
        "head": "load",
        "history": 18,
        "horizon": 4,
        "season": SEASON,
        "train": 900,
        "validation": 120,
    },
    "model": {"units": 6, "samples": 8},
    "training": {"epochs": 1, "batch_size": 64, "learning_rate": 3e-3},
    "serving": {"buckets": [6, 18]},
}


def waves(count: int, seed: int) -> list[Series]:
    """Noisy sine and cosine waves of 3 to 20 steps, each pitch in turn."""
    random = np.random.default_rng(seed)
    series = []
    for number in range(count):
        label = list(PITCHES)[number % len(PITCHES)]
        angles = random.uniform(0, 6) + PITCHES[label] * np.arange(random.integers(3, 21))
        values = np.stack([np.sin(angles), 5 + 3 * np.cos(angles)], axis=1)  # (time, 2)
        series.append(Series(values + random.normal(0, 0.1, values.shape), label))
    return series


def write_series(path: Path, series: Sequence[Series]) -> Path:
    """Write a `.ts` file, as sktime has them."""
    labels = " ".join(sorted({one.label for one in series}))
    head = [
        "# made for a test",
        "@problemName made",
        "@timeStamps false",
        f"@classLabel true {labels}",
        "@data",
    ]
    rows = [":".join([*(",".join(map(str, column)) for column in one.values.T), one.label]) for one in series]
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


def seasonal_values(rows: int, seed: int = 1) -> np.ndarray:
    """Draw (rows, 3): a season of `SEASON` hours, a level that wanders slowly, and independent noise.

    The first rows are the same however many are drawn.
    """
    drawn = np.random.default_rng(seed).normal(size=(rows, 6))
    steps = np.arange(rows)[:, None]
    season = np.sin(2 * np.pi * (steps / SEASON + np.array([0.0, 0.2, 0.5])))
    level = np.cumsum(0.02 * drawn[:, :3], axis=0)
    scale, offset = np.array([1.0, 5.0, 20.0]), np.array([0.0, -3.0, 100.0])
    return (2 * season + level + NOISE * drawn[:, 3:]) * scale + offset


def write_table(path: Path, rows: int, skipped: int = 0) -> Path:
    """Write a CSV table of `time,east,north,west`, hourly, without its first `skipped` rows."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    lines = ["time,east,north,west"]
    for hour, row in enumerate(seasonal_values(rows).tolist()):
        stamp = start + datetime.timedelta(hours=hour)
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S}," + ",".join(map(str, row)))
    path.write_text("\n".join([lines[0], *lines[1 + skipped :]]) + "\n")
    return path
