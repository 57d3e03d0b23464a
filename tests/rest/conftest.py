"""The REST door as an ASGI application, over a real gateway whose backend is a callable."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.metrics import Metrics
from seqserve.service.rest.app import create_app
from seqserve.service.settings import Settings
from tests.core.fakes import BUDGET, FakeBackend, as_files, sequence_manifest, totals
from tests.edge.fakes import open_entrance


@dataclass(frozen=True, slots=True)
class Door:
    """Everything that a test looks at; the model is `totals`."""

    app: ASGIApp
    client: httpx.AsyncClient
    gateway: Gateway
    backend: FakeBackend
    metrics: Metrics


Start = Callable[..., Awaitable[Door]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Return what starts a door; keyword arguments are settings."""
    async with AsyncExitStack() as stack:

        async def started(**given: Any) -> Door:
            settings, metrics, backend = Settings(**given), Metrics(CollectorRegistry()), FakeBackend(totals)
            backend.put("totals", 1, as_files(sequence_manifest()))
            backend.gates[1] = asyncio.Event()
            backend.gates[1].set()
            scheduler = Scheduler(backend, BUDGET, metrics, backend_timeout=settings.backend_timeout)
            await stack.enter_async_context(scheduler)
            # what a test has held is let go, so that it can end
            stack.callback(lambda: backend.gates[1].set())
            runner = ItemRunner(scheduler, metrics)
            catalog = Catalog(backend, runner, metrics)
            gateway = Gateway(catalog, runner, metrics, settings.max_items)
            await catalog.refresh()
            app = create_app(gateway, metrics, settings, open_entrance())
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://rest")
            await stack.enter_async_context(client)
            return Door(app, client, gateway, backend, metrics)

        yield started
