"""What every gRPC call crosses, health and reflection included, in this order:

1. The request's id: the caller's `x-request-id` or a new one, in every log line and in the initial metadata.
2. The deadline.
3. The entrance (`service.edge`): who calls, and whether within limits; hence the `Call` that our methods are
   given. Nothing has been read by then. The access log is written when it is left. What tells of health is
   open to anybody. Who is refused very often is told so late.
4. The number of open calls.
5. Reading and parsing: grpc would answer what does not parse by UNKNOWN, without a reason.
6. The form of an error: a status with details, whatever raised it.

Two kinds of call are not seen: one of a method that does not exist, and one past the transport's limits.
"""

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from seqserve.service import errors
from seqserve.service.core.requests import reading
from seqserve.service.core.types import Call
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials
from seqserve.service.edge.tls import chosen_name
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.rpc.accepting import Answer, Metadata, Unary
from seqserve.service.rpc.calls import Calls, Context
from seqserve.service.rpc.faults import Field, call_status, dotted
from seqserve.service.rpc.reading import Reader
from seqserve.service.rpc.streaming import Exchanges, Stream, Streams, Taken
from seqserve.service.rpc.wire import check_fields
from seqserve.service.settings import Settings
from seqserve.service.status import grpc_status

log = logging.getLogger(__name__)
TRANSPORT = "grpc"
REQUEST_ID_KEY = "x-request-id"
NAMING = ("authorization", "x-api-key", "forwarded", "x-forwarded-for")
"""Metadata that may say who calls, as `Credentials` has it."""
CERTIFICATE_NAMES = ("peer_uri", "peer_dns", "x509_common_name")
OPEN = (
    "/grpc.health.v1.Health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
)
"""What the paths of methods begin with that nobody has to say a name for."""
DETAILS_KEY = "grpc-status-details-bin"
MOST_FOREIGN_BYTES = 65_536
"""Of a request to a method that is not ours, reflection's: nobody counts what they hold."""
LARGE = 64 * 1024
"""Bytes of a request from which on parsing it is a turn of its own."""

Behaviour = Callable[..., Any]
Refusal = tuple[grpc.StatusCode, str, Metadata]


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


