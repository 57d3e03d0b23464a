"""What every REST call crosses, whichever path it is for: plain ASGI round all routes. In this order:

1. The request's id: the caller's `X-Request-Id` or a new one, in every log line and in the response.
2. The deadline.
3. The entrance (`service.edge`): who calls, and whether within limits; hence the `Call` that handlers are
   given. Nothing of the body has been read by then. The access log is written when it is left. Of a path
   that is open nobody is asked. Who is refused very often is told so late.
4. The form of an error: a problem, whatever raised it; of a surface, the form that it has of its own. Once an
   answer has begun, it is the server's to cut it off.
5. The response leaves, with the id; to HEAD without its body.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqserve.service import errors
from seqserve.service.core.types import Visit
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.rest.problems import problem

log = logging.getLogger(__name__)
CALL = "seqserve.call"
"""Where a scope carries the `Call`."""
FORM = "seqserve.form"
"""Where a scope carries the form of an error, once a surface has found the call to be its own."""
TRANSPORT = "rest"
NAMING = (b"authorization", b"x-api-key", b"forwarded", b"x-forwarded-for")
"""Headers that may say who calls, as `Credentials` has them."""
TIMEOUT_FORM = re.compile(r"(\d{1,8})([HMSmun])")
TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

Form = Callable[[SeqserveError], Response]
"""How an error is shown."""
Forms = Mapping[str, Form]
"""Those of surfaces, by the first part of their paths."""
NO_FORMS: Forms = {}


class Edge:
    """ASGI application that hands each HTTP call to another one, past the steps above.

    Args:
        default_timeout: seconds that a call may take which comes without a deadline.
        max_timeout: seconds that any call is given at most.
        open_paths: those that anybody may call, as often as they like; None: all.
        forms: of errors, where they are no problems.
    """

    def __init__(
        self,
        app: ASGIApp,
        entrance: Entrance,
        default_timeout: float,
        max_timeout: float,
        open_paths: frozenset[str] | None = frozenset(),
        forms: Forms = NO_FORMS,
    ) -> None:
        self._app = app
        self._entrance = entrance
        self._open_to_all = open_paths is None
        self._open_paths = open_paths or frozenset()
        self._default_timeout = default_timeout
        self._max_timeout = max_timeout
        self._forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there is nothing else here
        headers = dict(scope["headers"])
        echoed = request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        token = REQUEST_ID.set(echoed)
        is_open = self._open_to_all or scope["path"] in self._open_paths
        passing = _Passing(receive, send, echoed.encode(), scope["method"] == "HEAD")
        credentials, deadline = _credentials(scope, headers), partial(self._deadline, headers)
        try:
            with self._entrance.crossing(credentials, TRANSPORT, deadline, echoed, is_open) as call:
                scope[CALL], passing.visit = call, call.visit
                try:
                    await self._app(scope, passing.receive, passing.send)
                except ClientDisconnect:
                    raise errors.Cancelled("the caller went away") from None
        except Exception as error:
            if passing.has_begun:
                raise ours(error) from None
            await self._entrance.held(error)
            await self._form(scope)(ours(error))(scope, receive, passing.send)
        finally:
            REQUEST_ID.reset(token)

    def _form(self, scope: Scope) -> Form:
        form: Form | None = scope.get(FORM)
        return form or self._forms.get(scope["path"].removeprefix("/").partition("/")[0], problem)

    def _deadline(self, headers: Mapping[bytes, bytes]) -> float:
        """Return the absolute deadline that Grpc-Timeout asks for, at most `max_timeout` away."""
        seconds, given = self._default_timeout, headers.get(b"grpc-timeout")
        if given is not None:
            seconds = _seconds(given.decode("latin-1"))
        return asyncio.get_running_loop().time() + min(seconds, self._max_timeout)


class _Passing:
    """What passes the edge with a call: bytes are counted, an answer has the id, one to HEAD has no body."""

    __slots__ = ("_id", "_is_head", "_receive", "_send", "has_begun", "visit")

    def __init__(self, receive: Receive, send: Send, id: bytes, is_head: bool) -> None:
        self._receive = receive
        self._send = send
        self._id = id
        self._is_head = is_head
        self.visit = Visit()
        self.has_begun = False  # the answer

    async def receive(self) -> Message:
        message = await self._receive()
        self.visit.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message["headers"] = [*message["headers"], (b"x-request-id", self._id)]
        elif self._is_head:
            message["body"] = b""
        else:
            self.visit.bytes_out += len(message.get("body", b""))
        await self._send(message)


def _credentials(scope: Scope, headers: Mapping[bytes, bytes]) -> Credentials:
    """Return what a call brings.

    Args:
        headers: the scope's, by name.
    """
    client = scope.get("client")
    address = client[0] if client else ""
    certificate = scope.get("extensions", {}).get("tls", {}).get("client_cert_name") or ""
    if headers.keys().isdisjoint(NAMING):
        return Credentials(address, certificate=certificate)
    given = dict.fromkeys(NAMING, "")
    for name, value in scope["headers"]:
        if name in given:  # one that comes twice is one list (RFC 9110)
            given[name] = (
                f"{given[name]},{value.decode('latin-1')}" if given[name] else value.decode("latin-1")
            )
    authorization, api_key, forwarded, forwarded_for = given.values()
    return Credentials(address, authorization, api_key, forwarded, forwarded_for, certificate)


def _seconds(given: str) -> float:
    match = TIMEOUT_FORM.fullmatch(given)
    if match is None:
        message = f"Grpc-Timeout is {given[:20]!r}; digits and one of H M S m u n are wanted"
        raise errors.OptionOutOfRange(message)
    return int(match[1]) * TIMEOUT_UNITS[match[2]]


def ours(error: Exception) -> SeqserveError:
    """Return an error that may be shown; the log gets one that is not ours."""
    if isinstance(error, SeqserveError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return errors.Unexpected("an unexpected fault; the log has it under the request's id")
