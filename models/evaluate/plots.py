"""Pictures of what was measured: attention, confusion, reliability, a forecast with its intervals.

Each function returns a figure; `save` writes PNGs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqserve.service.contract.items import Translation
from seqserve.service.contract.padding import Array

BINS = 15
MOST_COLUMNS = 4
TILTED = 45


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write each figure as NAME.png into the folder, which is made if it is missing; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for figure, path in zip(figures.values(), paths, strict=True):
        figure.savefig(path, dpi=120)
    return paths


def attention(translation: Translation) -> Figure:
    """Draw how much each target word attends to each source word (Bahdanau et al., 2015, figure 3).

    Raises:
        ValueError: the translation was not asked for with `alignment`.
    """
    source, target, table = translation.source_tokens, translation.target_tokens, translation.alignment
    if source is None or target is None or table is None:
        raise ValueError("the translation has no alignment")
    figure, axes = _axes(2 + 0.5 * len(source), 2 + 0.4 * len(target))
    axes.imshow(np.array(table), cmap="Greys", vmin=0, vmax=1)
    _name_ticks(axes, source, target)
    axes.set(xlabel="source", ylabel="target", title="attention")
    return figure


def confusion(truth: Sequence[str], said: Sequence[str], labels: Sequence[str]) -> Figure:
    """Draw how often each label was predicted for each true one, shaded by its share of the true label's row.

    A row whose true or predicted label is not among the labels is left out.
    """
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for pair in zip(truth, said, strict=True):
        if all(label in places for label in pair):
            counts[places[pair[0]], places[pair[1]]] += 1
    size = 2 + 0.5 * len(labels)
    figure, axes = _axes(size, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(int(count)), ha="center", va="center", color=shade, fontsize=7)
    _name_ticks(axes, labels, labels)
    axes.set(xlabel="predicted", ylabel="true", title="confusion")
    return figure


def reliability(confidence: Array, right: Array) -> Figure:
    """Draw accuracy against confidence in equal bins (Guo et al., 2017, arXiv:1706.04599, figure 1).

    Args:
        confidence: of the predicted label, (rows).
        right: whether it was the true one, (rows).
    """
    figure, axes = _axes(4.5, 4.5)
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.digitize(confidence, edges[1:-1]), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    accuracy = np.bincount(bins, right, BINS) / np.maximum(counts, 1)
    axes.bar(edges[:-1], accuracy, 1 / BINS, align="edge", edgecolor="black", label="accuracy")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="perfect calibration")
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"reliability of {len(right)} answers")
    axes.legend()
    return figure


def forecast(history: Array, truth: Array, quantiles: Sequence[Array], columns: Sequence[str]) -> Figure:
    """Draw the history, what followed it, and the forecast with its interval, for the first columns.

    Args:
        history: (time, columns).
        truth: (horizon, columns).
        quantiles: low, middle and high, each (horizon, columns).
    """
    shown = min(MOST_COLUMNS, len(columns))
    figure = Figure(figsize=(9, 2.2 * shown), layout="constrained")
    before, ahead = np.arange(-len(history), 0), np.arange(len(truth))
    for place, axes in enumerate(np.atleast_1d(figure.subplots(shown, sharex=True))):
        low, middle, high = (values[:, place] for values in quantiles)
        axes.plot(before, history[:, place], color="grey", label="history")
        axes.plot(ahead, truth[:, place], color="black", label="what came")
        axes.plot(ahead, middle, color="tab:blue", label="forecast")
        axes.fill_between(ahead, low, high, alpha=0.3, label="its interval")
        axes.set(ylabel=columns[place])
    figure.axes[0].legend(ncols=4, fontsize=8, loc="upper left")
    figure.axes[-1].set(xlabel="steps ahead")
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _name_ticks(axes: Axes, across: Sequence[str], down: Sequence[str]) -> None:
    axes.set_xticks(range(len(across)), across, rotation=TILTED, ha="right")
    axes.set_yticks(range(len(down)), down)
