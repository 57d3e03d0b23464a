"""The access log: one JSON line a call, through the program's own logs; what is in it is listed here.

Never a text, a label, a key or a query: names come from us, from the catalog, or from the file of keys.
"""

import asyncio
import logging
from functools import cache
from time import time
from typing import Any
from zlib import crc32

from seqserve.service.core.types import Visit
from seqserve.service.errors import OK, Code
from seqserve.service.logs import Told

ACCESS = logging.getLogger("seqserve.access")
LIKE = logging.LogRecord(ACCESS.name, logging.INFO, "", 0, "call", (), None)
PROBED = ("/healthz", "/readyz", "/metrics", "/grpc.health.v1.Health/")
"""Methods of probes: those that are answered, or end with the prober, are left out."""
WHOLE = 2**32
GATHERING_SECONDS, MOST_TOGETHER = 0.02, 64
"""For how long ended calls are gathered, and how many: logging each by itself takes four times as long, since
everything else that a call runs through has put that code out of the processor's caches."""


class AccessLog:
    """Writes a line for each call that failed, and for a share of the others, a moment after it has ended.

    Args:
        share: of the calls that were answered; the same ids are chosen by every gateway.
    """

    def __init__(self, share: float = 0.0) -> None:
        self._share = share
        self._ended: list[tuple[float, dict[str, Any]]] = []  # when, and the line's fields
        self._timer: asyncio.TimerHandle | None = None

    def write(
        self, visit: Visit, code: str, reason: str, seconds: float, id: str, transport: str, **who: str
    ) -> None:
        """Have the line of a call written that has ended, if it is to have one.

        Args:
            id: the request's.
            who: the caller's `principal`, or its `address` where that is not known.
        """
        if not self._wanted(visit.method, code, id):
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
        self._ended.append((time(), fields))
        if len(self._ended) >= MOST_TOGETHER:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHERING_SECONDS, self.flush)

    def flush(self) -> None:
        """Log what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        if ACCESS.isEnabledFor(logging.INFO):
            for created, fields in ended:
                ACCESS.handle(Told(LIKE, created, fields))

    def _wanted(self, method: str, code: str, id: str) -> bool:
        if code == OK and not self._share:
            return False
        if code in (OK, Code.CANCELLED) and _is_probe(method):
            return False
        return code != OK or self._share >= 1 or crc32(id.encode()) < self._share * WHOLE


@cache
def _is_probe(method: str) -> bool:
    return any(probe in method for probe in PROBED)
