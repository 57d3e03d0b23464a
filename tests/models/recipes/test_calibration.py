"""The temperature of a classifier, and the error of its probabilities."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.models.recipes.calibration import (
    calibrate,
    calibration_error,
    fitted_temperature,
    probabilities,
)


def drawn(rows: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw truths from the probabilities of logits, which are returned `sharpness` times too big."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (rows, 4))
    truth = (np.cumsum(probabilities(logits, 1.0), axis=1) < random.random((rows, 1))).sum(axis=1)
    return logits * sharpness, truth.clip(0, 3)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness: float) -> None:
    """It equals the factor by which the logits are off; only the error that chance causes is left."""
    logits, truth = drawn(4000, sharpness, 1)
    calibration = calibrate(logits, truth, np.arange(4000) % 5)
    assert calibration.temperature == pytest.approx(sharpness, rel=0.06)
    assert calibration.ece_before > 0.1
    assert calibration.ece_after < 0.03
    assert calibration.log_loss_after < calibration.log_loss_before


@given(st.integers(2, 60), st.floats(1, 30))
def test_rows_that_are_all_right_do_not_make_it_certain(rows: int, size: float) -> None:
    """Where nothing is wrong, n rows give a certainty of (n + 1) / (n + 2), not a temperature of 0."""
    logits = np.eye(3)[np.arange(rows) % 3] * size
    temperature = fitted_temperature(logits, np.arange(rows) % 3)
    sure = probabilities(logits, temperature).max(axis=1)
    np.testing.assert_allclose(sure, (rows + 1) / (rows + 2), atol=1e-3)


def test_the_calibration_error_is_the_gap_within_bins() -> None:
    """Ten rows at 0.9 of which six are right are off by 0.3; there is a bin for each fifteenth."""
    table = np.repeat([[0.9, 0.1]], 10, axis=0)
    truth = np.array([0] * 6 + [1] * 4)
    assert calibration_error(table, truth) == pytest.approx(0.3)
    mixed = np.concatenate([table, np.repeat([[0.6, 0.4]], 10, axis=0)])
    # the second bin is under-confident by 0.4: gaps of different bins do not cancel
    assert calibration_error(mixed, np.concatenate([truth, np.zeros(10, int)])) == pytest.approx(0.35)
