"""Cross-validation of a classifier: every sequence is answered by a network that never saw it."""

import time
from collections.abc import Sequence

from rich.console import Console

from seqserve.models.config import ClassifierConfig
from seqserve.models.data.series import Series
from seqserve.models.evaluate.classifier import Judged, class_figures
from seqserve.models.evaluate.figures import Figures
from seqserve.models.recipes.calibration import calibrate, probabilities
from seqserve.models.recipes.classifier import CrossFitted, cross_fitted


def crossvalidate_series(config: ClassifierConfig, series: Sequence[Series], folds: int) -> Figures:
    """Train on all folds but one, answer that one, for each; figures over all sequences together.

    Every class is spread evenly over the folds. The figures are of the networks without a temperature;
    `ece_calibrated` and `log_loss_calibrated` are with one, fitted for each fold on the other folds' answers.

    Raises:
        ConfigInvalid: the sequences are too few for so many folds.
    """
    started = time.perf_counter()
    answers = cross_fitted(config, series, folds, Console(quiet=True))
    seconds = time.perf_counter() - started
    calibrated = calibrate(answers.logits, answers.truth, answers.parts)
    return {
        "sequences": len(series),
        "folds": folds,
        **class_figures(_judged(answers)),
        "log_loss_calibrated": calibrated.log_loss_after,
        "ece_calibrated": calibrated.ece_after,
        "temperature": calibrated.temperature,
        "seconds_a_fold": round(seconds / folds, 1),
    }


def _judged(answers: CrossFitted) -> list[Judged]:
    table = probabilities(answers.logits, 1.0)
    best = table.argmax(axis=1)
    return [
        Judged(answers.labels[truth], answers.labels[said], float(row[said]), float(row[truth]))
        for truth, said, row in zip(answers.truth, best, table, strict=True)
    ]
