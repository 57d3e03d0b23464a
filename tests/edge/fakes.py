"""An entrance for tests of what lies behind it, and certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from prometheus_client import CollectorRegistry

from seqserve.service.core.limits import Limits, Shares
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.keys import Line, digest_of
from seqserve.service.edge.recognizer import Recognizer
from seqserve.service.metrics import Metrics


def open_entrance(metrics: Metrics | None = None) -> Entrance:
    """Return one that lets everybody in, and writes down whatever fails."""
    metrics = metrics or Metrics(CollectorRegistry())
    return Entrance(Recognizer(), Limits(Shares()), AccessLog(), metrics)


def write_certificate(authority: trustme.CA, cert: Path, key: Path, days: int = 30) -> bytes:
    """Write a certificate for `localhost`, and return its PEM."""
    issued = authority.issue_cert("localhost", "127.0.0.1", not_after=datetime.now(UTC) + timedelta(days))
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return issued.cert_chain_pems[0].bytes()


def key_line(name: str, key: str, *scopes: str) -> Line:
    """Return the line of a key that may do everything, or what the scopes say."""
    return Line(name=name, sha256=digest_of(key), scopes=scopes or ("*:*",))
