"""The REST door: a FastAPI application and, past its layers, the two calls. Built by `service.main`.

Conversion and nothing else.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqserve.service import errors
from seqserve.service.contract.items import PredictBody, TranslateBody, answers_as_json
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.types import Answered, Call, ModelRef
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.metrics import Metrics
from seqserve.service.rest import openapi
from seqserve.service.rest.bodies import Kind, checked, read_json
from seqserve.service.rest.models import model_as_json
from seqserve.service.rest.problems import problem
from seqserve.service.settings import Settings

log = logging.getLogger(__name__)
JSON = "application/json"
TIMEOUT_FORM = re.compile(r"(\d{1,8})([HMSmun])")
TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
LONGEST_NUMBER = 18
"""Digits of a version number that can be one: the next longer ones do not fit 64 bits."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


CALL = re.compile(
    r"/v1/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))?:(?P<verb>translate|predict)"
)


def create_app(gateway: Gateway, metrics: Metrics, settings: Settings) -> ASGIApp:
    """Return the door as an ASGI application; all it needs is handed in."""
    app = FastAPI(
        title="seqserve",
        version=openapi.VERSION,
        description=openapi.DESCRIPTION,
        redirect_slashes=False,  # a redirect would repeat the caller's own Host header
    )
    door = Door(gateway, metrics, settings)
    models = "/v1/models"
    routes: list[tuple[str, str, Handler, dict[str, Any]]] = []
    # the two calls are here for /docs, and for 405 on another method: `Front` answers them
    for place in ("/{model}", "/{model}/versions/{version}", "/{model}/labels/{label}"):
        routes.append(("POST", f"{models}{place}:translate", door.translate, openapi.TRANSLATE))
        routes.append(("POST", f"{models}{place}:predict", door.predict, openapi.PREDICT))
    routes += [
        ("GET", models, door.list_models, openapi.LIST_MODELS),
        ("GET", models + "/{model}", door.get_model, openapi.GET_MODEL),
        ("GET", "/healthz", door.healthz, openapi.HEALTHZ),
        ("GET", "/readyz", door.readyz, openapi.READYZ),
        ("GET", "/metrics", door.metrics, openapi.METRICS),
    ]
    for method, path, handler, described in routes:
        app.add_api_route(path, handler, methods=[method], response_class=Response, **described)
    app.add_exception_handler(errors.SeqserveError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_edge)
    app.add_middleware(RequestId)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return Front(app, door)


