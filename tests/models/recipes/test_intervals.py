"""Conformal bounds: how far outside an interval the truth may lie."""

import numpy as np
from hypothesis import given, settings, strategies as st

from seqserve.models.recipes.intervals import conformal_bound


@settings(max_examples=5)
@given(st.integers(0, 2**31 - 1))
def test_a_bound_errs_on_the_safe_side(seed: int) -> None:
    """For blocks that differ, the bound is above the plain quantile; for many similar ones, hardly."""
    random = np.random.default_rng(seed)
    unlike = np.concatenate([random.normal(scale, 1, (50, 2)) for scale in random.normal(0, 1, 10)])
    assert conformal_bound(unlike, 0.9, 50) > np.quantile(unlike, 0.9)
    alike = random.normal(0, 1, (5000, 2))
    assert 0 < conformal_bound(alike, 0.9, 50) - np.quantile(alike, 0.9) < 0.1
