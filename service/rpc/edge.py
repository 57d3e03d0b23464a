"""What every gRPC call crosses, health and reflection included: an interceptor. In this order:

1. The request's id: the caller's `x-request-id` or a new one, in every log line and in the initial metadata.
2. The deadline.
3. The entrance (`service.edge`): who calls, and whether within limits; hence the `Call` that our methods are
   given. Nothing has been read by then. The access log is written when it is left. Health is open to anybody.
4. The number of open calls.
5. Reading and parsing: grpc would answer what does not parse by UNKNOWN, without a reason.
6. The form of an error: a status with details, whatever raised it.

Two kinds of call are not seen: one of a method that does not exist, and one past the transport's limits.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from seqserve.service import errors
from seqserve.service.core.types import Call
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials
from seqserve.service.edge.tls import chosen_name
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.rpc.calls import Calls, Context
from seqserve.service.rpc.faults import Field, call_status, dotted
from seqserve.service.rpc.reading import Reader
from seqserve.service.rpc.wire import check_fields
from seqserve.service.settings import Settings
from seqserve.service.status import grpc_status

log = logging.getLogger(__name__)
TRANSPORT = "grpc"
REQUEST_ID_KEY = "x-request-id"
NAMING = ("authorization", "x-api-key", "forwarded", "x-forwarded-for")
"""Metadata that may say who calls, as `Credentials` has it."""
CERTIFICATE_NAMES = ("peer_uri", "peer_dns", "x509_common_name")
HEALTH = "/grpc.health.v1.Health/"
"""Methods that nobody has to say a name for."""
DETAILS_KEY = "grpc-status-details-bin"
MOST_FOREIGN_BYTES = 65_536
"""Of a request to a method that is not ours, reflection's: nobody counts what they hold."""

