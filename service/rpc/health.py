"""grpc.health.v1: of the whole service, of each service, and of each model; asked once, or watched.

The name `""` and each full service name follow the gateway's readiness; `model/NAME` is SERVING while a
version of that model can be called and the backend is within reach. `/readyz` says the same.

A watcher is told what is so when it can be told: what it missed meanwhile is left out. Nobody waits for
another.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from grpc_health.v1 import health_pb2

from seqserve.service import errors
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Call
from seqserve.service.rpc.calls import Context
from seqserve.service.rpc.edge import Method, Watch

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
OVERALL = ""
PATIENCE = 10.0
"""Seconds after which a watcher that does not take its status is dropped."""
LONGEST_NAME = 1024

Statuses = Mapping[str, int]


class Health:
    """Answers from the statuses that were published last.

    Args:
        services: full names.
        most: how many may watch.
        drop: ends the connection of a peer, as grpc names it.
        patience: see `PATIENCE`.
    """

    def __init__(
        self, services: Sequence[str], most: int, drop: Callable[[str], None], patience: float = PATIENCE
    ) -> None:
        self._services = (OVERALL, *services)
        self._most = most
        self._drop = drop
        self._patience = patience
        self._statuses: Statuses = {}
        self._watching: dict[asyncio.Event, str] = {}

    @property
    def methods(self) -> dict[str, Any]:
        """The methods of grpc.health.v1.Health, by method."""
        kind = health_pb2.HealthCheckRequest
        return {"Check": Method(kind, self.check), "Watch": Watch(kind, _subject, self.watch)}

    def publish(self, gateway: Gateway) -> None:
        """Take the statuses as they are now; those who watch hear of it right after."""
        before, self._statuses = self._statuses, _statuses(gateway, self._services)
        for news, service in self._watching.items():
            if before.get(service) != self._statuses.get(service):
                news.set()

    async def check(self, request: health_pb2.HealthCheckRequest, _: Call) -> Any:
        """Return a status; raises ModelNotFound where nothing has that name."""
        status = self._statuses.get(request.service)
        if status is None:
            raise errors.ModelNotFound(
                "health knows no such name; ask for none, a service's full name, or model/NAME"
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(self, service: str, context: Context) -> None:
        """Send a status, and again whenever it has changed; raises RateLimited where too many watch."""
        told: int | None = None
        with self._watched(service) as news:
            while True:
                news.clear()
                status = self._statuses.get(service, SERVICE_UNKNOWN)
                if status != told:
                    await self._write(context, status)
                    told = status
                await news.wait()

    async def _write(self, context: Context, status: int) -> None:
        """Send a status; a peer that does not take it in time loses its connection."""
        timer = asyncio.get_running_loop().call_later(self._patience, self._drop, context.peer())
        try:
            await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
        finally:
            timer.cancel()

    @contextmanager
    def _watched(self, service: str) -> Iterator[asyncio.Event]:
        if len(self._watching) >= self._most:
            message = f"{self._most} health watches are open, the limit (half of SEQSERVE_GRPC_CALLS)"
            raise errors.RateLimited(message, retry_after=1.0, limit="grpc_calls")
        news = asyncio.Event()
        self._watching[news] = service
        try:
            yield news
        finally:
            del self._watching[news]


def _subject(request: health_pb2.HealthCheckRequest) -> str:
    """Return the name that is watched, cut where it is longer than any can be."""
    return str(request.service[:LONGEST_NAME])


def _statuses(gateway: Gateway, services: Sequence[str]) -> dict[str, int]:
    overall = SERVING if gateway.is_ready else NOT_SERVING
    models = {
        f"model/{report.name}": SERVING if gateway.unready(report.name) is None else NOT_SERVING
        for report in gateway.models()
    }
    return {**dict.fromkeys(services, overall), **models}
