"""What stands round the REST door's edge where a setting asks for it: a proxy's path, other sites' pages."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from seqserve.service.rest.routes import METHODS
from seqserve.service.settings import Settings

SHOWN_HEADERS = ("X-Request-Id", "Retry-After", "WWW-Authenticate")
"""Response headers that a page's script may read, besides those that it always may."""
PREFLIGHT_SECONDS = 600
"""How long a browser need not ask again."""


def outside(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Return the door as its callers see it: under a prefix, and for scripts of pages from elsewhere."""
    if settings.root_path:
        app = _Prefixed(app, settings.root_path)
    return _shared_with(app, settings.origins) if settings.origins else app


def _shared_with(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of these origins call; a browser's question before the call needs no key.

    Cookies are no credentials here, so none are allowed, and any origin may be named by `*`.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=METHODS[:-1],  # the last is the question itself
        allow_headers=["*"],  # those that the browser asks for
        expose_headers=SHOWN_HEADERS,
        max_age=PREFLIGHT_SECONDS,
    )


class _Prefixed:
    """Reads paths without a prefix, where a proxy has left it on; others as they are."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(self._prefix + "/"):
            scope = {**scope, "path": path[len(self._prefix) :]}
        await self._app(scope, receive, send)
