"""The REST door as one ASGI application: its routes, the edge round them; and a small one for operators."""

from collections.abc import Iterable
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import Tasks
from seqserve.service.core.types import Call
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.entrance import Entrance
from seqserve.service.metrics import Metrics
from seqserve.service.rest import openapi
from seqserve.service.rest.edge import Edge
from seqserve.service.rest.handlers import JSON, Handlers
from seqserve.service.rest.outside import outside
from seqserve.service.rest.pages import page_routes
from seqserve.service.rest.routes import Route, Routes
from seqserve.service.rest.sessions import Sessions, session_routes
from seqserve.service.settings import Settings

MODELS = "/v1/models"
OPENAPI = "openapi.json"
PLACES = ("/{model}", "/{model}/versions/{version}", "/{model}/labels/{label}")
"""Behind MODELS: the ways to name a model version."""


def create_app(
    gateway: Gateway,
    metrics: Metrics,
    settings: Settings,
    entrance: Entrance,
    in_flight: BytesInFlight | None = None,
) -> ASGIApp:
    """Return the door as an ASGI application; all it needs is handed in.

    Where operators have a port of their own, metrics and the pages are left to it.

    Args:
        in_flight: counts what compressed bodies become; None: this door's bodies alone.
    """
    in_flight = in_flight or BytesInFlight(settings.body_bytes_in_flight)
    handlers = Handlers(gateway, metrics.registry, settings, in_flight)
    sessions = _sessions(gateway, settings, in_flight)
    routes = [*_asking(handlers, gateway.tasks), *sessions, *_looking(handlers), *_probing(handlers)]
    if settings.ops_port is None:
        routes += _operating(handlers)
        routes += _describing(routes, gateway.tasks, settings)
    open_paths = frozenset(route.path for route in routes if route.is_open)
    return outside(_edge(routes, settings, entrance, open_paths), settings)


def create_ops_app(gateway: Gateway, metrics: Metrics, settings: Settings, entrance: Entrance) -> ASGIApp:
    """Return what operators may have a port of their own for: health, metrics and pages, open to anybody."""
    in_flight = BytesInFlight(settings.body_bytes_in_flight)
    handlers = Handlers(gateway, metrics.registry, settings, in_flight)
    own = [*_probing(handlers), *_operating(handlers)]
    sessions = _sessions(gateway, settings, in_flight)
    told = [*_asking(handlers, gateway.tasks), *sessions, *_looking(handlers), *own]
    return _edge([*own, *_describing(told, gateway.tasks, settings)], settings, entrance, None)


def _edge(
    routes: list[Route], settings: Settings, entrance: Entrance, open_paths: frozenset[str] | None
) -> ASGIApp:
    return Edge(Routes(routes), entrance, settings.default_timeout, settings.max_timeout, open_paths)


def _asking(handlers: Handlers, tasks: Tasks) -> list[Route]:
    return [
        Route(
            "POST",
            f"{MODELS}{place}:{task.verb}",
            partial(handlers.answer, task),
            openapi.asking(task),
        )
        for place in PLACES
        for task in tasks.values()
    ]


def _sessions(gateway: Gateway, settings: Settings, in_flight: BytesInFlight) -> list[Route]:
    places = tuple(f"{MODELS}{place}" for place in PLACES)
    return session_routes(Sessions(gateway, settings, in_flight), places)


def _looking(handlers: Handlers) -> list[Route]:
    return [
        Route("GET", MODELS, handlers.list_models, openapi.LIST_MODELS),
        Route("GET", MODELS + "/{model}", handlers.get_model, openapi.GET_MODEL),
    ]


def _probing(handlers: Handlers) -> list[Route]:
    return [
        Route("GET", "/healthz", handlers.healthz, openapi.HEALTHZ, is_open=True),
        Route("GET", "/readyz", handlers.readyz, openapi.READYZ, is_open=True),
    ]


def _operating(handlers: Handlers) -> list[Route]:
    return [Route("GET", "/metrics", handlers.metrics, openapi.METRICS)]


def _describing(routes: Iterable[Route], tasks: Tasks, settings: Settings) -> list[Route]:
    """Return the routes that describe others to programs and to people."""
    described = [
        (route.method, route.path, route.operation) for route in routes if route.operation is not None
    ]
    needs_key = settings.keys is not None or settings.jwt_jwks is not None
    content = orjson.dumps(openapi.document(described, tasks, needs_key))

    async def document(request: Request, call: Call) -> Response:
        return Response(content, media_type=JSON)

    return [Route("GET", f"/{OPENAPI}", document, is_open=True), *page_routes(OPENAPI, openapi.TITLE)]
