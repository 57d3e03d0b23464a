"""The figures of a run: one table on the screen, the same as JSON, and Markdown and a plot for the docs."""

import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.processes import REPOSITORY, cores

PACKAGES = ("tensorflow", "keras", "numpy", "grpcio", "fastapi", "uvicorn", "uvloop", "sentencepiece")


@dataclass(frozen=True, slots=True)
class Target:
    """What issue and docs ask of a figure: at least or at most a limit, of its ratio or its value."""

    kind: Literal["at least", "at most"]
    limit: float
    of: Literal["ratio", "value"] = "ratio"

    def met(self, figure: "Figure") -> bool:
        """Tell whether a figure is as asked."""
        number = figure.ratio if self.of == "ratio" else figure.value
        if not isinstance(number, float | int):
            return False
        return number >= self.limit if self.kind == "at least" else number <= self.limit

    def __str__(self) -> str:
        sign = {"at least": "≥", "at most": "≤"}[self.kind]
        return f"{sign} {self.limit:g}" + (" ×" if self.of == "ratio" else "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Args:
        reference: what `ratio` is to, measured in the same run.
        spread: lowest and highest ratio (value, where there is no ratio) of the repetitions.
        drifted: the machine's speed changed meanwhile, and went on changing.
    """

    row: str
    name: str
    value: float | str | None
    unit: str = ""
    reference: str | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: Target | None = None
    drifted: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as the report's file has it; what is not finite is null."""
        row = {name: _finite(value) for name, value in asdict(self).items()}
        row["target"] = str(self.target) if self.target else None
        row["met"] = self.target.met(self) if self.target else None
        return row


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def machine() -> list[Figure]:
    """Describe where the figures come from."""
    mine = cores()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "processor": _processor(),
        "cores": f"{os.cpu_count()}; callers on {mine.callers}, server on {mine.server}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        "revision": _revision(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    return [Figure("machine", name, value) for name, value in facts.items()]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def _revision() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write all figures to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps([figure.as_json() for figure in figures], option=orjson.OPT_INDENT_2))


def read_json(path: Path) -> list[Figure]:
    """Read them back, without their targets."""
    kept = set(Figure.__dataclass_fields__) - {"target"}
    rows = orjson.loads(path.read_bytes())
    return [Figure(**{name: value for name, value in row.items() if name in kept}) for row in rows]


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    table = Table(*HEAD, title="make bench", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    table.columns[3].justify = table.columns[4].justify = "left"
    for before, figure in zip([None, *figures], figures, strict=False):
        if before is not None and before.row != figure.row:
            table.add_section()
        met = figure.target.met(figure) if figure.target else None
        style = {None: None, True: "green", False: "yellow"}[met]
        table.add_row(*_cells(figure), style=style)
    console.print(table)


DRIFTED = "drift"
HEAD = ("row", "what", "value", "unit", "reference", "ratio", "spread", "target")


def _cells(figure: Figure) -> list[str]:
    value = figure.value if isinstance(figure.value, str) else _number(figure.value)
    spread = " to ".join(map(_number, figure.spread)) if figure.spread else ""
    spread = ", ".join(filter(None, [spread, DRIFTED * figure.drifted]))
    target = str(figure.target) if figure.target else ""
    if figure.target:
        target += " ✓" if figure.target.met(figure) else " missed"
    return [
        figure.row,
        figure.name,
        value,
        figure.unit,
        figure.reference or "",
        _number(figure.ratio),
        spread,
        target,
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(figures: Sequence[Figure]) -> str:
    """Return the table as Markdown."""
    lines = [" | ".join(HEAD), " | ".join("---" for _ in HEAD)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in _cells(figure)) for figure in figures]
    return "".join(f"| {line} |\n" for line in lines)


def write_report(figures: Sequence[Figure], folder: Path) -> None:
    """Write `performance-table.md` and `performance.png` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance-table.md").write_text(markdown(figures))
    _plot(figures, folder / "performance.png")


def _plot(figures: Sequence[Figure], path: Path) -> None:
    """Draw texts a second by callers: the ideal, the ceiling, ours, and the others."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    lines: dict[str, dict[int, float]] = {}
    for figure in (f for f in figures if f.unit == "texts/s" and isinstance(f.value, float)):
        what, _, callers = figure.name.rpartition(", ")
        count = callers.split(" ")[0]  # or "one", of a request of many texts
        by_service = figure.row == "b" and (what == "ceiling" or what.startswith("seqserve by"))
        by_peer = figure.row == "e" and what.endswith(SHIPPED) and not what.startswith("ours")
        if count.isdecimal() and (by_service or by_peer):
            assert isinstance(figure.value, float)
            lines.setdefault(what.removesuffix(SHIPPED), {})[int(count)] = figure.value
    ideal = next((f.value for f in figures if f.row == "b" and f.name.startswith("ideal")), None)
    if isinstance(ideal, float):
        lines["ideal"] = dict.fromkeys(XTICKS, ideal)
    drawn, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for what, points in lines.items():
        ours = what.startswith("seqserve")
        style = {"ideal": ":", "ceiling": "--"}.get(what, "-")
        xs = sorted(points)
        axes.plot(xs, [points[x] for x in xs], style, marker="o", lw=2.5 if ours else 1.2, ms=4, label=what)
    axes.set(xscale="log", xlabel="callers, one text each", ylabel="texts a second", ylim=(0, None))
    axes.set_xticks(XTICKS, list(map(str, XTICKS)))
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)


XTICKS, SHIPPED = (1, 8, 64, 256), ", as shipped"
