"""The largest of many values are what TensorFlow's own search finds, equal ones by their places."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, strategies as st

from seqserve.models.networks.largest import FEW, largest


@pytest.mark.parametrize("columns", [7, FEW, FEW + 5, 3 * FEW])
@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(2, 400))
def test_groups_hide_nothing(columns: int, seed: int, count: int, distinct: int) -> None:
    """Few distinct values have many equal ones; some columns are never chosen."""
    random = np.random.default_rng(seed)
    values = random.integers(distinct, size=(3, columns)).astype(np.float32)
    values[:, random.random(columns) < 0.1] = -np.inf
    wanted, got = tf.math.top_k(values, count), largest(tf.constant(values), tf.constant(count))
    np.testing.assert_array_equal(got[0], wanted.values)
    np.testing.assert_array_equal(got[1], wanted.indices)
