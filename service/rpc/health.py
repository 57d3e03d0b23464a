"""What grpc.health.v1 says: of the whole service, of each service, and of each model.

The name `""` and each full service name follow the gateway's readiness; `model/NAME` is SERVING while a
version of that model can be called and the backend is within reach. `/readyz` says the same.
"""

import asyncio
from collections.abc import Mapping, Sequence

from grpc_health.v1 import health, health_pb2

from seqserve.service.core.gateway import Gateway

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Publishes statuses in the order they are given, one task at a time, until `leave`."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs lacks it
        self._services = (health.OVERALL_HEALTH, *services)
        self._published: Mapping[str, int] = {}
        self._wanted: Mapping[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def publish(self, gateway: Gateway) -> None:
        """Take the statuses as they are now; callers hear of them right after. Needs a running loop."""
        gone = dict.fromkeys(self._wanted, SERVICE_UNKNOWN)
        self._wanted = {**gone, **_statuses(gateway, self._services)}
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell(), name="health")

    async def settle(self) -> None:
        """Return when all that was published has been sent to callers."""
        if self._task is not None:
            await self._task

    async def leave(self) -> None:
        """Say NOT_SERVING of everything, for good."""
        await self.settle()
        await self.servicer.enter_graceful_shutdown()

    async def _tell(self) -> None:
        while self._published != self._wanted:
            now = self._wanted
            for service, status in now.items():
                await self.servicer.set(service, status)
            self._published = now


def _statuses(gateway: Gateway, services: Sequence[str]) -> dict[str, int]:
    overall = SERVING if gateway.is_ready else NOT_SERVING
    models = {
        f"model/{report.name}": SERVING if gateway.unready(report.name) is None else NOT_SERVING
        for report in gateway.models()
    }
    return {**dict.fromkeys(services, overall), **models}
