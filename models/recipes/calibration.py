"""How far a classifier's probabilities can be trusted: their expected error, and a temperature against it.

Source: Guo, Pleiss, Sun and Weinberger, 2017, https://arxiv.org/abs/1706.04599.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np

from seqserve.service.contract.heads import softmax_probabilities
from seqserve.service.contract.manifest import Softmax
from seqserve.service.contract.padding import Array

BINS = 15
"""How many bins, of equal width, as in the paper."""
SHARPEST, FLATTEST = 0.05, 20.0
SEARCH_STEPS = 40


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature and what it does, on rows that the network was not trained on."""

    temperature: float
    rows: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3f} on {self.rows} rows that were not trained on: expected "
            f"calibration error {self.ece_before:.3f} before, {self.ece_after:.3f} after"
        )

    def as_card(self) -> dict[str, Any]:
        """Return what the model card records."""
        names = ("temperature", "ece_before", "ece_after", "log_loss_before", "log_loss_after")
        return {"rows": self.rows, "bins": BINS, **{name: round(getattr(self, name), 4) for name in names}}


def calibrate(logits: Array, truth: Array, parts: Array) -> Calibration:
    """Fit a temperature, and measure it.

    Args:
        logits: (rows, labels), of rows that the network was not trained on.
        truth: the right label's place, int (rows).
        parts: of each row, int (rows): "after" is by temperatures fitted without the row's own part, so that
            no row judges a temperature that it helped to choose. The temperature returned is fitted on all.
    """
    after = np.zeros(logits.shape)
    for part in np.unique(parts):
        inside = parts == part
        others = ~inside if (~inside).any() else inside  # a single part: nothing else to fit it on
        after[inside] = probabilities(logits[inside], fitted_temperature(logits[others], truth[others]))
    before = probabilities(logits, 1.0)
    return Calibration(
        temperature=fitted_temperature(logits, truth),
        rows=len(logits),
        ece_before=calibration_error(before, truth),
        ece_after=calibration_error(after, truth),
        log_loss_before=_log_loss(before, truth),
        log_loss_after=_log_loss(after, truth),
    )


def fitted_temperature(logits: Array, truth: Array) -> float:
    """Return the temperature of least log loss, between `SHARPEST` and `FLATTEST`.

    Where every row is right the plain loss falls for ever as the temperature does. So the truth of n rows
    counts as (n + 1) / (n + 2), the rule of succession, and the rest is spread over the other labels: n rows
    cannot show more certainty. This is from Platt, 1999, "Probabilistic outputs for support vector machines",
    section 2.2; with hundreds of rows it changes nothing. The loss is convex in 1/temperature, so halving
    the interval finds its one minimum.
    """
    rows, labels = logits.shape
    wanted = np.full(logits.shape, 1 / (rows + 2) / max(1, labels - 1))
    wanted[np.arange(rows), truth] = (rows + 1) / (rows + 2)

    def loss(log_temperature: float) -> float:
        return float(-(wanted * _logs(probabilities(logits, exp(log_temperature)))).sum())

    low, high = log(SHARPEST), log(FLATTEST)
    for _ in range(SEARCH_STEPS):
        third = (high - low) / 3
        if loss(low + third) < loss(high - third):
            high -= third
        else:
            low += third
    return exp((low + high) / 2)


def probabilities(logits: Array, temperature: float | None) -> Array:
    """Return the probabilities that serving makes of logits (rows, labels)."""
    labels = tuple(map(str, range(logits.shape[1])))
    return softmax_probabilities(Softmax(labels=labels, scores="logits", temperature=temperature), logits)


def calibration_error(table: Array, truth: Array) -> float:
    """Return the expected calibration error of probabilities (rows, labels)."""
    return float(expected_error(reliability(table.max(axis=1), table.argmax(axis=1) == truth).sum(axis=0)))


def reliability(confidence: Sequence[float] | Array, right: Sequence[bool] | Array) -> Array:
    """Return, (rows, BINS + 1), each row's confidence less its correctness in its bin's column, and a 1."""
    sure = np.asarray(confidence, np.float64)
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    totals = np.zeros((len(sure), BINS + 1))
    totals[np.arange(len(sure)), bins] = sure - np.asarray(right)
    totals[:, BINS] = 1
    return totals


def expected_error(sums: Array) -> Array:
    """Return the expected calibration error, (…), of sums of `reliability`, (…, BINS + 1)."""
    error: Array = np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS]
    return error


def _log_loss(table: Array, truth: Array) -> float:
    return float(-_logs(table)[np.arange(len(truth)), truth].mean())


def _logs(table: Array) -> Array:
    logs: Array = np.log(np.maximum(table, 1e-300))
    return logs
