"""How a user's rows are turned round, and weights of every shape read as (batch, source)."""

import numpy as np
import pytest
import tensorflow as tf

from seqserve.models.bring.translation.steps import backwards, over_source


@pytest.mark.parametrize(
    ("row", "left", "wanted"),
    [
        ([5, 6, 7, 0, 0], False, [7, 6, 5, 0, 0]),
        ([0, 0, 5, 6, 7], True, [0, 0, 7, 6, 5]),
        ([5, 0, 7, 0], False, [7, 0, 5, 0]),  # padding's own piece within the text
        ([0, 5, 0, 7], True, [0, 7, 0, 5]),
        ([5, 6], False, [6, 5]),
        ([0, 0], True, [0, 0]),
    ],
)
def test_a_row_is_turned_round_and_its_padding_stays(row: list[int], left: bool, wanted: list[int]) -> None:
    """Turned round twice it is what it was: so weights over it are put back."""
    ids = tf.constant([row])
    turned = tf.gather(ids, backwards(ids, 0, left), batch_dims=1)
    assert turned.numpy().tolist() == [wanted]
    assert tf.gather(turned, backwards(ids, 0, left), batch_dims=1).numpy().tolist() == [row]


@pytest.mark.parametrize("shape", [(2, 5), (2, 1, 5), (2, 5, 1), (2, 1, 5, 1), (2, 3, 1, 5)])
def test_weights_are_read_in_every_shape(shape: tuple[int, ...]) -> None:
    """Heads are averaged; an axis of one step, or of one weight, is left out."""
    weights = np.random.default_rng(0).random(shape).astype(np.float32)
    wanted = weights.mean(axis=1)[:, 0] if shape == (2, 3, 1, 5) else weights.reshape(2, 5)
    np.testing.assert_allclose(over_source(tf.constant(weights)), wanted, rtol=1e-6)