Behaviour = Callable[..., Any]
Metadata = Iterable[tuple[str, str | bytes]]
Refusal = tuple[grpc.StatusCode, str, tuple[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Method(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """One unary method of ours, registered with grpc as it is; only the edge makes it something to be called.

    Args:
        answer: the coroutine function that answers a request.
        field: names a violation's place in the request.
    """

    request: type[Message]
    answer: Callable[[Any, Call], Awaitable[Message]]
    field: Field = dotted


@dataclass(frozen=True, slots=True)
class Watch(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """One method of ours that tells of a subject for as long as its caller is there.

    Args:
        subject: returns what is kept of a request: little, since nobody counts what it holds.
        tell: the coroutine function that writes messages, as bytes, to a call's context.
    """

    request: type[Message]
    subject: Callable[[Any], Any]
    tell: Callable[[Any, Context], Awaitable[None]]


class Edge(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """The steps above, round each method of a server.

    Args:
        calls: those that are open.
        reader: reads the requests of our own methods.
    """

    def __init__(self, entrance: Entrance, calls: Calls, reader: Reader, settings: Settings) -> None:
        self._entrance = entrance
        self._calls = calls
        self._reader = reader
        self._default_timeout = settings.default_timeout
        self._max_timeout = settings.max_timeout
        self._most_fields = settings.grpc_fields
        self._within: dict[str, Any] = {}  # by method, as each is called first; methods that exist are few

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the method's handler with the edge round it; None where there is no such method."""
        method = handler_call_details.method
        if method not in self._within:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._within[method] = self._round(method, handler)
        return self._within[method]

    def _round(self, name: str, handler: Any) -> Any:
        if isinstance(handler, Method):
            # one request is a stream of one, which is not read before it is asked for
            return grpc.stream_unary_rpc_method_handler(
                _refusing(self._answering(name, handler), handler.field)
            )
        if isinstance(handler, Watch):
            return grpc.stream_stream_rpc_method_handler(_refusing(self._watched(name, handler)))
        behaviour, parsing = handler.stream_stream, _parsing(handler.request_deserializer)
        passing = _refusing_late(self._streaming(name, behaviour))
        return grpc.stream_stream_rpc_method_handler(passing, parsing, handler.response_serializer)

    def _answering(self, name: str, method: Method) -> Behaviour:
        async def answer(_: Any, context: Context) -> bytes:
            async with (
                self._crossing(name, context) as call,
                self._request(method.request, context, call) as request,
            ):
                packed = (await method.answer(request, call)).SerializeToString()
                call.visit.bytes_out = len(packed)
                return packed

        return answer

    def _watched(self, name: str, watch: Watch) -> Behaviour:
        async def told(_: Any, context: Context) -> None:
            async with self._crossing(name, context, ends=False) as call:
                async with self._request(watch.request, context, call) as request:
                    subject = watch.subject(request)
                del request
                await watch.tell(subject, context)

        return told

    def _streaming(self, name: str, behaviour: Behaviour) -> Behaviour:
        async def passed(requests: AsyncIterable[Any], context: Context) -> AsyncIterator[Any]:
            async with self._crossing(name, context, ends=False):
                async for answer in behaviour(_each_whole(requests), context):
                    yield answer

        return passed

    @asynccontextmanager
    async def _request(self, kind: type[Message], context: Context, call: Call) -> AsyncIterator[Message]:
        """Read and parse a request: a context, in which its bytes are held."""
        async with self._reader.request(context) as raw:
            call.visit.bytes_in = len(raw)
            await check_fields(raw, kind.DESCRIPTOR, self._most_fields)
            yield _parsed(kind, raw)

    @asynccontextmanager
    async def _crossing(self, name: str, context: Context, *, ends: bool = True) -> AsyncIterator[Call]:
        """Take a call in, and out again: a context, in which its method runs.

        Args:
            ends: that the method ends by itself, with an answer.
        """
        metadata = context.invocation_metadata() or ()
        echoed = await _identify(context, metadata)
        credentials, deadline = _credentials(context, metadata), partial(self._deadline, context)
        is_open = name.startswith(HEALTH)
        with self._entrance.crossing(credentials, TRANSPORT, deadline, echoed, is_open) as call:
            call.visit.method = name
            self._calls.begin(context, ends=ends)
            yield call

    def _deadline(self, context: Context) -> float:
        remaining = context.time_remaining()
        timeout = self._default_timeout if remaining is None else min(remaining, self._max_timeout)
        return asyncio.get_running_loop().time() + timeout


def _refusing(behaviour: Behaviour, field: Field = dotted) -> Behaviour:
    """Give what a method raises the form of an error.

    The call is aborted once the error is gone: grpc keeps what aborts a call in a cycle with the call, and
    through an error the request too, which would then wait for the collector.
    """

    async def refused(request: Any, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.InternalError:  # the caller has gone while something was sent
            raise
        except Exception as error:
            refusal = _refusal(error, field)
        await context.abort(*refusal)

    return refused


def _refusing_late(behaviour: Behaviour) -> Behaviour:
    """Do as `_refusing` does to a method that yields its answers."""

    async def refused(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for answer in behaviour(request, context):
                yield answer
            return
        except grpc.aio.InternalError:  # the caller has gone while something was sent
            raise
        except Exception as error:
            refusal = _refusal(error, dotted)
        await context.abort(*refusal)

    return refused


def _refusal(error: Exception, field: Field) -> Refusal:
    """Return the status, the message and the metadata of an error."""
    failure = _ours(error)
    details = call_status(failure, field)
    return grpc_status(failure), details.message, ((DETAILS_KEY, details.SerializeToString()),)


def _ours(error: Exception) -> SeqserveError:
    """Return an error that may be shown; the log gets one that is not ours."""
    if isinstance(error, SeqserveError):
        return error
    log.error("a call failed unexpectedly", exc_info=error)
    return errors.Unexpected("an unexpected fault; the log has it under the request's id")


def _credentials(context: Context, metadata: Metadata) -> Credentials:
    given = dict.fromkeys(NAMING, "")
    for name, value in metadata:
        if name in given and isinstance(value, str):
            given[name] = f"{given[name]},{value}" if given[name] else value
    authorization, api_key, forwarded, forwarded_for = given.values()
    address, certificate = _address(context.peer()), _certificate(context)
    return Credentials(address, authorization, api_key, forwarded, forwarded_for, certificate)


def _certificate(context: Context) -> str:
    """Return the name in the client's certificate; empty: none."""
    told: Mapping[str, Iterable[bytes]] = context.auth_context()
    return chosen_name(
        *([name.decode("utf-8", "replace") for name in told.get(place, ())] for place in CERTIFICATE_NAMES)
    )


def _address(peer: str) -> str:
    """Return the address in `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


async def _identify(context: Context, metadata: Metadata) -> str:
    """Take the caller's request id or make one, for the logs of this call's task and for the caller."""
    echoed = request_id(str(dict(metadata).get(REQUEST_ID_KEY, "")))
    REQUEST_ID.set(echoed)
    await context.send_initial_metadata(((REQUEST_ID_KEY, echoed),))
    return echoed


def _parsing(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what parses for grpc: outside the edge, so that it returns None where it would raise."""

    def parsed(raw: bytes) -> Any:
        with suppress(DecodeError):
            return parse(raw) if len(raw) <= MOST_FOREIGN_BYTES else None

    return parsed


async def _each_whole(requests: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield requests that have been parsed for grpc.

    Raises:
        MalformedMessage: one does not parse, or is too large.
    """
    async for request in requests:
        if request is None:
            message = f"the bytes are no message of this method, or more than {MOST_FOREIGN_BYTES}"
            raise errors.MalformedMessage(message)
        yield request


def _parsed(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise errors.MalformedMessage(f"the bytes are no {kind.DESCRIPTOR.full_name}") from error
