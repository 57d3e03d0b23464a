"""Bytes of a connection to requests: llhttp (by httptools), and what it leaves to its user.

- An offer to speak another protocol (`Upgrade: h2c`, websocket) is passed over, as RFC 9110 7.8 lets a server
  do. llhttp stops after such a head and takes what follows for the other protocol, so that a body would be
  lost, or be read as the next request: the head is parsed again, without the offer.
- Heads, trailers and what is between requests are bounded, by bytes and by number.
- A head is a scope of ASGI.
"""

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from seqserve.service import errors
from seqserve.service.errors import SeqserveError
from seqserve.service.settings import Settings

Headers = list[tuple[bytes, bytes]]
OFFER = b"upgrade"


class Sink(Protocol):
    """What hears of requests."""

    def request(self, scope: Scope, keeps: bool, awaits_continue: bool) -> None:
        """Hear of a head; may raise SeqserveError.

        Args:
            keeps: whether the caller would have the connection kept.
            awaits_continue: whether it waits for `100 Continue` before it sends the body.
        """

    def part(self, part: bytes) -> None:
        """Hear of a part of the body."""

    def end(self) -> None:
        """Hear that the body has ended."""


class Reader:
    """Reads the requests of one connection.

    Args:
        connection: what every scope of the connection says.
    """

    def __init__(self, settings: Settings, connection: Mapping[str, Any], sink: Sink) -> None:
        self._most_bytes = settings.max_header_bytes
        self._most_headers = settings.max_headers
        self._connection = connection
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._awaits_continue = False
        self._is_body = False
        self._coming = 0  # bytes of the segment that is being read
        self._has_advanced = False  # by that segment
        self._pending = 0  # bytes before it that have made nothing yet
        self.in_head = False

    def feed(self, data: bytes) -> SeqserveError | None:
        """Read what came, and return what is wrong with it; nothing can be read after that.

        Returns:
            HeadersTooLarge, MalformedHttp, MethodNotAllowed, or what the sink raised. It is not raised: with
            llhttp's error, which refers to it, it would be kept, and all that was read, until the collector
            runs.
        """
        self._coming, self._has_advanced = len(data), False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            return _cause(error)
        self._pending = 0 if self._has_advanced else self._pending + len(data)
        return self._too_large(self._pending) if self._pending > self._most_bytes else None

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]
                self._parser = httptools.HttpRequestParser(self)

    def _without_offer(self) -> bytes:
        """Return the head that was just read as it would be without the offer."""
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._target, version)]
        lines += [b"%b: %b" % header for header in self._headers if header[0] != OFFER]
        return b"\r\n".join([*lines, b"", b""])

    # --- what llhttp calls -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._target, self._headers, self._awaits_continue = b"", [], False
        self._is_body, self.in_head = False, True

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is passed over."""
        if self._is_body:
            return
        name = name.lower()
        if name == b"expect":
            self._awaits_continue = value.lower() == b"100-continue"
        self._headers.append((name, value))
        if len(self._headers) > self._most_headers:
            raise errors.HeadersTooLarge(
                f"the request has more than {self._most_headers} headers, the most that max_headers "
                f"allows; send fewer",
                limit="max_headers",
            )

    def on_headers_complete(self) -> None:
        """Make a request of the head."""
        self.in_head, self._is_body = False, True
        method = self._parser.get_method()
        if self._parser.should_upgrade():
            if method == b"CONNECT":
                raise errors.MethodNotAllowed("CONNECT: this is no proxy", allowed=("GET", "POST"))
            return
        self._has_advanced = True
        if self._pending + self._coming > self._most_bytes:
            self._check_size()
        version = self._parser.get_http_version()
        is_old = version == "1.0"  # it has neither, and an Expect of it is passed over (RFC 9110 10.1.1)
        keeps = not is_old and self._parser.should_keep_alive()
        awaits_continue = not is_old and self._awaits_continue
        self._sink.request(self._scope(method.decode("ascii"), version), keeps, awaits_continue)

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._has_advanced = True
        self._sink.part(part)

    def on_message_complete(self) -> None:
        """End the request."""
        if not self._parser.should_upgrade():
            self._has_advanced = True
            self._sink.end()

    def _scope(self, method: str, version: str) -> Scope:
        path, query = _parts(self._target)
        return {
            **self._connection,
            "type": "http",
            "http_version": version,
            "method": method,
            "path": unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "headers": self._headers,
        }

    def _check_size(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > self._most_bytes:
            raise self._too_large(size)

    def _too_large(self, size: int) -> errors.HeadersTooLarge:
        return errors.HeadersTooLarge(
            f"the request's line and headers have {size} bytes or more, above the limit max_header_bytes of "
            f"{self._most_bytes}; send less",
            limit="max_header_bytes",
        )


def _parts(target: bytes) -> tuple[bytes, bytes]:
    """Return the path and the query of a target, be it a path or a whole URL."""
    if target == b"*":
        return target, b""
    try:
        url = httptools.parse_url(target)
        (url.path or b"/").decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        shown = target[:60].decode("ascii", "backslashreplace")
        raise errors.MalformedHttp(f"the target {shown!r} is neither a path nor a URL") from None
    return url.path or b"/", url.query or b""


def _cause(error: httptools.HttpParserError) -> SeqserveError:
    """Return what went wrong: what a callback raised, else what llhttp found."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return errors.MalformedHttp(f"what came is not HTTP/1.1: {error}")
    if isinstance(error.__context__, SeqserveError):
        return error.__context__
    raise error
