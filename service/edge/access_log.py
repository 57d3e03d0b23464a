"""The access log: one JSON line a call, through the program's own logs; what is in it is listed here.

Never a text, a label, a key or a query: names come from us, from the catalog, or from the file of keys.
"""

import logging
from functools import cache
from zlib import crc32

from seqserve.service.core.types import Visit
from seqserve.service.errors import OK, Code
from seqserve.service.logs import Told

ACCESS = logging.getLogger("seqserve.access")
LIKE = logging.LogRecord(ACCESS.name, logging.INFO, "", 0, "call", (), None)
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

    def write(
        self, visit: Visit, code: str, reason: str, seconds: float, id: str, transport: str, **who: str
    ) -> None:
        """Write the line of a call that has ended, if it is to have one.

        Args:
            id: the request's.
            who: the caller's `principal`, or its `address` where that is not known.
        """
        if not self._wanted(visit.method, code, id) or not ACCESS.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": id,
            "transport": transport,
            **who,
            "method": visit.method,
            "model": visit.model,
            "version": visit.version,
            "items": visit.items,
            "cells": visit.cells,
            "bytes_in": visit.bytes_in,
            "bytes_out": visit.bytes_out,
            "code": code,
            "reason": reason,
            "seconds": round(seconds, 6),
        }
        ACCESS.handle(Told(LIKE, fields))

    def _wanted(self, method: str, code: str, id: str) -> bool:
        if code == OK and not self._share:
            return False
        if code in (OK, Code.CANCELLED) and _is_probe(method):
            return False
        return code != OK or self._share >= 1 or crc32(id.encode()) < self._share * WHOLE


@cache
def _is_probe(method: str) -> bool:
    return any(probe in method for probe in PROBED)
