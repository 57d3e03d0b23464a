"""What a forecaster sees of a window, and how its forecast and interval follow it."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from seqserve.models.networks.dropout import Dropouts, Place
from seqserve.models.networks.forecaster import Forecaster


def plain(history: int = 6, season: int = 2) -> Forecaster:
    """A network that drops nothing."""
    nothing = Place(0.0, (1,))
    return Forecaster(history, 3, 2, season, 4, Dropouts(nothing, nothing, nothing), samples=1)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 2**31 - 1))
def test_a_window_ends_at_its_last_real_step(real: int, padding: int, seed: int) -> None:
    """Whatever lies in the padding; its first season, or value, stands for what is missing, in phase."""
    series = np.random.default_rng(seed).normal(size=(1, real + padding, 2)).astype("float32")
    window = plain().aligned(tf.constant(series), tf.constant([real]))
    led = [
        series[0, step % 2 if step < 0 and step % 2 < real else max(step, 0)]
        for step in range(real - 6, real)
    ]
    np.testing.assert_array_equal(window[0], led)


def test_a_forecast_moves_and_an_interval_grows_with_its_window() -> None:
    """A column raised by 10 is forecast 10 higher; one ten times as lively has ten times the width."""
    model, random = plain(), np.random.default_rng(0)
    model.linear.assign(random.normal(size=model.linear.shape))
    model.head.kernel.assign(random.normal(size=model.head.kernel.shape))
    model.usual.assign([1e-6, 1e-6])
    window, lengths = random.normal(size=(1, 6, 2)).astype("float32"), np.array([6], "int32")
    answer, raised, grown = (model((given, lengths)).numpy() for given in (window, window + 10, window * 10))
    np.testing.assert_allclose(raised, answer + 10, atol=1e-4)
    np.testing.assert_allclose(grown, answer * 10, rtol=1e-3, atol=1e-3)


def test_usual_change_counts_pairs_of_real_steps() -> None:
    """With fewer steps than a season and one the usual change stands in; else it counts for 12 steps."""
    model = plain(history=6, season=2)
    model.usual.assign([4.0, 9.0])
    series = tf.constant(np.arange(12).reshape(1, 6, 2), tf.float32)  # changes by 4 in a season
    for length, pairs in ((1, 0), (2, 0), (3, 1), (6, 4)):
        window = model.aligned(series, tf.constant([length]))
        wanted = [((16 * pairs + 12 * usual) / (pairs + 12)) ** 0.5 for usual in (4.0, 9.0)]
        np.testing.assert_allclose(model.change(window, tf.constant([length]))[0, 0], wanted, rtol=1e-6)
