"""The REST door as one ASGI application: its routes, the edge round them; and a small one for operators."""

from collections.abc import Iterable
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import SEQUENCE, Tasks
from seqserve.service.core.types import Call
from seqserve.service.edge.bytes_in_flight import BytesInFlight
from seqserve.service.edge.entrance import Entrance
from seqserve.service.metrics import Metrics
from seqserve.service.rest import openapi
from seqserve.service.rest.bodies import JSON, Bodies
from seqserve.service.rest.edge import Edge
from seqserve.service.rest.handlers import Handlers
from seqserve.service.rest.outline import Bounds
from seqserve.service.rest.outside import outside
from seqserve.service.rest.pages import page_routes
from seqserve.service.rest.routes import Route, Routes
from seqserve.service.rest.sessions import Sessions, session_routes
from seqserve.service.rest.surfaces import libretranslate, openinference, tfserving
from seqserve.service.rest.surfaces.errors import error_object
from seqserve.service.settings import Settings

MODELS = "/v1/models"
OPENAPI = "openapi.json"
PLACES = ("/{model}", "/{model}/versions/{version}", "/{model}/labels/{label}")
"""Behind MODELS: the ways to name a model version."""
FORMS = dict.fromkeys((*libretranslate.PLACES, openinference.PLACE), error_object)
"""Of errors, by the first part of the paths of surfaces."""


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
    bodies = _bodies(settings, in_flight)
    handlers = Handlers(gateway, metrics.registry, bodies)
    routes = [*_calling(gateway, handlers, bodies, settings), *_probing(handlers)]
    if settings.ops_port is None:
        routes += _operating(handlers)
        routes += _describing(routes, gateway.tasks, settings)
    open_paths = frozenset(route.path for route in routes if route.is_open)
    return outside(_edge(routes, settings, entrance, open_paths), settings)


def create_ops_app(gateway: Gateway, metrics: Metrics, settings: Settings, entrance: Entrance) -> ASGIApp:
    """Return what operators may have a port of their own for: health, metrics and pages, open to anybody."""
    bodies = _bodies(settings, BytesInFlight(settings.body_bytes_in_flight))
    handlers = Handlers(gateway, metrics.registry, bodies)
    own = [*_probing(handlers), *_operating(handlers)]
    told = [*_calling(gateway, handlers, bodies, settings), *own]
    return _edge([*own, *_describing(told, gateway.tasks, settings)], settings, entrance, None)


def _bodies(settings: Settings, in_flight: BytesInFlight) -> Bodies:
    bounds = Bounds(settings.max_message_bytes, settings.max_json_marks, settings.max_items)
    return Bodies(in_flight, bounds)


def _edge(
    routes: list[Route], settings: Settings, entrance: Entrance, open_paths: frozenset[str] | None
) -> ASGIApp:
    times = (settings.default_timeout, settings.max_timeout)
    return Edge(Routes(routes), entrance, *times, open_paths, FORMS)


def _calling(gateway: Gateway, handlers: Handlers, bodies: Bodies, settings: Settings) -> list[Route]:
    """Return the routes of models; those with a verb come first, as any text without a slash is a name."""
    sessions = Sessions(gateway, bodies, settings.max_append_bytes)
    return [
        *_asking(gateway, handlers, bodies),
        *session_routes(sessions, tuple(f"{MODELS}{place}" for place in PLACES)),
        *_surfaces(gateway, bodies),
        *_looking(handlers),
    ]


def _asking(gateway: Gateway, handlers: Handlers, bodies: Bodies) -> list[Route]:
    """Return the routes of each task; one of them is TensorFlow Serving's too."""
    shared = {SEQUENCE.verb: partial(tfserving.predict, gateway, bodies)}
    return [
        Route(
            "POST",
            f"{MODELS}{place}:{task.verb}",
            shared.get(task.verb) or partial(handlers.answer, task),
            openapi.asking(task),
        )
        for place in PLACES
        for task in gateway.tasks.values()
    ]


def _surfaces(gateway: Gateway, bodies: Bodies) -> list[Route]:
    """Return the routes of other protocols."""
    return [
        *libretranslate.routes(gateway, bodies),
        *openinference.routes(gateway, bodies),
        *tfserving.routes(gateway, bodies, MODELS, PLACES),
    ]


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
