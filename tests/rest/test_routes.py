"""Paths: which route answers, with which parameters, and what is said where none does."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from seqserve.service import errors
from seqserve.service.core.types import Call
from seqserve.service.rest.edge import CALL
from seqserve.service.rest.routes import Handler, Route, Routes


def named(name: str) -> Handler:
    """Return a handler that tells its name and the path's parameters."""

    async def handler(request: Request, call: Call) -> Response:
        return JSONResponse([name, request.path_params, call.transport])

    return handler


ROUTES = Routes(
    [
        Route("POST", "/m/{model}:ask", named("ask")),
        Route("POST", "/m/{model}/v/{version}:ask", named("ask a version")),
        Route("GET", "/m/{model}", named("show")),
        Route("DELETE", "/m/{model}", named("drop")),
        Route("GET", "/page.json", named("page")),
    ]
)


async def asked(method: str, path: str) -> Any:
    """Return what a path answers."""
    return (await sent_by(ROUTES, method, path))[1]["body"].decode()


async def sent_by(routes: Routes, method: str, path: str) -> list[Message]:
    """Return the messages that a response consists of."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], CALL: Call("rest", 0.0)}
    await routes(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/m/a:ask", '["ask",{"model":"a"},"rest"]'),
        ("POST", "/m/a:b:ask", '["ask",{"model":"a:b"},"rest"]'),
        ("POST", "/m/a/v/3:ask", '["ask a version",{"model":"a","version":"3"},"rest"]'),
        ("GET", "/m/a", '["show",{"model":"a"},"rest"]'),
        ("GET", "/m/a:b", '["show",{"model":"a:b"},"rest"]'),
        ("HEAD", "/m/a", '["show",{"model":"a"},"rest"]'),
        ("DELETE", "/m/a", '["drop",{"model":"a"},"rest"]'),
        ("GET", "/page.json", '["page",{},"rest"]'),
    ],
)
async def test_the_route_that_fits_answers(method: str, path: str, answer: str) -> None:
    assert await asked(method, path) == answer


@pytest.mark.parametrize(
    "path", ["/", "/m/", "/m/a/", "/m/a/b:ask", "/m/a/v/3", "/pageXjson", "/page.json\n"]
)
async def test_a_path_that_there_is_not(path: str) -> None:
    with pytest.raises(errors.RouteNotFound, match="GET /"):
        await asked("GET", path)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/m/a:ask/", r"without the slash too many it is /m/a:ask$"),
        ("//m//a", r"without the slash too many it is /m/a$"),
        ("/page.json/", r"it is /page.json$"),
        ("/m/", "/docs lists them$"),
        ("//nothing/", "/docs lists them$"),
    ],
)
async def test_a_slash_too_many_is_named(path: str, told: str) -> None:
    """The right path stands in the error, where there is one."""
    with pytest.raises(errors.RouteNotFound, match=told):
        await asked("POST", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed", "told"),
    [
        ("PUT", "/m/a", ("DELETE", "GET", "HEAD", "OPTIONS"), "/docs"),
        ("POST", "/page.json", ("GET", "HEAD", "OPTIONS"), "/docs"),
        ("GET", "/m/a/v/3:ask", ("OPTIONS", "POST"), "POST it"),
        ("GET", "/m/a:ask", ("OPTIONS", "POST"), "POST it"),
        ("HEAD", "/m/a:ask", ("OPTIONS", "POST"), "POST it"),
    ],
)
async def test_a_method_that_a_path_has_not(
    method: str, path: str, allowed: tuple[str, ...], told: str
) -> None:
    """Those that it has are told, to whoever asks by OPTIONS too; a path that is posted to is that alone."""
    with pytest.raises(errors.MethodNotAllowed, match=told) as caught:
        await asked(method, path)
    assert caught.value.allowed == allowed
    assert (await sent_by(ROUTES, "OPTIONS", path))[0]["headers"] == [(b"allow", ", ".join(allowed).encode())]
