"""Quality of forecasters: errors on the standardized scale, and how often an interval holds the truth.

Windows overlap, so intervals of figures draw whole weeks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import ConfigInvalid, ForecasterConfig, ForecasterData
from seqserve.models.data.tables import Table, read_table
from seqserve.models.evaluate import plots
from seqserve.models.evaluate.figures import Figure, Measured, mean
from seqserve.models.evaluate.requests import chunks, run
from seqserve.models.recipes.forecaster import WEEK, read_series, sampled_head
from seqserve.service.contract.digest import sha256
from seqserve.service.contract.items import HorizonAnswer, PredictBody, Prediction
from seqserve.service.contract.manifest import Numbers
from seqserve.service.contract.padding import Array
from seqserve.service.errors import SeqserveError

SAME = 1e-3
"""How far apart, relatively, two files may write the same number."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows whose values are forecast, from `first` on; earlier ones are only history."""

    table: Table
    first: int

    def origins(self, data: ForecasterData) -> list[int]:
        """Return the rows that windows begin to forecast at: every row that leaves room for one.

        Raises:
            ConfigInvalid: there are too few rows for one.
        """
        rows = range(max(self.first, data.history), len(self.table.times) - data.horizon + 1)
        if not rows:
            message = f"a window is {data.history} rows and {data.horizon} ahead; none is left to measure"
            raise ConfigInvalid(
                f"{message} in {len(self.table.times)} rows, {self.first} of them seen before"
            )
        return list(rows)


def held_out(config: ForecasterConfig, path: Path | None) -> Stretch:
    """Return the validation rows; the first window's history is the last training rows, as in training."""
    return Stretch(read_series(config.data, path, "val"), config.data.history)


def to_measure(config: ForecasterConfig, path: Path | None, card: Mapping[str, Any]) -> Stretch:
    """Return the rows of a file that are to be forecast.

    - Of the file that was trained on: its validation rows.
    - Of a file that holds the last validation row and later ones: the `test` rows after it (all, if the
      configuration has no `test`), with the rows before them as history.
    - Of any other: all rows except the first window's history.

    Raises:
        ConfigInvalid: there is no file, it cannot be read, or it lacks a column.
    """
    if path is None:
        raise ConfigInvalid("a forecaster is measured on a table: give --data FILE.csv")
    table = read_table(path, config.data.time, config.data.file)
    if sha256(path.read_bytes()) == card.get("data_sha256"):
        return held_out(config, path)
    first = _after(table, card["last_row"])
    end = None if first == 0 or config.data.test is None else first + config.data.test
    return Stretch(table.part(0, end), first)


def _after(table: Table, seen: Mapping[str, Any]) -> int:
    """Return the row after the last one seen, or 0 where the table does not hold that one.

    A row of the same time with other values is of another place. A file may have been rewritten, with fewer
    digits or its columns in another order.
    """
    if seen["time"] not in table.times or not set(seen["values"]) <= set(table.columns):
        return 0
    place = table.times.index(seen["time"])
    values = table.values[place, [table.columns.index(name) for name in seen["values"]]]
    return place + 1 if np.allclose(values, list(seen["values"].values()), rtol=SAME) else 0


async def measure(loaded: Pipeline, config: ForecasterConfig, stretch: Stretch) -> Measured:
    """Forecast each window, stride 1, and compare with what followed.

    Squared and absolute errors are over all columns and steps ahead, standardized as the model does. For
    each head: the share of values inside its 90 % interval and the interval's mean width, standardized too.
    For orientation there are the errors of two forecasts without a model: the value a season ago, and the
    last one. A week, which intervals of figures draw whole, is seven seasons.
    """
    data = config.data
    table = stretch.table.arranged(_feature(loaded, data).columns, "the table to measure on")
    origins = stretch.origins(data)
    windows = [table.values[origin - data.history : origin] for origin in origins]
    heads = await _forecasts(loaded, windows, data)
    scaled = _standardized(loaded, data, table.values)
    measured = _Measured(scaled, np.array(origins), data)
    season, horizon = np.arange(data.horizon) % data.season - data.season, np.arange(data.horizon)
    figures: dict[str, Figure | float | int | str] = {
        "windows": len(origins),
        "from": table.times[origins[0]],
        "to": table.times[origins[-1] + data.horizon - 1],
    }
    for name, quantiles in heads.items():
        prefix = "sampled_" if name == sampled_head(data) else ""
        low, middle, high = (_standardized(loaded, data, part) for part in quantiles)
        figures |= measured.errors(middle, prefix, "")
        figures |= measured.interval(low, high, prefix)
    figures |= measured.errors(measured.at(season), "", "_season_ago")
    figures |= measured.errors(measured.at(np.full_like(horizon, -1)), "", "_last_value")
    truth = table.values[origins[0] : origins[0] + data.horizon]
    first = [part[0] for part in heads[data.head]]
    return Measured(figures, {"forecast": partial(plots.forecast, windows[0], truth, first, table.columns)})


@dataclass(frozen=True, slots=True)
class _Measured:
    """What followed each origin, standardized, and the errors of forecasts of it."""

    values: Array  # (rows, columns)
    origins: Array
    data: ForecasterData

    def at(self, steps: Array) -> Array:
        """Return the values so many steps from each origin, (windows, steps, columns)."""
        values: Array = self.values[self.origins[:, None] + steps]
        return values

    def errors(self, forecast: Array, prefix: str, suffix: str) -> dict[str, Figure]:
        """Return MSE and MAE of forecasts (windows, horizon, columns)."""
        off = forecast - self.at(np.arange(self.data.horizon))
        return {
            f"{prefix}mse{suffix}": self._mean(np.square(off)),
            f"{prefix}mae{suffix}": self._mean(np.abs(off)),
        }

    def interval(self, low: Array, high: Array, prefix: str) -> dict[str, Figure]:
        """Return how often an interval holds the truth, and its width."""
        truth = self.at(np.arange(self.data.horizon))
        inside = (low <= truth) & (truth <= high)
        return {f"{prefix}coverage_90": self._mean(inside), f"{prefix}width_90": self._mean(high - low)}

    def _mean(self, values: Array) -> Figure:
        weeks = self.origins // (WEEK * self.data.season)
        return mean(values.mean(axis=(1, 2)), weeks)


def _feature(loaded: Pipeline, data: ForecasterData) -> Numbers:
    feature = loaded.served.manifest.features[data.feature]
    assert isinstance(feature, Numbers)
    return feature


def _standardized(loaded: Pipeline, data: ForecasterData, values: Array) -> Array:
    feature = _feature(loaded, data)
    scaled: Array = (values - np.array(feature.mean)) / np.array(feature.scale)
    return scaled


async def _forecasts(loaded: Pipeline, windows: Sequence[Array], data: ForecasterData) -> dict[str, Array]:
    """Return low, middle and high by head, (3, windows, horizon, columns), in the table's own units."""
    parts: dict[str, list[Array]] = {}
    for chunk in chunks(windows):
        outcomes = await run(loaded, PredictBody(sequences=[{data.feature: window} for window in chunk]))
        for outcome in outcomes:
            if isinstance(outcome, SeqserveError):
                raise outcome
            assert isinstance(outcome, Prediction)
            for name, answer in outcome.heads.items():
                assert isinstance(answer, HorizonAnswer)
                (interval,) = answer.intervals
                parts.setdefault(name, []).append(np.array([interval.low, answer.values, interval.high]))
    return {name: np.stack(quantiles, axis=1) for name, quantiles in parts.items()}
