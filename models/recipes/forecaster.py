"""Forecasters: a table's windows, a `Forecaster` fitted and trained on them, its intervals, its signature."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from seqserve.models.config import LENGTHS, ConfigInvalid, ForecasterConfig, ForecasterData
from seqserve.models.data.batches import scale_of
from seqserve.models.data.tables import Table, read_table
from seqserve.models.draft import Draft
from seqserve.models.manifest import Identity, build_manifest, predict_signatures, row_tensor
from seqserve.models.networks.dropout import Dropouts, Place, noise_shape
from seqserve.models.networks.forecaster import LEVELS, Forecaster, PinballLoss, middle_mse
from seqserve.models.recipes.intervals import conformal_bound
from seqserve.models.recipes.profile import column_ranges
from seqserve.models.train import Batch, Rows, Task, schedule
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Feature,
    Head,
    Manifest,
    MaskInput,
    Numbers,
    Numeric,
    Option,
)

SEED = "seed"
LARGEST_SEED = 2**31 - 1
WEEK = 7  # seasons that make a block of rows
AT_ONCE = 128  # rows of a batch without gradients


def read_series(data: ForecasterData, path: Path | None, split: str) -> Table:
    """Return the rows of a split: `train`, or `val` preceded by the history of its first window.

    Raises:
        ConfigInvalid: no path was given, the table cannot be read, or has too few rows.
    """
    if path is None:
        raise ConfigInvalid("a forecaster is trained on a table: give --data FILE.csv")
    table = read_table(path, data.time, data.file)
    end = data.train + data.validation
    if len(table.times) < end:
        raise ConfigInvalid(f"{path}: {len(table.times)} rows; data.train and data.validation are {end}")
    return table.part(0, data.train) if split == "train" else table.part(data.train - data.history, end)


def sampled_head(data: ForecasterData) -> str:
    """Return the name of the head by Monte Carlo dropout."""
    return f"{data.head}_sampled"


class Windows:
    """Windows of one standardized series, by their origin: the row that the first step ahead is."""

    def __init__(self, values: np.ndarray, data: ForecasterData, first: int, end: int) -> None:
        self.origins = np.arange(max(first, data.history), end - data.horizon + 1)
        self._values = values  # float32 (rows, columns)
        self._back, self._ahead = np.arange(-data.history, 0), np.arange(data.horizon)

    def past(self, at: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return (windows, history, columns)."""
        return self._values[self.origins[at][:, None] + self._back]

    def future(self, at: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return (windows, horizon, columns)."""
        return self._values[self.origins[at][:, None] + self._ahead]

    def inputs(self, at: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Return what the network takes: windows, all of them whole, and their lengths."""
        past = self.past(at)
        return past, np.full(len(past), past.shape[1], np.int32)


class ForecasterRecipe:
    """One configuration, its windows, and the network to train on them.

    The last `tail` of the training rows is not trained on: an epoch's figures are measured on it, and the
    intervals are set by it. The validation rows give the examples and nothing else.
    """

    def __init__(self, config: ForecasterConfig, train: Table, held_out: Table) -> None:
        self._config, self._table = config, train
        self._held_out = held_out.arranged(train.columns, "the validation rows")
        self._mean, self._scale = train.values.mean(axis=0), scale_of(train.values)
        values = self._encode(train.values)
        cut = int(len(values) * (1 - config.model.tail))
        self._windows = Windows(values, config.data, 0, cut)
        self._tail = Windows(values, config.data, cut, len(values))
        if not len(self._windows.origins) or not len(self._tail.origins):
            raise ConfigInvalid(f"data.train: {len(values)} rows have no window before or in their tail")
        self._network = self._build()

    @property
    def task(self) -> Task:
        """The network, and batches of ((windows, lengths), what came after, weights)."""
        columns = len(self._table.columns)
        size = self._config.training.batch_size
        tail = [slice(at, at + size) for at in range(0, len(self._tail.origins), size)]
        reals = tf.TensorSpec([None, None, columns], tf.float32)
        lengths, weights = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)
        return Task(
            network=self._network,
            draw=lambda _: Rows(
                [self._config.data.history] * len(self._windows.origins),
                lambda indices: _batch(self._windows, indices),
            ),
            validation=[_batch(self._tail, at) for at in tail],
            signature=((reals, lengths), reals, weights),
        )

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Set the intervals of each head by rows that were not trained on; they are untrained weights."""
        with console.status("intervals"):
            self._set_intervals()
            if self._config.model.samples:
                self._set_sampled_intervals()
        console.print(f"intervals set on {len(self._tail.origins)} windows that were not trained on")
        return {}

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the signature and the manifest."""
        data, samples = self._config.data, self._config.model.samples

        def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            given = inputs[data.feature], inputs[LENGTHS]
            answers = {data.head: self._network.forecast(*given)}
            if samples:
                answers[sampled_head(data)] = self._network.sampled(*given, inputs[SEED])
            return answers

        manifest = self._manifest(version, {**card, "last_row": self._last_row()})
        return Draft(self._network, {PREDICT_SIGNATURE: predict}, manifest, {}, self._examples())

    def _encode(self, values: np.ndarray) -> np.ndarray:
        """Return float32 (rows, columns), standardized as in serving, in pieces short enough for it."""
        feature, size = self._config.data.feature, self._config.data.history
        encoder = SequenceEncoder(self._manifest(1, {}), PREDICT_SIGNATURE)
        pieces = [{feature: values[at : at + size]} for at in range(0, len(values), size)]
        return np.concatenate([encoder.encode(piece).row.inputs[feature] for piece in pieces])

    def _build(self) -> Forecaster:
        data, model, training = self._config.data, self._config.model, self._config.training
        columns = len(self._table.columns)
        dropouts = Dropouts(
            before=Place(model.before.rate, noise_shape(model.before.noise, data.history, columns)),
            after=Place(model.after.rate, noise_shape(model.after.noise, data.history, model.units)),
            inside=Place(model.inside, (model.units,)),
        )
        network = Forecaster(
            data.history, data.horizon, columns, data.season, model.units, dropouts, model.samples
        )
        past, future = self._windows.past(), self._windows.future()
        network.linear.assign(_least_squares(past, future, model.ridge))
        moved = past[:, data.season :] - past[:, : -data.season]
        network.usual.assign(np.square(moved).mean(axis=(0, 1)) + 1e-6)  # a constant column never moves
        optimizer = keras.optimizers.Adam(schedule(training, len(past)), clipnorm=1.0)
        network.compile(optimizer, PinballLoss(), weighted_metrics=[middle_mse])
        return network

    def _set_intervals(self) -> None:
        """Widen (or narrow) the quantile head's interval by one number, in changes.

        Conformalized quantile regression: Romano, Patterson and Candès, 2019, https://arxiv.org/abs/1905.03222.
        """
        inputs, truth = self._tail.inputs(), self._tail.future()
        view = self._network.view(*inputs)
        low, _, high = np.moveaxis(self._network.predict(inputs, batch_size=AT_ONCE, verbose=0), -1, 0)
        outside = np.maximum(low - truth, truth - high) / view.change.numpy()
        self._network.widening.assign(self._bound(outside))

    def _set_sampled_intervals(self) -> None:
        """Measure the noise of observations, and how many deviations wide the sampled head's interval is."""
        network = self._network
        inputs, truth = self._tail.inputs(), self._tail.future()
        change = network.view(*inputs).change.numpy()
        network.noise.assign(np.zeros(network.noise.shape, np.float32))
        mean, deviation = self._moments(inputs)
        noise = np.square((truth - mean) / change) - np.square(deviation / change)
        network.noise.assign(np.sqrt(np.maximum(noise.mean(axis=0), 1e-6)))
        whole = np.sqrt(np.square(deviation) + np.square(change * network.noise.numpy()))
        network.spread.assign(self._bound(np.abs(truth - mean) / whole))

    def _moments(self, inputs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation of the sampled head, each window with a seed of its own."""
        moments = tf.function(self._network.moments, reduce_retracing=True)
        seeds = np.arange(len(inputs[0]), dtype=np.int32)
        cuts = [slice(at, at + AT_ONCE) for at in range(0, len(seeds), AT_ONCE)]
        pieces = [moments(*(part[cut] for part in inputs), seeds[cut]) for cut in cuts]
        mean, deviation = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return mean, deviation

    def _bound(self, scores: np.ndarray) -> float:
        return conformal_bound(scores, LEVELS[-1] - LEVELS[0], WEEK * self._config.data.season)

    def _last_row(self) -> dict[str, Any]:
        """Return the last row that training or validation saw: later rows of a file are new."""
        values = dict(zip(self._held_out.columns, self._held_out.values[-1].tolist(), strict=True))
        return {"time": self._held_out.times[-1], "values": values}

    def _examples(self) -> list[dict[str, Any]]:
        """Choose a whole window, a short one, and one with a seed."""
        data, values = self._config.data, self._held_out.values
        short = max(1, data.history // 3)
        cuts: list[tuple[int, int, dict[str, int]]] = [
            (0, data.history, {}),
            (data.history - short, data.history, {}),
        ]
        if self._config.model.samples:
            cuts.append((len(values) - data.history, len(values), {"seed": 7}))
        return [{"sequences": [{data.feature: values[a:b].tolist()}], **asked} for a, b, asked in cuts]

    def _manifest(self, version: int, card: dict[str, Any]) -> Manifest:
        config, data, samples = self._config, self._config.data, self._config.model.samples
        mean, scale = tuple(self._mean.tolist()), tuple(self._scale.tolist())
        columns = self._table.columns
        numbers = Numbers(width=len(columns), mean=mean, scale=scale, columns=columns)
        head = Numeric(columns=columns, mean=mean, scale=scale, quantiles=LEVELS, per="horizon")
        seed = Option(option="seed", default=0, minimum=0, maximum=LARGEST_SEED)
        names = (data.head, sampled_head(data)) if samples else (data.head,)
        features: dict[str, Feature] = {data.feature: numbers}
        heads: dict[str, Head] = dict.fromkeys(names, head)
        others = dict.fromkeys((LENGTHS, SEED) if samples else (LENGTHS,), row_tensor("int32"))
        return build_manifest(
            Identity(config.name, version, config.serving.buckets, card, self._profile()),
            predict_signatures(features, heads, others),
            features=features,
            heads=heads,
            mask=MaskInput(input=LENGTHS),
            options={SEED: seed} if samples else {},
        )

    def _profile(self) -> dict[str, Any]:
        """Describe the training rows, for live traffic to be measured against."""
        shares = {f"p{q}": np.percentile(self._table.values, q, axis=0) for q in (0, 5, 50, 95, 100)}
        shown = {
            name: {share: round(float(values[place]), 4) for share, values in shares.items()}
            for place, name in enumerate(self._table.columns)
        }
        times = self._table.times
        seen = {self._config.data.feature: column_ranges(self._table.values)}
        return {"steps": len(times), "first": times[0], "last": times[-1], "numbers": shown, "ranges": seen}


def _batch(windows: Windows, at: np.ndarray | slice) -> Batch:
    future = windows.future(at)
    return windows.inputs(at), future, np.ones(len(future), np.float32)


def _least_squares(past: np.ndarray, future: np.ndarray, ridge: float) -> np.ndarray:
    """Return the map (history, horizon, columns) from moves before the last value to moves after it."""
    last = past[:, -1:]
    before, after = (np.moveaxis(part - last, -1, 0).astype(np.float64) for part in (past, future))
    squares = before.transpose(0, 2, 1) @ before + ridge * np.eye(
        before.shape[-1]
    )  # (columns, history, history)
    maps = np.linalg.solve(squares, before.transpose(0, 2, 1) @ after)  # (columns, history, horizon)
    return np.moveaxis(maps, 0, -1).astype(np.float32)
