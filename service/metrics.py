"""Every metric: name, labels, buckets. One object for each process, passed to whatever counts.

Labels come from closed sets only: models and versions of the catalog (`_other` for names it does not
have), codes and reasons of the error table. Series of retired versions are removed, and what still ends on
one brings none back.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry

from seqserve.service.series import Counter, Family, Gauge, Histogram, S

OTHER = "_other"
NONE = "_none"
"""The version of a request that never reached one."""
MOST_RETIRED = 10_000
"""Retired versions that are remembered: far more than can come and go while one request is answered."""

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_BUCKETS = (1e-5, 1e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CELL_BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
MODEL = ("model", "version")
OUTCOME = (*MODEL, "task", "transport", "code", "reason")


class KeeperMetrics:
    """What the keeper of TensorFlow Serving's model config file counts; a process of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.faults = prometheus_client.Gauge(
            "seqserve_keeper_fault",
            "1 for each fault of the model config file or of the models; docs/deploy.md.",
            ("model", "version", "label", "reason"),
            registry=registry,
        )


class TlsMetrics:
    """What is told of this service's certificates, where it has any: without them there is no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expiry = prometheus_client.Gauge(
            "seqserve_tls_certificate_expiry_timestamp_seconds",
            "When the first certificate of the chain that the doors show ends, in Unix time.",
            registry=registry,
        )


class Metrics:
    """All families, on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.families: list[Family[Any]] = []
        self._retired: OrderedDict[tuple[str, ...], None] = OrderedDict()  # models and versions
        self.requests = self._counter("requests", "Requests answered, by outcome.", OUTCOME)
        self.items = self._counter("items", "Texts and sequences answered, by outcome.", OUTCOME)
        self.request_seconds = self._histogram(
            "request_seconds",
            "From the request's arrival to its answer, all outcomes.",
            (*MODEL, "task", "transport"),
            REQUEST_BUCKETS,
        )
        self.stage_seconds = self._histogram(
            "stage_seconds",
            "Per item: validate, encode, queue, decode; per batch: pad, backend.",
            (*MODEL, "stage"),
            STAGE_BUCKETS,
        )
        self.batch_rows = self._histogram("batch_rows", "Rows in a batch.", MODEL, ROW_BUCKETS)
        self.batch_cells = self._histogram(
            "batch_cells", "Cells in a batch: rows times padded length.", MODEL, CELL_BUCKETS
        )
        self.padding_cells = self._counter("padding_cells", "Cells that held padding.", MODEL)
        self.real_cells = self._counter("real_cells", "Cells that held a real step.", MODEL)
        self.warnings = self._counter("warnings", "Warnings given with answers.", (*MODEL, "warning"))
        self.version_info = self._gauge(
            "model_version_info", "1 for each version that can be called.", (*MODEL, "digest")
        )
        self.version_refused = self._gauge(
            "model_version_refused", "1 for each version that is refused.", (*MODEL, "reason")
        )
        self.ready = self._gauge(
            "model_ready", "1 while some version of the model can be called.", ("model",)
        )
        self.listed = self._gauge(
            "models_listed", "1 while it can be seen which models there are; 0: the last ones go on.", ()
        ).labels()
        self.backend_seconds = self._histogram(
            "backend_seconds", "One call of the model server, by gRPC code.", ("code",), STAGE_BUCKETS
        )
        retries = "Calls tried again at an address."
        self.backend_retries = self._counter("backend_retries", retries, ()).labels()
        self.backend_up = self._gauge(
            "backend_up", "1 while an address of the model server answers.", ("address",)
        )
        self.queue_cells = self._gauge("queue_cells", "Cells waiting for a batch.", ()).labels()
        self.in_flight = self._gauge("in_flight", "Requests being answered.", ("transport",))
        self.rejected = self._counter(
            "rejected", "Items, or requests unread, refused for the service's state.", ("reason",)
        )
        self.limit_hits = self._counter(
            "limit_hits", "Calls and connections refused by a limit; the setting's name.", ("limit",)
        )
        self.turned_away = self._counter(
            "turned_away", "Calls and connections refused before a route or method.", ("transport", "reason")
        )
        self.rest_connections = self._gauge("rest_connections", "Open REST connections.", ()).labels()
        self._add_sessions()

    def _add_sessions(self) -> None:
        self.sessions = self._gauge("sessions", "Sessions in this process's memory.", ()).labels()
        self.session_bytes = self._gauge("session_bytes", "Bytes that they take.", ()).labels()
        self.sessions_dropped = self._counter(
            "sessions_dropped", "Sessions that the memory forgot: for their age, or for room.", ("why",)
        )
        self.session_moves = self._counter(
            "session_moves",
            "Sessions that met another version: moved to it, kept theirs, or expired.",
            ("outcome",),
        )

    def of(self, family: Family[S], *labels: str) -> S:
        """Return the family's series of these labels.

        That of a retired version is nowhere shown: what ends on it late must not begin its counts anew.
        """
        series = family.by_labels.get(labels)
        if series is not None:
            return series
        if labels[: len(MODEL)] in self._retired and _is_of_versions(family):
            return family.make()
        return family.labels(*labels)

    def admit(self, model: str, version: str) -> None:
        """Show the series of a version that there is, whether or not one of its number was retired."""
        self._retired.pop((model, version), None)

    def clear_standing(self, model: str, version: str) -> None:
        """Remove the series that say whether a version can be called or is refused; its counts go on."""
        for family in (self.version_info, self.version_refused):
            family.remove_by_labels({"model": model, "version": version})

    def retire(self, model: str, version: str) -> None:
        """Remove every series of a version that is gone; there are none of it until it is admitted again."""
        self._retired[model, version] = None
        if len(self._retired) > MOST_RETIRED:
            self._retired.popitem(last=False)
        for family in filter(_is_of_versions, self.families):
            family.remove_by_labels({"model": model, "version": version})

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Counter]:
        return self._family("counter", name, text, labels, Counter)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Family[Gauge]:
        return self._family("gauge", name, text, labels, Gauge)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Family[Histogram]:
        return self._family("histogram", name, text, labels, partial(Histogram, (*buckets, math.inf)))

    def _family(
        self, kind: str, name: str, text: str, labels: tuple[str, ...], make: Callable[[], S]
    ) -> Family[S]:
        family = Family(kind, f"seqserve_{name}", text, labels, make, self.registry)
        self.families.append(family)
        return family


def _is_of_versions(family: Family[Any]) -> bool:
    return family.names[: len(MODEL)] == MODEL
