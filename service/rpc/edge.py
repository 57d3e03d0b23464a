"""What every gRPC call crosses, health and reflection included: an interceptor. In this order:

1. The request's id: the caller's `x-request-id` or a new one, in every log line and in the initial metadata.
2. The deadline.
3. The entrance (`service.edge`): who calls, and whether within limits; hence the `Call` that our methods are
   given. Nothing has been parsed by then. The access log is written when it is left. Health is open to
   anybody.
4. Parsing, of our own methods' requests: grpc answers bytes that do not parse by UNKNOWN, without a reason.
5. The form of an error: a status with details, whatever raised it.

Two kinds of call are not seen: one of a method that does not exist, and one past the transport's limits.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from seqserve.service import errors
from seqserve.service.core.types import Call, Visit
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials
from seqserve.service.edge.tls import chosen_name
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.rpc.faults import Field, call_status, dotted
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
MAKERS: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[..., Any]


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


class Edge(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """The steps above, round each method of a server.

    Args:
        default_timeout: seconds that a call may take which comes without a deadline.
        max_timeout: seconds that any call is given at most.
    """

    def __init__(self, entrance: Entrance, default_timeout: float, max_timeout: float) -> None:
        self._entrance = entrance
        self._default_timeout = default_timeout
        self._max_timeout = max_timeout
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
            return grpc.unary_unary_rpc_method_handler(self._answering(name, handler))
        kind = next(kind for kind in MAKERS if getattr(handler, kind) is not None)
        behaviour = getattr(handler, kind)
        passing = self._streaming if inspect.isasyncgenfunction(behaviour) else self._awaiting
        return MAKERS[kind](
            passing(name, behaviour), handler.request_deserializer, handler.response_serializer
        )

    def _answering(self, name: str, method: Method) -> Behaviour:
        async def answer(raw: bytes, context: Context) -> bytes:
            async with self._crossing(name, context, method.field) as call:
                call.visit.bytes_in = len(raw)
                answered = (await method.answer(_parsed(method.request, raw), call)).SerializeToString()
                call.visit.bytes_out = len(answered)
                return answered
            raise AssertionError("what fails aborts the call")

        return answer

    def _awaiting(self, name: str, behaviour: Behaviour) -> Behaviour:
        async def passed(request: Any, context: Context) -> Any:
            async with self._crossing(name, context):
                return await behaviour(request, context)

        return passed

    def _streaming(self, name: str, behaviour: Behaviour) -> Behaviour:
        async def passed(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self._crossing(name, context):
                async for answer in behaviour(request, context):
                    yield answer

        return passed

    @asynccontextmanager
    async def _crossing(self, name: str, context: Context, field: Field = dotted) -> AsyncIterator[Call]:
        """Take a call in, and out again: a context, in which its method runs."""
        echoed = await _identify(context)
        credentials, deadline = _credentials(context), partial(self._deadline, context)
        try:
            is_open = name.startswith(HEALTH)
            with self._entrance.crossing(credentials, TRANSPORT, deadline, echoed, is_open) as call:
                call.visit.method = name
                with _telling(context, call.visit):
                    yield call
        except grpc.aio.AbortError:
            raise  # health and reflection abort by themselves
        except Exception as error:
            failure = _ours(error)
            details = call_status(failure, field)
            packed = ((DETAILS_KEY, details.SerializeToString()),)
            await context.abort(grpc_status(failure), details.message, packed)

    def _deadline(self, context: Context) -> float:
        remaining = context.time_remaining()
        timeout = self._default_timeout if remaining is None else min(remaining, self._max_timeout)
        return asyncio.get_running_loop().time() + timeout


@contextmanager
def _telling(context: Context, visit: Visit) -> Iterator[None]:
    """Leave the code of a call that its method has ended by itself."""
    try:
        yield
    except grpc.aio.AbortError:
        visit.code = context.code().name
        raise


def _ours(error: Exception) -> SeqserveError:
    """Return an error that may be shown; the log gets one that is not ours."""
    if isinstance(error, SeqserveError):
        return error
    log.error("a call failed unexpectedly", exc_info=error)
    return errors.Unexpected("an unexpected fault; the log has it under the request's id")


def _credentials(context: Context) -> Credentials:
    given = dict.fromkeys(NAMING, "")
    for name, value in context.invocation_metadata() or ():
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


async def _identify(context: Context) -> str:
    """Take the caller's request id or make one, for the logs of this call's task and for the caller."""
    metadata = dict(context.invocation_metadata() or ())
    echoed = request_id(str(metadata.get(REQUEST_ID_KEY, "")))
    REQUEST_ID.set(echoed)
    await context.send_initial_metadata(((REQUEST_ID_KEY, echoed),))
    return echoed


def _parsed(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise errors.MalformedMessage(f"the bytes are no {kind.DESCRIPTOR.full_name}") from error
