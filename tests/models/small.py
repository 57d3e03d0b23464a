"""Made data and small configurations of a classifier and a tagger, for every test that needs one of them."""

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


def waves(count: int, seed: int) -> list[Series]:
    """Noisy sine and cosine waves of 3 to 20 steps, by turns of each pitch."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = list(PITCHES)[number % len(PITCHES)]
        angles = random.uniform(0, 6) + PITCHES[label] * np.arange(random.integers(3, 21))
        values = np.stack([np.sin(angles), 5 + 3 * np.cos(angles)], axis=1)  # (time, 2)
        found.append(Series(values + random.normal(0, 0.1, values.shape), label))
    return found


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
