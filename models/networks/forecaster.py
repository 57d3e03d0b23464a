"""The forecaster: a linear map of each column's own past, and an LSTM over all columns for what is left.

The linear map is fitted by least squares, the rest is trained, and the intervals are set after training.
"""

from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from seqserve.models.networks.dropout import Dropouts, MaskedStateLSTMCell, Masks, row_uniforms

LEVELS = (0.05, 0.5, 0.95)
"""The quantile levels of every head: the value and its 90 % interval."""
PRIOR_STEPS = 12.0
"""The weight of the usual change, in steps of the window."""


class View(NamedTuple):
    """A window as the network sees it, and the forecast of it without the LSTM."""

    steps: tf.Tensor  # (batch, history, columns), in changes from the last value
    expected: tf.Tensor  # (batch, horizon, columns)
    change: tf.Tensor  # (batch, 1, columns)


class Forecaster(keras.Model):
    """Standardized series in, quantiles of the following steps out.

    forecast = last value + linear map of (window - last value), per column + change * the LSTM's answer

    The linear map is LSTNet's autoregressive component (Lai et al., 2018, https://arxiv.org/abs/1703.07015)
    with weights of its own for each column. `change`, how much a column moved from season to season within
    the window, is the unit of the LSTM's inputs and answers, as the deviation is in RevIN (Kim et al., 2022,
    https://openreview.net/forum?id=cGDAkQo1C0p): a forecast moves and scales with its window, and an
    interval is as wide as the past was irregular.

    Args:
        history: steps of a window; a shorter one is filled in front with its first season.
        horizon: steps ahead.
        columns: how many series there are.
        season: after so many steps the past repeats.
        units: width of the LSTM's state.
        dropouts: what is dropped, and where.
        samples: how many, of Monte Carlo dropout.
    """

    def __init__(
        self,
        history: int,
        horizon: int,
        columns: int,
        season: int,
        units: int,
        dropouts: Dropouts,
        samples: int,
    ) -> None:
        super().__init__()
        # keras.Model has a `history` of its own
        self.past, self.horizon, self.columns, self.season = history, horizon, columns, season
        self.dropouts, self.samples = dropouts, samples
        self.fresh = keras.random.SeedGenerator()
        self.cell = MaskedStateLSTMCell(units)
        self.recurrent = layers.RNN(self.cell, return_sequences=True)
        self.head = layers.Dense(horizon * columns * len(LEVELS), kernel_initializer="zeros", name="head")
        self.recurrent.build((None, history, columns))
        self.head.build((None, units))
        self.recency = self.add_weight((history,), initializer="zeros", name="recency")
        self.linear = self._fitted((history, horizon, columns), "zeros", "linear")
        self.usual = self._fitted((columns,), "ones", "usual")
        self.widening = self._fitted((), "zeros", "widening")
        self.noise = self._fitted((horizon, columns), "ones", "noise")
        self.spread = self._fitted((), "ones", "spread")
        self.built = True

    def _fitted(self, shape: tuple[int, ...], initializer: str, name: str) -> keras.Variable:
        """Make a weight that is measured, not trained."""
        return self.add_weight(shape, initializer=initializer, trainable=False, name=name)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Return quantiles (batch, horizon, columns, levels), before the interval is set.

        Args:
            inputs: float32 (batch, time, columns), padded on the right; int32 (batch), how many are real.
        """
        view = self.view(*inputs)
        if not training:
            return self.quantiles(view, self.answer(view.steps))
        size = (tf.shape(view.steps)[0], self.dropouts.size)
        uniform = keras.random.uniform(size, seed=self.fresh)  # (batch, size)
        return self.quantiles(view, self.answer(view.steps, self.dropouts.masks(uniform)))

    def view(self, series: tf.Tensor, lengths: tf.Tensor) -> View:
        """Return the window that ends at the last real step, and what the columns' own past predicts."""
        window = self.aligned(series, lengths)  # (batch, history, columns)
        moved = window - window[:, -1:]
        change = self.change(window, lengths)
        expected = window[:, -1:] + tf.einsum("btc,thc->bhc", moved, self.linear)
        return View(moved / change, expected, change)

    def aligned(self, series: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return the last `history` real steps, (batch, history, columns).

        Missing steps are filled with the first known season, repeated; where less than a season is known,
        with the first value.
        """
        real = lengths[:, None]  # (batch, 1)
        steps = real - self.past + tf.range(self.past)  # (batch, history), negative: missing
        led = tf.math.floormod(steps, self.season)
        return tf.gather(series, tf.where(steps >= 0, steps, tf.where(led < real, led, 0)), batch_dims=1)

    def change(self, window: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return each column's root mean square change from season to season, (batch, 1, columns).

        It is over pairs of real steps, and pulled towards the training rows' `usual`, so it is never 0.
        """
        squares = tf.square(window[:, self.season :] - window[:, : -self.season])  # (batch, pairs, columns)
        pairs = self.past - self.season
        known = tf.clip_by_value(lengths - self.season, 0, pairs)[:, None]  # (batch, 1)
        real = tf.cast(tf.range(pairs) >= pairs - known, tf.float32)  # (batch, pairs)
        total = tf.einsum("bpc,bp->bc", squares, real) + PRIOR_STEPS * self.usual
        return tf.sqrt(total / (tf.cast(known, tf.float32) + PRIOR_STEPS))[:, None]

    def answer(self, steps: tf.Tensor, masks: Masks | None = None) -> tf.Tensor:
        """Return the LSTM's answer (batch, horizon, columns, levels); nothing is dropped without masks.

        Its states are averaged over time with learned weights, so a dropped step is missing from the answer.
        """
        inside = tf.ones((tf.shape(steps)[0], self.cell.units))  # (batch, units)
        if masks is not None:
            steps, inside = steps * masks.before, inside * masks.inside
        states = self.recurrent(steps, initial_state=self.cell.start(inside))  # (batch, history, units)
        if masks is not None:
            states *= masks.after
        summary = tf.einsum("btu,t->bu", states, tf.nn.softmax(self.recency))  # (batch, units)
        return tf.reshape(self.head(summary), (-1, self.horizon, self.columns, len(LEVELS)))

    def quantiles(self, view: View, answer: tf.Tensor) -> tf.Tensor:
        """Return low, middle and high of each value, (batch, horizon, columns, levels), in this order."""
        middle = view.expected + view.change * answer[..., 1]  # (batch, horizon, columns)
        below, above = tf.unstack(view.change[..., None] * tf.math.softplus(answer[..., ::2]), axis=-1)
        return tf.stack([middle - below, middle, middle + above], axis=-1)

    def forecast(self, series: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Return quantiles (batch, horizon, columns, levels) with the interval set: the quantile head."""
        view = self.view(series, lengths)
        low, middle, high = tf.unstack(self.quantiles(view, self.answer(view.steps)), axis=-1)
        wider = view.change * self.widening  # (batch, 1, columns)
        return tf.stack([low - wider, middle, high + wider], axis=-1)

    def sampled(self, series: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Return mean ± spread * deviation as quantiles, (batch, horizon, columns, levels)."""
        middle, deviation = self.moments(series, lengths, seeds)
        return tf.stack([middle + side * self.spread * deviation for side in (-1.0, 0.0, 1.0)], axis=-1)

    def moments(self, series: tf.Tensor, lengths: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the mean and the deviation of a value, both (batch, horizon, columns).

        The variance is that of networks with units dropped plus the noise of observations: Gal and
        Ghahramani, 2016, https://arxiv.org/abs/1506.02142, equation 8, whose 1/τ is `(change * noise)²`.

        Args:
            seeds: int32 (batch); a row's draws are a function of its own seed.
        """
        view, size = self.view(series, lengths), self.dropouts.size
        uniform = tf.reshape(row_uniforms(seeds, self.samples, size), (-1, size))  # (batch * samples, size)
        steps = tf.repeat(view.steps, self.samples, axis=0)  # (batch * samples, history, columns)
        answers = self.answer(steps, self.dropouts.masks(uniform))[..., 1]
        drawn = tf.reshape(answers, (-1, self.samples, self.horizon, self.columns))
        mean, variance = tf.nn.moments(drawn, axes=[1])  # (batch, horizon, columns), in changes
        deviation = tf.sqrt(variance + tf.square(self.noise))
        return view.expected + view.change * mean, view.change * deviation


class PinballLoss(keras.losses.Loss):
    """The mean over horizon and columns of the sum over levels of each quantile's loss, (batch).

    It is least where the share below is the level: Koenker and Bassett, 1978,
    https://doi.org/10.2307/1913643.
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        levels = tf.constant(LEVELS)
        missed = y_true[..., None] - y_pred  # (batch, horizon, columns, levels)
        return tf.reduce_mean(
            tf.reduce_sum(tf.maximum(levels * missed, (levels - 1) * missed), axis=-1), axis=(1, 2)
        )


def middle_mse(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Return the squared error of the value, (batch)."""
    return tf.reduce_mean(tf.square(y_true - y_pred[..., LEVELS.index(0.5)]), axis=(1, 2))
