"""The shipped Prometheus and Grafana files: whole, of one mind, and about metrics that exist."""

import re
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry

from seqserve.service.main import _registry
from seqserve.service.metrics import KeeperMetrics, Metrics, TlsMetrics
from tests.deploy.board import COLUMNS, DEPLOY, Row, read_board, read_yaml, selectors

ENDINGS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
TFSERVING = {
    ":tensorflow:serving:request_count": (("",), {"model_name", "status"}),
    ":tensorflow:serving:request_latency": (ENDINGS["histogram"], {"model_name", "API", "entrypoint"}),
    ":tensorflow:serving:runtime_latency": (ENDINGS["histogram"], {"model_name", "API", "runtime"}),
}
"""What TensorFlow Serving's util.cc registers, as its prometheus_exporter.cc writes it; latencies in µs."""
OF_PROMETHEUS = {"instance", "job"}


def own() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return kind and labels of each family of the gateway, of its certificates, and of its keeper."""
    others = [vars(kind(CollectorRegistry())).values() for kind in (KeeperMetrics, TlsMetrics)]
    of_others = {f._name: (f._type, f._labelnames) for part in others for f in part}
    return of_others | {f.name: (f.kind, f.names) for f in Metrics(CollectorRegistry()).families}


def families() -> dict[str, set[str]]:
    """Return the samples that each of them is scraped as."""
    return {name: {name + ending for ending in ENDINGS[kind]} for name, (kind, _) in own().items()}


def known() -> dict[str, set[str]]:
    """Return every sample that can be scraped, with its labels."""
    samples = {"up": set(OF_PROMETHEUS)}
    for family, (_, labels) in own().items():
        for name in families()[family]:
            samples[name] = {*labels, *OF_PROMETHEUS}
    for process in _registry().collect():
        samples.update({sample.name: {*sample.labels, *OF_PROMETHEUS} for sample in process.samples})
    for name, (endings, labels) in TFSERVING.items():
        samples.update({name + ending: labels | OF_PROMETHEUS for ending in endings})
    return samples


def rules() -> list[dict[str, str]]:
    """Return the alerts."""
    return [rule for group in read_yaml("prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Return every expression of the board and of the alerts."""
    return [target.expr for target in read_board().targets] + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("expr", expressions())
def test_expressions_read_metrics_that_exist(expr: str) -> None:
    """Each metric is one that the gateway, its keeper, Prometheus or TensorFlow Serving has, labels too."""
    read = selectors(expr)
    assert read
    assert [name for name, _ in read if name not in known()] == []
    for name, braces in read:
        asked = set(re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', "", braces)))
        assert asked <= known()[name], name


def test_the_model_chosen_narrows_every_panel_that_can_be() -> None:
    """Wherever a metric carries a model, the board's variable selects it."""
    for target in read_board().targets:
        for name, braces in selectors(target.expr):
            label = {"model", "model_name"} & known()[name]
            assert not label or f'{label.pop()}=~"$model"' in braces, target.expr


def test_panels_are_named_once_and_do_not_overlap() -> None:
    """Ids and titles are unique; no cell of the grid is taken twice, none lies beyond its 24 columns."""
    board = read_board()
    assert len({panel.id for panel in board.panels}) == len(board.panels)
    assert len({panel.title for panel in board.panels}) == len(board.panels)
    taken = Counter(cell for panel in board.panels for cell in panel.grid.cells())
    assert [cell for cell, times in taken.items() if times > 1] == []
    assert max(x for x, _ in taken) == COLUMNS - 1


def test_the_board_has_no_holes() -> None:
    """Every cell from the first line to the last is some panel's; the board starts with a heading."""
    board = read_board()
    taken = {cell for panel in board.panels for cell in panel.grid.cells()}
    assert len(taken) == COLUMNS * (1 + max(y for _, y in taken))
    assert isinstance(board.panels[0], Row)


def test_queries_of_a_panel_are_told_apart() -> None:
    """Each query has its own letter, and what names its series."""
    for panel in read_board().asking:
        assert len({target.ref for target in panel.targets}) == len(panel.targets)
        assert panel.type == "table" or all(target.legend for target in panel.targets)
        assert {target.format == "table" for target in panel.targets} == {panel.type == "table"}
        assert {target.instant for target in panel.targets} == {panel.type != "timeseries"}


def test_the_board_asks_the_provisioned_source() -> None:
    """Every panel, query and variable names the data source that Grafana is given, with its interval."""
    board = read_board()
    (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    asked = [*board.asking, *board.targets, *board.templating.list]
    assert {(part.datasource.type, part.datasource.uid) for part in asked} == {
        (source["type"], source["uid"])
    }
    scraped = read_yaml("prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


def test_prometheus_asks_the_model_server_where_it_answers() -> None:
    """The scraped path is the one that TensorFlow Serving's monitoring config opens."""
    jobs = {job["job_name"]: job for job in read_yaml("prometheus/prometheus.yml")["scrape_configs"]}
    opened = (DEPLOY / "tfserving/monitoring.config").read_text("utf-8")
    assert f'path: "{jobs["tfserving"]["metrics_path"]}"' in opened


def test_the_provider_shows_the_folder_of_boards() -> None:
    """Grafana's provider reads files from where the composition puts deploy/grafana/dashboards."""
    (provider,) = read_yaml("grafana/provisioning/dashboards/seqserve.yml")["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")


def test_every_metric_of_ours_is_on_the_board_or_not_worth_a_panel() -> None:
    """A new family gets a panel, or its name here; that models cannot be listed, or that a
    certificate ends, is an alert's to say."""
    shown = {name for target in read_board().targets for name, _ in selectors(target.expr)}
    unshown = {name for name, samples in families().items() if not shown & samples}
    assert unshown == {
        "seqserve_batch_cells",
        "seqserve_models_listed",
        "seqserve_rest_connections",
        "seqserve_session_bytes",
        "seqserve_session_moves",
        "seqserve_sessions",
        "seqserve_sessions_dropped",
        "seqserve_tls_certificate_expiry_timestamp_seconds",
    }


def test_alerts_say_what_to_do() -> None:
    """Each alert waits, has a severity, a summary and an action."""
    for rule in rules():
        assert rule["for"]
        assert rule["labels"]["severity"] in {"page", "ticket"}  # type: ignore[index]
        assert set(rule["annotations"]) == {"summary", "action"}
