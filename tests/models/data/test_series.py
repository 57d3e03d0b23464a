"""Labelled sequences: `.ts` files read as they were written, and split by class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.models.config import ConfigInvalid
from seqserve.models.data.series import read_series, stratified
from tests.models.small import waves, write_series


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Values and labels of sequences of different lengths survive writing and reading."""
    series = waves(7, seed=5)
    read = read_series(write_series(tmp_path / "a.ts", series))
    assert [one.label for one in read] == [one.label for one in series]
    for one, other in zip(read, series, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


HEAD = "@timeStamps false\n@classLabel true a b\n@data\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "1,2:3,4:a\n1,2:3:a\n", "line 5 dimension 2: 1 values, the first dimension has 2"),
        (HEAD + "1,2:3,x:a\n", "line 4 dimension 2: value 2 is not a number: 'x'"),
        (HEAD + "1,NaN:3,4:a\n", "line 4 dimension 1: value 2 is missing"),
        (HEAD + "1,?:a\n", r"line 4 dimension 1: value 2 is not a number: '\?'"),
        (HEAD + "1,2:3,4:a\n1,2:b\n", "line 5: 1 dimensions, the lines before have 2"),
        (HEAD + "1,2:3,4:c\n", "line 4: label 'c' is none of"),
        (HEAD + "1,2\n", "line 4: dimension:…:label is expected"),
        (HEAD, "it holds no sequence"),
        ("@classLabel false\n@data\n1,2\n", "line 1: the sequences have no class"),
        ("@timeStamps true\n", "line 1: values with time stamps are not supported"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(text: str, message: str, tmp_path: Path) -> None:
    """The message names file, line and dimension, and what is wrong."""
    (tmp_path / "bad.ts").write_text(text)
    with pytest.raises(ConfigInvalid, match=rf"bad\.ts.*{message}"):
        read_series(tmp_path / "bad.ts")


@given(st.lists(st.integers(0, 4).map(str), min_size=1, max_size=80), st.integers(2, 10))
def test_parts_are_alike_in_size_and_in_classes(labels: list[str], parts: int) -> None:
    """Parts have equally many rows, and equally many of each class, give or take one."""
    of_row = stratified(labels, parts, seed=0)
    sizes = np.bincount(of_row, minlength=parts)
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        shares = Counter(of_row[np.array(labels) == label].tolist())
        counts = [shares[part] for part in range(parts)]
        assert max(counts) - min(counts) <= 1
