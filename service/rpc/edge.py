"""Where every call comes in and goes out: request id, deadline, parsing, and the one place that fails it.

`service.rpc.server` wraps the methods of `service.rpc.servicers` in it. Messages are parsed and serialized
here, because grpc answers bytes that do not parse by UNKNOWN, without a reason.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from seqserve.service import errors
from seqserve.service.core.types import Call
from seqserve.service.errors import SeqserveError
from seqserve.service.logs import REQUEST_ID, request_id
from seqserve.service.rpc.faults import Field, call_status, dotted
from seqserve.service.status import grpc_status

log = logging.getLogger(__name__)
TRANSPORT = "grpc"
REQUEST_ID_KEY = "x-request-id"
DETAILS_KEY = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service.

    Args:
        answer: the coroutine function that answers a request.
        field: names a violation's place in the request.
    """

    request: type[Message]
    answer: Callable[[Any, Call], Awaitable[Message]]
    field: Field = dotted


def handler(
    method: Method, default_timeout: float, max_timeout: float
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """Return the method as grpc calls it, from bytes to bytes.

    Args:
        default_timeout: seconds that a call may take which comes without a deadline.
        max_timeout: seconds that any call is given at most.
    """

    async def handle(raw: bytes, context: Context) -> bytes:
        call = _call(context, default_timeout, max_timeout)
        await _identify(context)
        try:
            answer = await method.answer(_parsed(method.request, raw), call)
            return answer.SerializeToString()
        except SeqserveError as error:
            failure = error
        except Exception:
            log.exception("a call failed unexpectedly")
            failure = errors.Unexpected("an unexpected fault; the log has it under the request's id")
        await _fail(context, failure, method.field)

    return handle


def _call(context: Context, default_timeout: float, max_timeout: float) -> Call:
    remaining = context.time_remaining()
    timeout = default_timeout if remaining is None else min(remaining, max_timeout)
    return Call(TRANSPORT, asyncio.get_running_loop().time() + timeout)


async def _identify(context: Context) -> None:
    """Take the caller's request id or make one, for the logs of this call's task and for the caller."""
    metadata = dict(context.invocation_metadata() or ())
    given = str(metadata.get(REQUEST_ID_KEY, ""))
    echoed = request_id(given)
    REQUEST_ID.set(echoed)
    await context.send_initial_metadata(((REQUEST_ID_KEY, echoed),))


def _parsed(kind: type[Message], raw: bytes) -> Message:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise errors.MalformedMessage(f"the bytes are no {kind.DESCRIPTOR.full_name}") from error


async def _fail(context: Context, error: SeqserveError, field: Field) -> NoReturn:
    status = call_status(error, field)
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(grpc_status(error), status.message, details)