class Front:
    """ASGI: the calls go to their handlers, past the framework's layers; all else is the application's.

    The layers take 0.3 ms of a call's 1.2 (slow core), as long as tokenizing and decoding do.
    """

    def __init__(self, app: ASGIApp, door: "Door") -> None:
        self._app = app
        self._handlers = {"translate": door.translate, "predict": door.predict}
        self._called = RequestId(self._call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and scope["method"] == "POST":
            found = CALL.fullmatch(scope["path"])
        if found is None:
            return await self._app(scope, receive, send)
        scope["path_params"] = found.groupdict()
        await self._called(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._handlers[scope["path_params"]["verb"]](request)
        except errors.SeqserveError as error:
            response = problem(error)
        await response(scope, receive, send)


class Door:
    """The handlers: each reads a request, calls the gateway, writes the answer."""

    def __init__(self, gateway: Gateway, metrics: Metrics, settings: Settings) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._settings = settings

    async def healthz(self, request: Request) -> Response:
        """Tell that the process is alive."""
        return _json({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """Tell whether callers, or with `?model=NAME` those of one model, may be sent here; if not, why."""
        fault = self._gateway.unready(request.query_params.get("model"))
        if fault is not None:
            raise fault
        return _json({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def list_models(self, request: Request) -> Response:
        """Return every model, with its versions and what it takes."""
        return _json({"models": [model_as_json(report) for report in self._gateway.models()]})

    async def get_model(self, request: Request) -> Response:
        """Return one model, with its versions and what it takes."""
        return _json(model_as_json(self._gateway.model(request.path_params["model"])))

    async def translate(self, request: Request) -> Response:
        """Translate texts."""
        call, ref = self._call(request), _ref(request)
        self._gateway.check_room("translate", ref, call)
        body = await self._read(request, TranslateBody, "texts", call)
        answered = await _unless_gone(request, self._gateway.translate(ref, body, call))
        return _answer(answered, "translations")

    async def predict(self, request: Request) -> Response:
        """Predict from sequences."""
        call, ref = self._call(request), _ref(request)
        self._gateway.check_room("predict", ref, call)
        body = await self._read(request, PredictBody, "sequences", call)
        answered = await _unless_gone(request, self._gateway.predict(ref, body, call))
        return _answer(answered, "predictions")

    async def _read(self, request: Request, kind: type[Kind], member: str, call: Call) -> Kind:
        """Read a body within the call's deadline; how many items it has is checked before they are."""
        try:
            async with asyncio.timeout_at(call.deadline):
                table = await read_json(request, self._settings.max_message_bytes)
        except TimeoutError:
            raise errors.DeadlineExceeded("the deadline passed before the body had come") from None
        items = table.get(member)
        self._gateway.check_count(member, len(items) if isinstance(items, list) else 0)
        return checked(table, kind)

    def _call(self, request: Request) -> Call:
        """Return the absolute deadline that Grpc-Timeout asks for, at most `max_timeout` away."""
        seconds = self._settings.default_timeout
        given = request.headers.get("grpc-timeout")
        if given is not None:
            found = TIMEOUT_FORM.fullmatch(given)
            if found is None:
                message = f"Grpc-Timeout is {given[:20]!r}; digits and one of H M S m u n are wanted"
                raise errors.OptionOutOfRange(message)
            seconds = int(found[1]) * TIMEOUT_UNITS[found[2]]
        seconds = min(seconds, self._settings.max_timeout)
        return Call("rest", asyncio.get_running_loop().time() + seconds)


class RequestId:
    """ASGI middleware: X-Request-Id in and out, and the last word where something unexpected happens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        echoed = request_id(given)
        token = REQUEST_ID.set(echoed)

        async def echo(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", echoed.encode())]
            await send(message)

        try:
            await self._app(scope, receive, echo)
        except ClientDisconnect:
            log.info("the caller went away while its body was read")
        except Exception:
            log.exception("a request failed unexpectedly")
            fault = errors.Unexpected("an unexpected fault; the log has it under the request's id")
            await problem(fault)(scope, receive, echo)
        finally:
            REQUEST_ID.reset(token)


async def _unless_gone(request: Request, work: Awaitable[Answered]) -> Answered:
    """Await an answer, and cancel the work as soon as the caller has gone."""
    me, has_gone = asyncio.current_task(), False
    assert me is not None  # a handler runs in a task

    def stop(watch: asyncio.Task[None]) -> None:
        nonlocal has_gone
        has_gone = not watch.cancelled()
        if has_gone:
            me.cancel()

    watch = asyncio.create_task(_gone(request))
    watch.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if has_gone and not me.uncancel():
            raise errors.Cancelled("the caller went away") from None
        raise
    finally:
        watch.remove_done_callback(stop)
        watch.cancel()


async def _gone(request: Request) -> None:
    """Return when the connection is closed; the body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _ref(request: Request) -> ModelRef:
    given = request.path_params
    version = given.get("version")
    if version is None:
        return ModelRef(given["model"], label=given.get("label"))
    if not (version.isdecimal() and version.isascii() and len(version) <= LONGEST_NUMBER):
        raise errors.VersionNotFound(f"version {version[:20]!r} is not a number")
    return ModelRef(given["model"], int(version))


def _answer(answered: Answered, member: str) -> Response:
    model = {"name": answered.model, "version": answered.version, "digest": answered.digest}
    return _json({"model": model, member: answers_as_json(answered.items)})


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.SeqserveError)
    return problem(error)


async def _answer_edge(request: Request, error: Exception) -> Response:
    """Give the router's own errors our form."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 405:
        response = problem(errors.MethodNotAllowed(f"{where}: the path has no such method"))
        response.headers.update(error.headers or {})
        return response
    return problem(errors.RouteNotFound(f"{where}: no such path; /docs lists them"))


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(openapi.schemas())
        app.openapi_schema = schema
    return app.openapi_schema
