"""Draws the board by its own grid, titles, units and colours, from answers that Prometheus gave."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import log2
from pathlib import Path

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from tests.deploy.board import COLUMNS, Board, Grid, Panel, Row

Points = list[tuple[float, float]]
Answers = dict[str, list[tuple[str, dict[str, str], Points]]]
"""By a panel's title: each series' legend, labels and points."""
WIDTH, HEAD, LINE, GAP, DPI = 1600, 66, 25, 4, 100
INK, PALE, PAPER, CARD = "#1f2430", "#6b7280", "#eef0f4", "#ffffff"
COLOURS = {"green": "#2f9e58", "red": "#d6455d", "orange": "#e8912d"}
LINES = ["#3274d9", "#e0752d", "#2f9e58", "#a352cc", "#d6455d", "#0a9396", "#b58900", "#7f7f7f", "#e377c2"]
CAPTION = (
    "The Overview board's queries, answered by Prometheus during a test load; drawn with matplotlib. "
    "TensorFlow Serving's place is taken by the test server."
)
MOST_LEGENDS = 9
LETTER = 5.6
"""A legend's letter, in pixels."""
TABLE_LETTER, COLUMN_GAP = 8.0, 24
"""A table's letter and what is between its columns, in pixels."""


@dataclass(frozen=True, slots=True)
class Mark:
    """When a part of the load began, and its name."""

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class Canvas:
    """The figure, and where a place of the grid lies on it."""

    figure: Figure
    height: int

    def box(self, grid: Grid) -> tuple[float, float, float, float]:
        """Return left, top, width and height in pixels, the gap between cards taken off."""
        column = WIDTH / COLUMNS
        return (
            grid.x * column + GAP,
            HEAD + grid.y * LINE + GAP / 2,
            grid.w * column - 2 * GAP,
            grid.h * LINE - GAP,
        )

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return axes at a place given in pixels from the top left."""
        place = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(place)

    def text(self, x: float, y: float, text: str, size: float, colour: str = INK, **more: str) -> None:
        """Write at a place given in pixels from the top left."""
        self.figure.text(
            x / WIDTH, 1 - y / self.height, text, fontsize=size, color=colour, va="center", **more
        )

    def card(self, left: float, top: float, width: float, height: float, colour: str = CARD) -> None:
        """Paint a rounded rectangle."""
        axes = self.axes(left, top, width, height)
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.add_patch(
            FancyBboxPatch((3, 3), width - 6, height - 6, boxstyle="round,pad=3", fc=colour, ec="none")
        )


def draw(board: Board, answers: Answers, marks: list[Mark], out: Path) -> None:
    """Write the picture."""
    lines = max(panel.grid.y + panel.grid.h for panel in board.panels)
    height = HEAD + lines * LINE + GAP
    figure = plt.figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
    canvas = Canvas(figure, height)
    parts = " · ".join(f"{number} {mark.name}" for number, mark in enumerate(marks, 1))
    canvas.text(12, 20, f"seqserve · {board.title}", 15, weight="bold")
    canvas.text(290, 20, CAPTION, 9.5, PALE)
    canvas.text(12, 48, f"Parts of the load, at the dotted lines: {parts}", 9.5)
    for panel in board.panels:
        if isinstance(panel, Row):
            left, top, _, tall = canvas.box(panel.grid)
            canvas.text(left + 6, top + tall / 2, f"▾ {panel.title}", 10.5, weight="bold")
        else:
            canvas.card(*canvas.box(panel.grid))
            KINDS[panel.type](canvas, panel, answers, marks)
    _save(figure, out)
    plt.close(figure)


def _save(figure: Figure, out: Path) -> None:
    """Write the file in few colours: a third of the size, and no difference to be seen."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor=PAPER)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(out, optimize=True)


def _title(canvas: Canvas, panel: Panel) -> tuple[float, float, float, float]:
    """Write a panel's title; return what is left of its box."""
    left, top, width, height = canvas.box(panel.grid)
    canvas.text(left + 9, top + 13, panel.title, 9, weight="bold")
    return left + 8, top + 26, width - 16, height - 32


def _stat(canvas: Canvas, panel: Panel, answers: Answers, marks: list[Mark]) -> None:
    left, top, width, height = _title(canvas, panel)
    series = answers[panel.title]
    each = width / max(1, len(series))
    for place, (name, _, points) in enumerate(series):
        text, colour = _shown(panel, points[-1][1])
        canvas.card(left + place * each, top, each - 3, height, colour)
        middle = left + place * each + each / 2
        canvas.text(middle, top + height * 0.36, text, 13, "white", weight="bold", ha="center")
        canvas.text(middle, top + height * 0.76, name, 7.5, "white", ha="center")


