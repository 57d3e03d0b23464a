"""The pages that describe the REST door to people: Swagger UI and ReDoc, with all they need shipped.

Every address in them is relative, so that they work under any path of a proxy and without internet. The
scripts and styles are those of the package fastapi-offline (npm's swagger-ui-dist and redoc), as files.
"""

import base64
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from seqserve.service.core.types import Call
from seqserve.service.rest.routes import Handler, Route

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png")
AT = "docs/"
"""Where the assets lie, seen from the pages."""
CACHED = "public, max-age=86400"
SECURITY_POLICY = (
    "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; connect-src 'self'; img-src 'self' data:; "
    "font-src data:; style-src 'self' 'unsafe-inline'; worker-src blob:; script-src 'self'"
)
"""The pages get nothing from elsewhere, and run no script but the shipped ones and their own."""


def page_routes(openapi: str, title: str) -> list[Route]:
    """Return `/docs`, `/redoc` and what they load.

    Args:
        openapi: where the description lies, seen from the pages.
    """
    swagger = get_swagger_ui_html(
        openapi_url=openapi,
        title=f"{title} - Swagger UI",
        swagger_js_url=AT + "swagger-ui-bundle.js",
        swagger_css_url=AT + "swagger-ui.css",
        swagger_favicon_url=AT + "favicon.png",
        swagger_ui_parameters={"validatorUrl": None},  # which is on the internet
    )
    redoc = get_redoc_html(
        openapi_url=openapi,
        title=f"{title} - ReDoc",
        redoc_js_url=AT + "redoc.standalone.js",
        redoc_favicon_url=AT + "favicon.png",
        with_google_fonts=False,
    )
    pages = [("/docs", _page(bytes(swagger.body))), ("/redoc", _page(bytes(redoc.body)))]
    assets = [(f"/{AT}{name}", _asset(name)) for name in ASSETS]
    return [Route("GET", path, handler, is_open=True) for path, handler in (*pages, *assets)]


def _page(content: bytes) -> Handler:
    inline = re.findall(rb"<script>(.*?)</script>", content, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in inline)
    allowed = "".join(f" 'sha256-{digest}'" for digest in hashes)
    headers = {"Content-Security-Policy": SECURITY_POLICY + allowed, "X-Content-Type-Options": "nosniff"}

    async def page(request: Request, call: Call) -> Response:
        return Response(content, media_type="text/html", headers=headers)

    return page


def _asset(name: str) -> Handler:
    headers = {"Cache-Control": CACHED, "X-Content-Type-Options": "nosniff"}

    async def asset(request: Request, call: Call) -> Response:
        return FileResponse(_folder() / name, headers=headers)

    return asset


@cache
def _folder() -> Path:
    """Return where the assets lie; the package itself is not run."""
    spec = find_spec("fastapi_offline")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"
