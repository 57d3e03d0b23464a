"""An entrance for tests of what lies behind it."""

from prometheus_client import CollectorRegistry

from seqserve.service.core.limits import Limits, Shares
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Recognizer
from seqserve.service.metrics import Metrics


def open_entrance() -> Entrance:
    """Return one that lets everybody in, and writes down whatever fails."""
    return Entrance(Recognizer(), Limits(Shares()), AccessLog(), Metrics(CollectorRegistry()))
