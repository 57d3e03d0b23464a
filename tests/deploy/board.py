"""The Grafana board as a strict model: what Grafana needs of it, and nothing that is not meant."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = DEPLOY / "grafana/dashboards/overview.json"
COLUMNS = 24
Text = Annotated[str, Field(min_length=1)]
Explained = Annotated[str, Field(min_length=60)]
Unit = Literal["none", "short", "percentunit", "reqps", "ops", "s", "bytes"]
WORDS = {"or", "and", "unless", "by", "bool"}


class Strict(BaseModel):
    """A part of the board: an unknown or missing field is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(Strict):
    """What a panel asks."""

    type: Literal["prometheus"]
    uid: Text


class Grid(Strict):
    """Where a panel stands, in Grafana's grid of 24 columns."""

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]
    w: Annotated[int, Field(ge=1)]
    h: Annotated[int, Field(ge=1)]

    def cells(self) -> set[tuple[int, int]]:
        """Return every cell it covers."""
        return {(self.x + dx, self.y + dy) for dx in range(self.w) for dy in range(self.h)}


class Target(Strict):
    """One query; `legend` names its series."""

    ref: Text = Field(alias="refId")
    datasource: Source
    expr: Text
    legend: str = Field(alias="legendFormat")
    instant: bool
    range: bool
    format: Literal["time_series", "table"]

    def named(self, labels: dict[str, str]) -> str:
        """Return the legend of a series; a label that it lacks stays in braces."""
        return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], match[0]), self.legend)


class Defaults(Strict):
    """How values are written."""

    unit: Unit
    mappings: list[dict[str, Any]]
    thresholds: dict[str, Any]
    min: float | None = None
    max: float | None = None
    no_value: Text | None = Field(None, alias="noValue")
    custom: dict[str, Any] = {}


class FieldConfig(Strict):
    """Grafana's place for them."""

    defaults: Defaults
    overrides: list[dict[str, Any]]


class Row(Strict):
    """A heading."""

    id: int
    type: Literal["row"]
    title: Text
    grid: Grid = Field(alias="gridPos")
    collapsed: Literal[False]
    panels: Annotated[list[Any], Field(max_length=0)]


class Panel(Strict):
    """A panel that asks something. Its description says what it means and what to do."""

    id: int
    type: Literal["stat", "table", "timeseries"]
    title: Text
    description: Explained
    datasource: Source
    grid: Grid = Field(alias="gridPos")
    targets: Annotated[list[Target], Field(min_length=1)]
    field: FieldConfig = Field(alias="fieldConfig")
    options: dict[str, Any]
    transformations: list[dict[str, Any]] = []


class Variable(Strict):
    """A choice at the board's head."""

    name: Text
    label: Text
    type: Literal["query"]
    datasource: Source
    definition: Text
    query: dict[str, str]
    multi: bool
    include_all: bool = Field(alias="includeAll")
    all_value: Text = Field(alias="allValue")
    refresh: Literal[1, 2]
    sort: int
    hide: Literal[0]
    current: dict[str, Any]


class Templating(Strict):
    """Grafana's place for variables."""

    list: list[Variable]


class Board(Strict):
    """The whole file; schema 39 is what every Grafana 11 reads as it stands."""

    uid: Text
    title: Text
    description: Text
    tags: list[str]
    timezone: Literal["browser"]
    schema_version: Literal[39] = Field(alias="schemaVersion")
    version: int
    editable: bool
    tooltip: Literal[0, 1, 2] = Field(alias="graphTooltip")
    refresh: Text
    time: dict[Literal["from", "to"], str]
    annotations: dict[str, list[Any]]
    templating: Templating
    panels: list[Annotated[Row | Panel, Field(discriminator="type")]]

    @property
    def asking(self) -> list[Panel]:
        """The panels that are no headings."""
        return [panel for panel in self.panels if isinstance(panel, Panel)]

    @property
    def targets(self) -> list[Target]:
        """Every query."""
        return [target for panel in self.asking for target in panel.targets]


def read_board(path: Path = BOARD) -> Board:
    """Read the shipped board."""
    return Board.model_validate(json.loads(path.read_text("utf-8")))


def read_yaml(path: str) -> Any:
    """Read a file of deploy/."""
    return yaml.safe_load((DEPLOY / path).read_text("utf-8"))


def replaced(expr: str, window: str, model: str = ".*") -> str:
    """Replace the variables as Grafana would."""
    return expr.replace("$__rate_interval", window).replace("$model", model)


def selectors(expr: str) -> list[tuple[str, str]]:
    """Return each metric that an expression reads, with the braces behind it."""
    bare = re.sub(r"\[[^]]*\]|\b(by|without)\s*\([^)]*\)", "", expr)
    tokens = re.finditer(r'"[^"]*"|(?<!\w)([a-zA-Z_:][\w:]*)\s*(\(|\{(?:[^}"]|"[^"]*")*\})?', bare)
    named = [(token[1], token[2] or "") for token in tokens if token[1]]
    return [(name, behind) for name, behind in named if behind != "(" and name not in WORDS]
