"""The REST door's paths: one table, which calls are dispatched by and `/openapi.json` is made from.

A surface (another protocol over HTTP) is a further list of rows.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seqserve.service import errors
from seqserve.service.core.types import Call
from seqserve.service.rest.edge import CALL
from seqserve.service.rest.openapi import Operation

Handler = Callable[[Request, Call], Awaitable[Response]]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "-"
"""Stands in the access log for a method that is none of these."""
LONGEST_SHOWN = 200
"""Characters of a path that an error shows."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        path: as OpenAPI writes it; a `{name}` is any text without a slash.
        operation: what `/openapi.json` says of it; None: nothing.
        is_open: anybody may, as often as they like: what tells no more than that the service is there.
    """

    method: str
    path: str
    handler: Handler
    operation: Operation | None = None
    is_open: bool = False
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        form = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        object.__setattr__(self, "pattern", re.compile(form))


class Routes:
    """ASGI application: answers by the route that fits, below the edge, which forms the errors.

    The first row whose path fits owns the path: its methods are those of the rows with the same path. HEAD
    is answered as GET, of which the edge leaves the body out, and OPTIONS by the methods that there are.

    No layer of a framework stands between; those of one took 0.3 ms of a call's 1.2 (slow core).
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._places: dict[str, tuple[re.Pattern[str], dict[str, Handler]]] = {}
        for route in routes:
            self._places.setdefault(route.path, (route.pattern, {}))[1][route.method] = route.handler
        for _, handlers in self._places.values():
            if "GET" in handlers:
                handlers.setdefault("HEAD", handlers["GET"])
            handlers.setdefault("OPTIONS", _tells(", ".join(sorted({*handlers, "OPTIONS"}))))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._handler(scope)(request, scope[CALL])
        await response(scope, receive, send)

    def _handler(self, scope: Scope) -> Handler:
        """Return what answers, and leave the path's parameters in the scope.

        Raises:
            RouteNotFound: no route has such a path; one that nearly is it is named.
            MethodNotAllowed: those that have it have other methods.
        """
        method, path = scope["method"], scope["path"]
        for place, (pattern, handlers) in self._places.items():
            match = pattern.fullmatch(path)
            if match is not None:
                scope["path_params"] = match.groupdict()
                scope[CALL].visit.method = f"{method if method in METHODS else OTHER} {place}"
                if method not in handlers:
                    raise _not_allowed(method, path, tuple(sorted(handlers)))
                return handlers[method]
        raise errors.RouteNotFound(f"{_shown(method, path)}: no such path; {self._advice(path)}")

    def _advice(self, path: str) -> str:
        plain = re.sub("/+", "/", path).rstrip("/")
        if plain != path and any(pattern.fullmatch(plain) for pattern, _ in self._places.values()):
            return f"without the slash too many it is {plain[:LONGEST_SHOWN]}"
        return "/docs lists them"


def _not_allowed(method: str, path: str, allowed: tuple[str, ...]) -> errors.MethodNotAllowed:
    advice = "POST it, with a JSON body, as /docs shows" if "POST" in allowed else "/docs lists them"
    message = f"{_shown(method, path)}: the path has the methods {', '.join(allowed)}; {advice}"
    return errors.MethodNotAllowed(message, allowed=allowed)


def _shown(method: str, path: str) -> str:
    return f"{method[:20]} {path[:LONGEST_SHOWN]}"


def _tells(allowed: str) -> Handler:
    async def options(request: Request, call: Call) -> Response:
        return Response(status_code=204, headers={"Allow": allowed})

    return options