@dataclass(frozen=True, slots=True)
class Results(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """One method of ours that answers a request by many messages.

    Args:
        answer: the async generator function that yields them; it is not asked for one before the one before
            has been taken.
        field: names a violation's place in the request.
    """

    request: type[Message]
    answer: Callable[[Any, Call], AsyncGenerator[Message]]
    field: Field


class Edge:
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
        self._streams = Streams(settings.grpc_append_streams)
        self._asks_for_certificates = settings.tls_client_ca is not None

    def around(self, name: str, handler: Any) -> Any:
        """Return what answers a method with the edge round it: of ours what `accepting` takes, or grpc's."""
        if isinstance(handler, Method):
            return self._answering(name, handler)
        if isinstance(handler, Stream):
            exchange = partial(self._exchange, name, handler)
            return grpc.stream_stream_rpc_method_handler(self._streaming(name, exchange))
        if isinstance(handler, Results):
            send = self._streaming(name, partial(self._send, handler), handler.field, ends=True)
            return grpc.stream_stream_rpc_method_handler(send)
        if isinstance(handler, Watch):
            return grpc.stream_stream_rpc_method_handler(self._streaming(name, partial(self._watch, handler)))
        return grpc.stream_stream_rpc_method_handler(
            self._streaming(name, partial(_pass, handler.stream_stream)),
            _parsing(handler.request_deserializer),
            handler.response_serializer,
        )

    def _answering(self, name: str, method: Method) -> Unary:
        async def answer(context: Context) -> Answer:
            metadata, initial = _identify(context)
            try:
                with self._crossing(name, context, metadata) as call:
                    async with self._reader.request(context) as raw:
                        request = await self._parsed(method.request, raw, call)
                        packed = (await method.answer(request, call)).SerializeToString()
                    call.visit.bytes_out = len(packed)
                    return Answer(initial, packed)
            except Exception as error:
                await self._entrance.held(error)
                return Answer(initial, None, *_refusal(error, method.field))

        return answer

    def _streaming(
        self, name: str, tell: Callable[..., Awaitable[None]], field: Field = dotted, *, ends: bool = False
    ) -> Behaviour:
        """Return what a method is to grpc that has many answers.

        The call is aborted once the error is gone: grpc keeps what aborts a call in a cycle with the call,
        and through an error the request too, which would then wait for the collector.
        """

        async def told(requests: AsyncIterable[Any], context: Context) -> None:
            metadata, initial = _identify(context)
            try:
                await context.send_initial_metadata(initial)
                with self._crossing(name, context, metadata, ends=ends) as call:
                    return await tell(requests, context, call)
            except grpc.aio.InternalError:  # the caller has gone while something was sent
                raise
            except Exception as error:
                await self._entrance.held(error)
                refusal = _refusal(error, field)
            await context.abort(*refusal)

        return told

    async def _watch(self, watch: Watch, _: Any, context: Context, call: Call) -> None:
        async with self._reader.request(context) as raw:
            subject = watch.subject(await self._parsed(watch.request, raw, call))
        del raw
        await watch.tell(subject, context)

    async def _send(self, results: Results, _: Any, context: Context, call: Call) -> None:
        async with self._reader.request(context) as raw:
            request = await self._parsed(results.request, raw, call)
            async with aclosing(results.answer(request, call)) as messages:
                async for message in messages:
                    packed = message.SerializeToString()
                    async with reading(call.deadline):
                        await context.write(packed)
                    call.visit.bytes_out += len(packed)

    async def _exchange(self, name: str, stream: Stream, _: Any, context: Context, call: Call) -> None:
        """Let each request of a call in by itself, and answer it."""
        metadata = _metadata(context)

        async def take(raw: bytes) -> Taken:
            held = self._reader.hold()
            try:
                held.add(len(raw))
                request: Any = await self._parsed(stream.request, raw, call)
            except SeqserveError as error:
                return Taken(held, error, held.release)
            return Taken(stream.about(request), request, held.release)

        async def respond(place: int, request: Any, before: asyncio.Task[None] | None) -> bytes:
            try:
                with self._crossing(name, context, metadata, is_part=True) as own:
                    if isinstance(request, SeqserveError):
                        raise request
                    own.visit.bytes_in = request.ByteSize()
                    if before is not None:
                        await asyncio.wait({before})
                    response = stream.answered(place, await stream.answer(request, own))
                    packed = response.SerializeToString()
                    own.visit.bytes_out = len(packed)
                    return packed
            except Exception as error:
                return stream.failed(place, call_status(_ours(error), stream.field)).SerializeToString()

        with self._streams.one():
            await Exchanges(context, take, respond).run()

    async def _parsed(self, kind: type[Message], raw: bytes, call: Call) -> Message:
        call.visit.bytes_in = len(raw)
        await check_fields(raw, kind.DESCRIPTOR, self._most_fields)
        try:
            request = kind.FromString(raw)
        except DecodeError as error:
            raise errors.MalformedMessage(f"the bytes are no {kind.DESCRIPTOR.full_name}") from error
        if len(raw) > LARGE:
            await asyncio.sleep(0)  # parsing was a turn
        return request

    @contextmanager
    def _crossing(
        self,
        name: str,
        context: Context,
        metadata: Metadata,
        *,
        ends: bool = True,
        is_part: bool = False,
    ) -> Iterator[Call]:
        """Take a call in, and out again: a context, in which its method runs.

        Args:
            ends: that the method ends by itself, with an answer.
            is_part: it is one of many requests of a call, whose own deadline may be far.
        """
        certificate = _certificate(context) if self._asks_for_certificates else ""
        credentials = _credentials(metadata, _address(context.peer()), certificate)
        deadline = partial(self._deadline, context, self._default_timeout if is_part else self._max_timeout)
        is_open = name.startswith(OPEN)
        with self._entrance.crossing(credentials, TRANSPORT, deadline, REQUEST_ID.get(), is_open) as call:
            call.visit.method = name
            self._calls.begin(ends=ends)
            yield call

    def _deadline(self, context: Context, most: float) -> float:
        remaining = context.time_remaining()
        timeout = self._default_timeout if remaining is None else min(remaining, most)
        return asyncio.get_running_loop().time() + timeout


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


def _credentials(metadata: Metadata, address: str, certificate: str) -> Credentials:
    given = dict.fromkeys(NAMING, "")
    for name, value in metadata:
        if name in given and isinstance(value, str):
            given[name] = f"{given[name]},{value}" if given[name] else value
    authorization, api_key, forwarded, forwarded_for = given.values()
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


def _identify(context: Context) -> tuple[Metadata, Metadata]:
    """Take the caller's request id or make one, for the logs of this call's task.

    Returns:
        The call's metadata, and what the caller is to be sent as initial metadata.
    """
    metadata = _metadata(context)
    echoed = request_id(str(dict(metadata).get(REQUEST_ID_KEY, "")))
    REQUEST_ID.set(echoed)
    return metadata, ((REQUEST_ID_KEY, echoed),)


def _metadata(context: Context) -> Metadata:
    metadata: Metadata = context.invocation_metadata() or ()  # type: ignore[assignment]  # a tuple of them
    return metadata


async def _pass(behaviour: Behaviour, requests: AsyncIterable[Any], context: Context, _: Call) -> None:
    async for answer in behaviour(_each_whole(requests), context):
        await context.write(answer)


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
