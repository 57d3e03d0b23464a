"""The pictures show what they are given, and are real PNGs."""

from pathlib import Path

import numpy as np
from PIL import Image

from seqserve.models.evaluate import plots
from seqserve.service.contract.items import Translation


def test_attention_is_drawn_word_by_word(tmp_path: Path) -> None:
    """Rows are target words, columns source words; the file can be read back."""
    table = ((0.9, 0.1, 0.0), (0.2, 0.3, 0.5))
    figure = plots.attention(
        Translation("zwei hunde", -0.1, (), None, ("two", "dogs", "run"), ("zwei", "hunde"), table)
    )
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), table)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["two", "dogs", "run"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["zwei", "hunde"]
    (path,) = plots.save({"attention": figure}, tmp_path / "new")
    with Image.open(path) as image:
        assert image.format == "PNG"
        darkest, lightest = image.convert("L").getextrema()
    assert darkest < 60 < 200 < lightest


def test_confusion_has_the_truth_in_rows() -> None:
    """Shares are of the true label's row, and each count that is not zero is written."""
    (axes,) = plots.confusion("aaaaz", "aaaba", ("a", "b")).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in axes.texts] == ["3", "1"]


def test_reliability_is_accuracy_by_confidence() -> None:
    """Bars stand at each bin's accuracy; a confidence of 1 belongs to the last."""
    confidence, right = np.array([0.1, 0.1, 0.99, 1.0]), np.array([True, False, True, True])
    (axes,) = plots.reliability(confidence, right).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0, 0.5, *[0] * (plots.BINS - 3), 1]


def test_a_forecast_is_drawn_with_its_interval() -> None:
    """One row of axes a column: history before step 0, truth and forecast from there on, the interval."""
    middle = np.array([[1.0, 2.0], [3.0, 4.0]])
    figure = plots.forecast(np.zeros((3, 2)), np.ones((2, 2)), (middle - 1, middle, middle + 2), ("x", "y"))
    first, second = figure.axes
    assert second.get_ylabel() == "y"
    np.testing.assert_array_equal(second.lines[0].get_xdata(), [-3, -2, -1])
    np.testing.assert_array_equal(second.lines[2].get_ydata(), [2, 4])
    assert tuple(first.collections[0].get_datalim(first.transData).intervaly) == (0, 5)
