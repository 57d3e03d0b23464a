"""Batches: every row once an epoch, and numbers divided by their scale."""

import numpy as np

from seqserve.models.data.batches import epoch_batches, scale_of


def test_every_row_is_seen_once_an_epoch_in_another_order() -> None:
    """Batches are a function of seed and epoch, and hold every row exactly once."""
    lengths = np.random.default_rng(0).integers(1, 30, 257).tolist()

    def rows(seed: int, epoch: int) -> list[int]:
        return np.concatenate(list(epoch_batches(lengths, 16, seed, epoch))).tolist()

    assert sorted(rows(1, 0)) == list(range(257))
    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(1, 1)
    assert rows(1, 0) != rows(2, 0)


def test_a_constant_column_is_divided_by_1() -> None:
    """Its deviation may be 1e-17 and not 0: divided by that, the next different value would be enormous."""
    columns = np.stack([np.full(1000, 0.1), np.arange(1000.0), np.full(1000, 1e6)], axis=1)
    assert columns[:, 0].std() > 0
    np.testing.assert_allclose(scale_of(columns), [1, np.arange(1000).std(), 1])
