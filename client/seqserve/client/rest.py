"""The REST door: requests as HTTP has them, answers and problems read back."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import quote
from weakref import WeakSet

import httpx

from seqserve.client import checking, errors, reading
from seqserve.client.access import Access, Tls
from seqserve.client.answers import Answers
from seqserve.client.asking import MEMBERS, Ask, Kind, Which
from seqserve.client.errors import ServiceError, Violation, kind_of

LONGEST_TIMEOUT = 99_999_999
"""Milliseconds: eight digits are the most that the header has."""
PROXIES = {
    413: errors.BodyTooLarge,
    429: errors.ResourceExhausted,
    502: errors.Unavailable,
    503: errors.Unavailable,
}
"""What is meant by the statuses of what stands before a service."""


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    behind: str  # the model's path; `{}` is the session's id
    read: Callable[[Mapping[str, Any]], Any]


def _list_of(member: str, read: Callable[[Mapping[str, Any]], Any]) -> Callable[[Mapping[str, Any]], Any]:
    def answers(given: Mapping[str, Any]) -> Answers[Any]:
        items = (reading.item_error(one["error"]) if "error" in one else read(one) for one in given[member])
        return Answers(reading.model_version(given["model"]), tuple(items))

    return answers


ROUTES = {
    Kind.TRANSLATE: _Route("POST", ":translate", _list_of("translations", reading.translation)),
    Kind.PREDICT: _Route("POST", ":predict", _list_of("predictions", reading.prediction)),
    Kind.LIST_MODELS: _Route("GET", "", lambda given: tuple(map(reading.model, given["models"]))),
    Kind.GET_MODEL: _Route("GET", "", reading.model),
    Kind.CREATE_SESSION: _Route("POST", "/sessions", lambda given: reading.session(given["session"])),
    Kind.APPEND: _Route("POST", "/sessions/{}:append", reading.appended),
    Kind.GET_SESSION: _Route("GET", "/sessions/{}", lambda given: reading.session(given["session"])),
    Kind.DELETE_SESSION: _Route("DELETE", "/sessions/{}", lambda given: None),
}


class Rest:
    """Calls the REST door, blocking or not: by an httpx client of either kind."""

    def __init__(self, access: Access) -> None:
        """Raises OSError where a file of the access cannot be used."""
        self._base = access.url.rstrip("/")
        self._naming = access.naming
        self._verify = (access.tls or Tls()).context() if access.has_tls else False

    def blocking(self) -> "Blocking":
        """Return what sends by blocking."""
        return Blocking(self, httpx.Client(verify=self._verify))

    def awaiting(self) -> "Awaiting":
        """Return what sends by awaiting."""
        return Awaiting(self, httpx.AsyncClient(verify=self._verify))

    def request(self, ask: Ask, seconds: float | None) -> httpx.Request:
        """Return the HTTP request that asks."""
        headers = dict(self._naming)
        if seconds is not None:
            headers["Grpc-Timeout"] = f"{min(max(round(seconds * 1000), 1), LONGEST_TIMEOUT)}m"
        content = None
        if ask.body:
            headers["Content-Type"] = "application/json"
            content = _content(ask)
        timeout = httpx.Timeout(seconds).as_dict()
        url = self._base + "/v1/models" + _path(ask)
        route = ROUTES[ask.kind]
        return httpx.Request(
            route.method, url, headers=headers, content=content, extensions={"timeout": timeout}
        )

    def read(self, ask: Ask, response: httpx.Response) -> Any:
        """Return the answer, or raise the error, that a response is."""
        if response.status_code != httpx.codes.OK:
            raise _problem(response)
        try:
            return ROUTES[ask.kind].read(response.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.NoAnswer(f"what {self._base} answers is none of seqserve: {error!r}") from None

    def failed(self, error: Exception) -> NoReturn:
        """Raise what an error of the connection, or of what came by it, means."""
        if isinstance(error, (httpx.TimeoutException, TimeoutError)):
            raise errors.DeadlineExceeded(f"{self._base} gave no answer in time") from None
        if isinstance(error, httpx.ConnectError):
            raise errors.Unreachable(f"no service answers at {self._base}: {error}", sent=False) from None
        why = str(error) or type(error).__name__
        if not isinstance(error, httpx.TransportError):
            raise errors.NoAnswer(f"what {self._base} answers cannot be read: {why}") from None
        raise errors.Unreachable(f"the connection to {self._base} broke: {why}", sent=True) from None


class Sockets:
    """Those of an httpx client, which cannot end a call of another thread itself."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open = WeakSet[socket.socket]()
        self._are_ended = False

    def saw(self, event: str, told: Mapping[str, Any]) -> None:
        """Keep a connection that was made: httpcore tells what it does, as the extension `trace`."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._open.add(told["return_value"].get_extra_info("socket"))
            if self._are_ended:
                self.end()

    def end(self) -> None:
        """End what is open and what comes yet; who waits on one is told that it broke."""
        with self._lock:
            self._are_ended = True
            ended = list(self._open)
        for one in ended:
            with suppress(OSError):  # it has ended already
                socket.socket.shutdown(one, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Blocking:
    """Sends, and waits for the answer."""

    rest: Rest
    client: httpx.Client
    sockets: Sockets = field(default_factory=Sockets)

    def send(self, ask: Ask, seconds: float | None) -> Any:
        """Return the answer; raises ServiceError."""
        request = self.rest.request(ask, seconds)
        request.extensions = {**request.extensions, "trace": self.sockets.saw}
        try:
            response = self.client.send(request)
        except httpx.RequestError as error:
            self.rest.failed(error)
        return self.rest.read(ask, response)

    def close(self) -> None:
        """Close the connections; calls of other threads end."""
        self.sockets.end()
        self.client.close()


@dataclass(frozen=True, slots=True)
class Awaiting:
    """Sends, and awaits the answer."""

    rest: Rest
    client: httpx.AsyncClient

    async def send(self, ask: Ask, seconds: float | None) -> Any:
        """Return the answer; raises ServiceError."""
        try:
            async with asyncio.timeout(seconds):
                response = await self.client.send(self.rest.request(ask, seconds))
        except (httpx.RequestError, TimeoutError) as error:
            self.rest.failed(error)
        return self.rest.read(ask, response)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


def _content(ask: Ask) -> bytes:
    """Return a body as JSON; raises ServiceError for what JSON cannot say."""
    try:
        return json.dumps(ask.body, default=_plain, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        fault = checking.fault_in(ask.body, "#") or checking.wrong("#", f"the request is no JSON: {error}")
    fault.left_out = len(ask.body[MEMBERS[ask.kind]]) - 1 if ask.kind in MEMBERS else 0
    raise fault from None


def _plain(value: Any) -> Any:
    """Return what JSON has for a mapping that is no dict, or for a number of another library."""
    return dict(value) if isinstance(value, Mapping) else checking.plain(value)


def _path(ask: Ask) -> str:
    if ask.kind is Kind.LIST_MODELS:
        return ""
    behind = ROUTES[ask.kind].behind.format(quote(ask.session, safe=""))
    return f"/{quote(ask.which.name, safe='')}{_place(ask.which)}{behind}"


def _place(which: Which) -> str:
    if which.version is not None:
        return f"/versions/{which.version}"
    return f"/labels/{quote(which.label, safe='')}" if which.label is not None else ""


def _problem(response: httpx.Response) -> ServiceError:
    """Return the error that a response tells of."""
    told = {"request_id": response.headers.get("x-request-id", ""), "retry_after": _seconds(response)}
    try:
        problem = response.json()
        code, reason = problem["code"], problem["reason"]
        faults = [
            Violation(one["pointer"], one["detail"], one["reason"]) for one in problem.get("errors", ())
        ]
        return kind_of(code, reason)(problem["detail"], code=code, reason=reason, errors=faults, **told)
    except (ValueError, KeyError, TypeError, AttributeError):
        status = response.status_code
        kind = PROXIES.get(status, errors.NoAnswer)
        said = f"HTTP {status} {response.reason_phrase}, which is no answer of seqserve"
        return kind(said, reason=kind.reason or f"HTTP_{status}", **told)


def _seconds(response: httpx.Response) -> float | None:
    """Return what Retry-After says in seconds; a date, which a proxy may send, is not read."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() else None
