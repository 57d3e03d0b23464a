"""The figures of classifiers."""

import pytest

from seqserve.models.evaluate.classifier import Judged, class_figures
from seqserve.models.evaluate.figures import Figure


def test_macro_f1_is_over_the_true_labels() -> None:
    """F1 of a, b and c computed by hand; a refused row has no label and is wrong."""
    said = {"a": "aab", "b": "bb", "c": ["", "a"]}
    judged = [Judged(truth, answer, 0.5, 0.5) for truth, answers in said.items() for answer in answers]
    score = class_figures(judged)["macro_f1"]
    assert isinstance(score, Figure)
    assert score.value == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
