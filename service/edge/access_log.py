"""The access log: one JSON line a call, through the program's own logs; what is in it is listed here.

Never a text, a label, a key or a query: names come from us, from the catalog, or from the file of keys.
"""

import logging
from typing import Any
from zlib import crc32

from seqserve.service.core.types import Visit
from seqserve.service.errors import OK, Code

ACCESS = logging.getLogger("seqserve.access")
PROBED = ("/healthz", "/readyz", "/metrics", "/grpc.health.v1.Health/")
"""Methods of probes: those that are answered, or end with the prober, are left out."""
WHOLE = 2**32


class AccessLog:
    """Writes a line for each call that failed, and for a share of the others.

    Args:
        share: of the calls that were answered; the same ids are chosen by every gateway.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._share = share

    def write(self, visit: Visit, code: str, reason: str, seconds: float, **who: str) -> None:
        """Write the line of a call that has ended, if it is to have one.

        Args:
            who: `request_id`, `principal`, `transport`; `address` where the principal is not known.
        """
        if not ACCESS.isEnabledFor(logging.INFO) or not self._wanted(visit.method, code, who["request_id"]):
            return
        fields = {**who, **_told(visit), "code": code, "reason": reason, "seconds": round(seconds, 6)}
        record = ACCESS.makeRecord(ACCESS.name, logging.INFO, "", 0, "call", (), None)
        record.fields = fields
        ACCESS.handle(record)

    def _wanted(self, method: str, code: str, request_id: str) -> bool:
        if code == OK and not self._share:
            return False
        if code in (OK, Code.CANCELLED) and any(probe in method for probe in PROBED):
            return False
        return code != OK or crc32(request_id.encode()) < self._share * WHOLE


def _told(visit: Visit) -> dict[str, Any]:
    return {
        "method": visit.method,
        "model": visit.model,
        "version": visit.version,
        "items": visit.items,
        "cells": visit.cells,
        "bytes_in": visit.bytes_in,
        "bytes_out": visit.bytes_out,
    }