def _shown(panel: Panel, value: float) -> tuple[str, str]:
    """Return a value as its mapping or its unit writes it, and the colour of its threshold."""
    defaults = panel.field.defaults
    for mapping in defaults.mappings:
        entry = mapping["options"].get(f"{value:g}")
        if entry is not None:
            return entry["text"], COLOURS[entry["color"]]
    steps = [s for s in defaults.thresholds["steps"] if s["value"] is None or value >= s["value"]]
    return UNITS[defaults.unit](value, 0), COLOURS[steps[-1]["color"]]


def _table(canvas: Canvas, panel: Panel, answers: Answers, marks: list[Mark]) -> None:
    left, top, _, _ = _title(canvas, panel)
    order = panel.transformations[0]["options"]["indexByName"]
    lines = [labels for _, labels, _ in sorted(answers[panel.title], key=lambda series: str(series[1]))]
    x = left + 4
    for name in sorted(order, key=lambda name: order[name]):
        cells = [labels.get(name, "") for labels in lines]  # Prometheus leaves an empty label out
        canvas.text(x, top + 8, name, 8, PALE)
        for line, cell in enumerate(cells, 1):
            canvas.text(x, top + 8 + line * 20, cell, 8.5)
        x += COLUMN_GAP + TABLE_LETTER * max(map(len, (name, *cells)))


def _graph(canvas: Canvas, panel: Panel, answers: Answers, marks: list[Mark]) -> None:
    left, top, width, height = _title(canvas, panel)
    legend = min(width / 2, 34 + LETTER * max(len(name) for name, _, _ in answers[panel.title]))
    axes = canvas.axes(left + 44, top, width - 44 - legend, height - 15)
    drawn = sorted(answers[panel.title], key=lambda series: -max(value for _, value in series[2]))
    start = marks[0].at
    for place, (_, _, points) in enumerate(drawn):
        colour = LINES[place % len(LINES)]
        axes.plot([at - start for at, _ in points], [v for _, v in points], color=colour, lw=1.4)
    _dress(axes, panel)
    for number, mark in enumerate(marks, 1):
        axes.axvline(mark.at - start, color=PALE, lw=0.7, ls=":")
        axes.text(
            mark.at - start,
            1,
            f" {number}",
            size=6.5,
            color=PALE,
            va="top",
            transform=axes.get_xaxis_transform(),
        )
    _legend(canvas, (left + width - legend + 10, top), [name for name, _, _ in drawn])


def _dress(axes: Axes, panel: Panel) -> None:
    """Axes from zero, in the panel's unit and in seconds since the load began."""
    defaults = panel.field.defaults
    highest = max(float(value) for line in axes.get_lines() for value in line.get_ydata())
    axes.set_ylim(bottom=0, top=defaults.max or highest * 1.15 or 1)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=defaults.unit == "short" and axes.get_ylim()[1] > 4))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    if defaults.unit == "bytes":
        axes.yaxis.set_major_locator(MultipleLocator(2 ** int(log2(max(highest, 8) / 2))))
    axes.yaxis.set_major_formatter(FuncFormatter(UNITS[defaults.unit]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.tick_params(labelsize=7, colors=PALE, length=0, pad=3)
    axes.grid(color="#e3e6ec", lw=0.7)
    axes.spines[:].set_visible(False)
    axes.patch.set_alpha(0)


def _legend(canvas: Canvas, place: tuple[float, float], names: list[str]) -> None:
    left, top = place
    for line, name in enumerate(names[:MOST_LEGENDS]):
        canvas.text(left, top + 4 + line * 14, "━", 7.5, LINES[line % len(LINES)])
        canvas.text(left + 14, top + 4 + line * 14, name, 7.5)
    if len(names) > MOST_LEGENDS:
        canvas.text(
            left + 14, top + 4 + MOST_LEGENDS * 14, f"and {len(names) - MOST_LEGENDS} more", 7.5, PALE
        )


def _seconds(value: float, _: object) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _mega(value: float, _: object) -> str:
    return f"{value / 2**20:.0f} MiB"


UNITS: dict[str, Callable[[float, object], str]] = {
    "none": lambda value, _: f"{value:g}",
    "short": lambda value, _: f"{value:g}",
    "percentunit": lambda value, _: f"{value * 100:.3g} %",
    "reqps": lambda value, _: f"{value:g} /s",
    "ops": lambda value, _: f"{value:g} /s",
    "s": _seconds,
    "bytes": _mega,
}
KINDS: dict[str, Callable[[Canvas, Panel, Answers, list[Mark]], None]] = {
    "stat": _stat,
    "table": _table,
    "timeseries": _graph,
}
