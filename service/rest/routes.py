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


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Args:
        path: as OpenAPI writes it; a `{name}` is any text without a slash.
        operation: what `/openapi.json` says of it; None: nothing.
    """

    method: str
    path: str
    handler: Handler
    operation: Operation | None = None
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        form = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path))
        object.__setattr__(self, "pattern", re.compile(form))


class Routes:
    """ASGI application: answers by the first route that fits, below the edge, which forms the errors.

    No layer of a framework stands between; those of one took 0.3 ms of a call's 1.2 (slow core).
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._handler(scope)(request, scope[CALL])
        await response(scope, receive, send)

    def _handler(self, scope: Scope) -> Handler:
        """Return what answers, and leave the path's parameters in the scope.

        Raises:
            RouteNotFound: no route has such a path.
            MethodNotAllowed: those that have it have other methods.
        """
        method, path, allowed = scope["method"], scope["path"], set()
        for route in self._routes:
            match = route.pattern.fullmatch(path)
            if match is not None and route.method == method:
                scope["path_params"] = match.groupdict()
                scope[CALL].visit.method = f"{method} {route.path}"
                return route.handler
            if match is not None:
                allowed.add(route.method)
        where = f"{method} {path[:200]}"
        if not allowed:
            raise errors.RouteNotFound(f"{where}: no such path; /docs lists them")
        raise errors.MethodNotAllowed(f"{where}: the path has no such method", allowed=tuple(sorted(allowed)))
