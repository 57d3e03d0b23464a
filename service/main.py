"""The composition root: build everything, start both doors, leave, drain and stop on SIGTERM or SIGINT.

`run` serves until a signal; `running` is the same without signals, for callers that stop it themselves.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp

from seqserve.service.backend.base import Backend
from seqserve.service.backend.embedded import EmbeddedBackend
from seqserve.service.backend.failed_loads import FailedLoads
from seqserve.service.backend.model_config import ModelConfigFile
from seqserve.service.backend.tfserving import TfServingBackend, Tls as BackendTls
from seqserve.service.backend.threads import cores
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.queue import Budget
from seqserve.service.core.readiness import Readiness
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.sessions.sessions import Bounds, Sessions
from seqserve.service.core.sessions.store import MemoryStore, Store
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.descriptors import OPS_CONNECTIONS
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.memory import Memory
from seqserve.service.edge.recognizer import Recognizer
from seqserve.service.edge.tls import Tls, certificate_name
from seqserve.service.followed import read_file
from seqserve.service.logs import LinesDropped
from seqserve.service.metrics import Metrics
from seqserve.service.rest.app import create_app, create_ops_app
from seqserve.service.rest.server import RestServer
from seqserve.service.rpc.server import RpcServer
from seqserve.service.settings import Settings, naming
from seqserve.service.stopping import CLOSING_SECONDS, STEP_SECONDS, Bound, settle, within

log = logging.getLogger(__name__)
YOUNG_OBJECTS = 10_000
"""New objects after which cycles are looked for among them. Requests have none, but a hundred objects or two
each while they wait: after 700, as is Python's rule, those of 64 callers were walked ten times a batch."""
CALLS = 2
"""Batches at each address of a model server, or on this process's GPU: one computes, one is prepared."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started service: what it answers with, and where it listens."""

    gateway: Gateway
    catalog: Catalog
    rest: RestServer
    rpc: RpcServer
    rest_port: int
    grpc_port: int
    ops_port: int | None

    def leave(self) -> None:
        """Say at both doors that callers may not be sent here any more; those who come are still answered."""
        self.gateway.leave()
        self.rest.leave()
        self.rpc.publish()


@asynccontextmanager
async def running(settings: Settings, backend: Backend | None = None) -> AsyncIterator[Running]:
    """Start the service and yield it with every version examined once; on exit drain it and stop.

    Args:
        backend: instead of the one that the settings describe.

    Raises:
        SettingsUnusable: a file that the settings name cannot be read.
        OSError: a port cannot be bound.
    """
    metrics = Metrics(_registry())
    backend = backend or make_backend(settings, metrics)
    budget = Budget(settings.max_batch_rows, settings.max_batch_cells, settings.max_queue_cells)
    scheduler = Scheduler(backend, budget, metrics, backend_timeout=settings.backend_timeout)
    runner = ItemRunner(scheduler, metrics, max_request_cells=settings.max_request_cells)
    readiness = Readiness(backend, settings.ready_models, settings.ready_grace_seconds)
    catalog = Catalog(backend, runner, metrics, settings.device, readiness=readiness)
    limits = make_limits(settings)
    store = make_store(settings, metrics)
    sessions = Sessions(catalog, runner, store, metrics, session_bounds(settings))
    gateway = Gateway(catalog, runner, metrics, settings.max_items, limits=limits, sessions=sessions)
    tls = Tls.of(settings, metrics.registry)
    access_log = AccessLog(settings.access_log)
    entrance = Entrance(Recognizer.of(settings), limits, access_log, metrics)
    in_flight = BytesInFlight(settings.body_bytes_in_flight, Memory.of_glibc().left)
    rest_server = RestServer(
        create_app(gateway, metrics, settings, entrance, in_flight),
        settings,
        metrics,
        entrance,
        in_flight,
        tls=tls.ssl_context() if tls is not None else None,
        certificate=certificate_name,
    )
    ops = create_ops_app(gateway, metrics, settings, entrance)
    # exited from the last to the first: the doors answer until the scheduler has ended, the backend goes last
    async with (
        _flushed(access_log),
        _closing(backend, "the backend"),
        _closing(store, "the store of sessions"),
        _ops(ops, settings, metrics, entrance, in_flight) as ops_port,
        _rest(rest_server) as (rest, rest_port),
        _rpc(gateway, catalog, settings, entrance, in_flight, tls) as (rpc, grpc_port),
        _scheduling(scheduler),
        _watched(catalog, settings.poll_seconds),
    ):
        service = Running(gateway, catalog, rest, rpc, rest_port, grpc_port, ops_port)
        yield service
        service.leave()
        await gateway.drain(settings.drain_seconds)


def make_limits(settings: Settings) -> Limits:
    """Return the limits of each principal."""
    shares = Shares(
        settings.principal_requests_per_second,
        settings.principal_cells_per_second,
        settings.principal_requests,
        settings.principal_cells,
        settings.principal_refusals_per_second,
    )
    return Limits(shares)


def session_bounds(settings: Settings) -> Bounds:
    """Return what a session may be."""
    return Bounds(settings.session_seconds, settings.session_replay_events, settings.session_bytes)


def make_store(settings: Settings, metrics: Metrics) -> Store:
    """Return where sessions are kept; raises SettingsUnusable where what the settings name cannot be used."""
    if settings.sessions:
        with naming("sessions", settings.sessions):
            password = _pem("sessions_password_file", settings.sessions_password_file) or b""
            return _redis(settings.sessions, settings.session_seconds, password.decode().strip())
    return MemoryStore(settings.session_memory_bytes, settings.session_seconds, metrics)


