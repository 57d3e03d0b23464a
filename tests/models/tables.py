"""Generated tables for forecasters: three seasonal columns that can be predicted up to known noise."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

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
