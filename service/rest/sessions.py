"""Sessions by REST: their bodies, handlers and routes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from seqserve.service.contract.items import AppendBody, Body, answer_as_json
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.sessions.session import Session
from seqserve.service.core.sessions.sessions import Append
from seqserve.service.core.sessions.steps import Options
from seqserve.service.core.tasks import SEQUENCE
from seqserve.service.core.types import Call
from seqserve.service.rest import openapi
from seqserve.service.rest.bodies import Bodies, Kind, has_body, read_small
from seqserve.service.rest.handlers import as_json, model_ref
from seqserve.service.rest.routes import Route


class CreateBody(Body):
    """Nothing: the path says all, and the body may be left out."""


class Sessions:
    """What the routes of sessions lead to.

    Args:
        most_bytes: of an append's body.
    """

    def __init__(self, gateway: Gateway, bodies: Bodies, most_bytes: int) -> None:
        self._gateway = gateway
        self._bodies = bodies
        self._most_bytes = most_bytes

    async def create(self, request: Request, call: Call) -> Response:
        """Make a session."""
        if has_body(request):
            async with self._bodies.read(request, call, self._form(CreateBody)):
                pass
        return _answer(await self._gateway.create_session(model_ref(request), call))

    async def append(self, request: Request, call: Call) -> Response:
        """Append the events of a body, and answer after the last of them."""
        ref = model_ref(request)
        self._gateway.check_room(SEQUENCE, ref, call)
        async with self._bodies.read(request, call, self._form(AppendBody)) as body:
            options = Options(body.top_k, None if body.heads is None else tuple(body.heads))
            asked = Append(body.first_event, body.sequence, options)
            appended = await self._gateway.append(ref, request.path_params["session"], asked, call)
        return _answer(appended.session, prediction=answer_as_json(appended.prediction))

    async def get(self, request: Request, call: Call) -> Response:
        """Return a session."""
        session = await self._gateway.session(model_ref(request), request.path_params["session"], call)
        return _answer(session)

    async def delete(self, request: Request, call: Call) -> Response:
        """Forget a session."""
        await self._gateway.delete_session(model_ref(request), request.path_params["session"], call)
        return as_json({})

    def _form(self, kind: type[Kind]) -> Callable[..., Awaitable[Kind]]:
        """Return what reads a body of a kind, as `Bodies.read` takes it."""
        return partial(read_small, kind, self._most_bytes, "max_append_bytes")


def session_routes(sessions: Sessions, places: tuple[str, ...]) -> list[Route]:
    """Return the routes of sessions.

    Args:
        places: the ways to name a model version.
    """
    return [route for place in places for route in _routes(sessions, f"{place}/sessions")]


def _routes(sessions: Sessions, path: str) -> list[Route]:
    one = path + "/{session}"
    return [
        Route("POST", path, sessions.create, openapi.CREATE_SESSION),
        Route("POST", f"{one}:append", sessions.append, openapi.APPEND),
        Route("GET", one, sessions.get, openapi.GET_SESSION),
        Route("DELETE", one, sessions.delete, openapi.DELETE_SESSION),
    ]


def _answer(session: Session, **others: Any) -> Response:
    """Return a session, and what is answered beside it."""
    expires = datetime.fromtimestamp(session.expires, UTC).isoformat(timespec="milliseconds")
    shown = {
        "id": session.id,
        "model": {"name": session.ref.name, "version": session.version, "digest": session.digest},
        "next_event": session.next_event,
        "expires": expires.replace("+00:00", "Z"),
    }
    return as_json({"session": shown, **others})