def _redis(url: str, seconds: float, password: str) -> Store:
    try:
        from seqserve.service.core.sessions.redis_store import RedisStore
    except ModuleNotFoundError as error:
        raise ValueError("needs an extra: pip install 'seqserve[redis]'") from error
    return RedisStore(url, seconds, password)


def make_backend(settings: Settings, metrics: Metrics, count_cores: Callable[[], int] = cores) -> Backend:
    """Return TensorFlow Serving where the settings name it, else the models in this process.

    Args:
        count_cores: returns how many batches to run at once in this process where it has no GPU.

    Raises:
        SettingsUnusable: a file that the settings name cannot be read.
    """
    config, path = None, settings.model_config_file
    if path is not None:
        with naming("model_config_file", path):
            config = ModelConfigFile(path)
    if not settings.tfserving_addresses:
        slots = settings.slots or (CALLS if settings.device == "gpu" else count_cores())
        return EmbeddedBackend(settings.root, threads=slots, config=config)
    return TfServingBackend(
        settings.tfserving_addresses,
        lambda: sorted(config.entries()) if config is not None else settings.model_names,
        metrics,
        calls=settings.slots or CALLS,
        tls=_tls(settings),
        failed_loads=FailedLoads(config, settings.tfserving_root),
    )


def _tls(settings: Settings) -> BackendTls | None:
    """Return the certificates of the channels to TensorFlow Serving, where they are to be encrypted."""
    ca = _pem("tfserving_ca", settings.tfserving_ca)
    cert, key = _pem("tfserving_cert", settings.tfserving_cert), _pem("tfserving_key", settings.tfserving_key)
    return None if ca is None else BackendTls(ca, cert, key)


def _pem(field: str, path: Path | None) -> bytes | None:
    with naming(field, path):
        return None if path is None else read_file(path)


@asynccontextmanager
async def _flushed(access_log: AccessLog) -> AsyncIterator[None]:
    try:
        yield
    finally:
        access_log.flush()


@asynccontextmanager
async def _closing(part: Backend | Store, name: str) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await within(part.close(), name)


@asynccontextmanager
async def _scheduling(scheduler: Scheduler) -> AsyncIterator[None]:
    await scheduler.__aenter__()
    try:
        yield
    finally:
        await within(scheduler.__aexit__(), "the batches under way")


@asynccontextmanager
async def _rpc(
    gateway: Gateway,
    catalog: Catalog,
    settings: Settings,
    entrance: Entrance,
    in_flight: BytesInFlight,
    tls: Tls | None,
) -> AsyncIterator[tuple[RpcServer, int]]:
    """Serve the gRPC door, and yield it with its port."""
    rpc = RpcServer(gateway, settings, entrance, in_flight, tls=tls)
    catalog.on_change = rpc.publish
    port = await rpc.start()
    try:
        yield rpc, port
    finally:
        await within(rpc.stop(grace=STEP_SECONDS / 2), "the gRPC door")


@asynccontextmanager
async def _watched(catalog: Catalog, seconds: float) -> AsyncIterator[None]:
    """Examine every version once, then follow the backend until the end."""
    try:
        await catalog.look()
        watch = asyncio.create_task(catalog.watch(seconds), name="catalog")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch}, timeout=STEP_SECONDS)
    finally:
        await within(catalog.close(), "the catalog")


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(LinesDropped())
    return registry


@asynccontextmanager
async def _rest(rest: RestServer) -> AsyncIterator[tuple[RestServer, int]]:
    """Serve the REST door, and yield it with its port."""
    port = await rest.start()
    try:
        yield rest, port
    finally:
        await within(rest.stop(grace=STEP_SECONDS / 4), "the REST door")


@asynccontextmanager
async def _ops(
    app: ASGIApp, settings: Settings, metrics: Metrics, entrance: Entrance, in_flight: BytesInFlight
) -> AsyncIterator[int | None]:
    """Serve operators on a port of their own, without TLS, and yield it; None: the settings name none."""
    if settings.ops_port is None:
        yield None
        return
    port, most = settings.ops_port, OPS_CONNECTIONS
    server = RestServer(app, settings, metrics, entrance, in_flight, port=port, connections=most)
    async with _rest(server) as (_, taken):
        yield taken


def run(settings: Settings, on_start: Callable[[Running], None]) -> None:
    """Serve until SIGTERM or SIGINT; `on_start` is called once every version has been examined.

    From the signal on the service is unready. For `settings.lame_duck` seconds it answers new calls, for at
    most `settings.drain_seconds` those that are open, and closes. A signal during the start, or a second one,
    ends it without that. What still hangs CLOSING_SECONDS later is ended by force, with status 1.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(settings, on_start))


async def _until_signalled(settings: Settings, on_start: Callable[[Running], None]) -> None:
    loop, stop, started = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    bound = Bound()

    async def serve() -> None:
        async with running(settings) as service:
            log.info("serving", extra={"fields": {"rest": service.rest_port, "grpc": service.grpc_port}})
            on_start(service)
            started.set()
            gc.collect()
            gc.freeze()  # else every full collection walks all objects of TensorFlow: 280 ms
            gc.set_threshold(YOUNG_OBJECTS)
            await stop.wait()
            log.info("leaving", extra={"fields": {"answers_for_seconds": settings.lame_duck}})
            service.leave()
            await settle(settings.lame_duck)
            log.info("draining")

    serving = asyncio.create_task(serve(), name="service")

    def end() -> None:
        if stop.is_set() or not started.is_set():
            serving.cancel()
            bound.within(CLOSING_SECONDS)
        else:
            bound.within(settings.lame_duck + settings.drain_seconds + CLOSING_SECONDS)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
