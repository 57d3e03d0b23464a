"""The REST door: its routes, and the edge round them, as one ASGI application."""

from functools import partial

import orjson
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from seqserve.service.core.gateway import Gateway
from seqserve.service.core.tasks import Tasks
from seqserve.service.core.types import Call
from seqserve.service.edge.entrance import Entrance
from seqserve.service.metrics import Metrics
from seqserve.service.rest import openapi
from seqserve.service.rest.edge import Edge
from seqserve.service.rest.handlers import JSON, Handlers
from seqserve.service.rest.routes import Handler, Route, Routes
from seqserve.service.settings import Settings

MODELS = "/v1/models"
OPENAPI = "/openapi.json"
PLACES = ("/{model}", "/{model}/versions/{version}", "/{model}/labels/{label}")
"""Behind MODELS: the ways to name a model version."""


def create_app(gateway: Gateway, metrics: Metrics, settings: Settings, entrance: Entrance) -> ASGIApp:
    """Return the door as an ASGI application; all it needs is handed in."""
    handlers = Handlers(gateway, metrics.registry, settings.max_message_bytes)
    routes = [*_asking(handlers, gateway.tasks), *_looking(handlers)]
    routes += _describing(routes, gateway.tasks)
    return Edge(Routes(routes), entrance, settings.default_timeout, settings.max_timeout)


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


def _looking(handlers: Handlers) -> list[Route]:
    return [
        Route("GET", MODELS, handlers.list_models, openapi.LIST_MODELS),
        Route("GET", MODELS + "/{model}", handlers.get_model, openapi.GET_MODEL),
        Route("GET", "/healthz", handlers.healthz, openapi.HEALTHZ),
        Route("GET", "/readyz", handlers.readyz, openapi.READYZ),
        Route("GET", "/metrics", handlers.metrics, openapi.METRICS),
    ]


def _describing(routes: list[Route], tasks: Tasks) -> list[Route]:
    """Return the routes that describe the others to programs and to people."""
    described = [
        (route.method, route.path, route.operation) for route in routes if route.operation is not None
    ]
    swagger = get_swagger_ui_html(openapi_url=OPENAPI, title=f"{openapi.TITLE} - Swagger UI")
    redoc = get_redoc_html(openapi_url=OPENAPI, title=f"{openapi.TITLE} - ReDoc")
    return [
        Route("GET", OPENAPI, _page(orjson.dumps(openapi.document(described, tasks)), JSON)),
        Route("GET", "/docs", _page(bytes(swagger.body), "text/html")),
        Route("GET", "/redoc", _page(bytes(redoc.body), "text/html")),
    ]


def _page(content: bytes, media_type: str) -> Handler:
    async def page(request: Request, call: Call) -> Response:
        return Response(content, media_type=media_type)

    return page
