"""Answers as they come: lines of JSON, or server-sent events, where `Accept` asks for them.

Both have the same objects, in this order: `{"model": …}` once; `{"index": …, …}` for each item, as the list
has it; `{"done": …}` at the end, without which the answer has been cut off. What goes wrong once it has begun
is `{"error": …}` in place of the end.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from seqserve.service import errors
from seqserve.service.contract.items import FailedItem, answer_as_json
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.requests import reading
from seqserve.service.core.turns import Turn
from seqserve.service.core.types import Asked, Call, ModelRef, Order, Task
from seqserve.service.rest.accept import EVENTS, LINES, preferred
from seqserve.service.rest.bodies import JSON
from seqserve.service.rest.edge import ours

ORDERS = {"index": Order.INDEX, "finished": Order.FINISHED}
PART = 16 * 1024
"""Bytes from which on what has come is sent, before more of it is written."""
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Nobody on the way is to keep what comes until all of it has, as nginx would."""

Written = tuple[bytes, bool]
"""Bytes of an answer, and whether they are the last."""


@dataclass(frozen=True, slots=True)
class Form:
    """How answers are to come."""

    media_type: str
    order: Order

    def written(self, kind: str, content: dict[str, Any]) -> bytes:
        """Return an object as a line, or as an event of a kind."""
        data = orjson.dumps(content)  # which has no line break
        return (
            data + b"\n" if self.media_type == LINES else b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
        )


def form_of(request: Request) -> Form | None:
    """Return how a request wants its answers to come; None: as one list.

    Raises:
        OptionOutOfRange: the order is none.
    """
    given = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"accept"]
    accepted = ",".join(given).lower()
    if LINES not in accepted and EVENTS not in accepted:
        return None
    media_type = preferred(accepted, JSON, (LINES, EVENTS))
    if media_type == JSON:
        return None
    name = request.query_params.get("order", "index")
    if name not in ORDERS:
        raise errors.OptionOutOfRange(f"order is {name[:20]!r}; index or finished is wanted")
    return Form(media_type, ORDERS[name])


async def streamed(
    form: Form, held: AsyncExitStack, gateway: Gateway, task: Task, ref: ModelRef, asked: Asked, call: Call
) -> Response:
    """Return the response that answers a request's items as they come, once it has begun to.

    Args:
        held: what is left when it ends.

    Raises:
        SeqserveError: there is nothing to begin with.
    """
    parts = _parts(form, held, gateway, task, ref, asked, call)
    return Streamed(form.media_type, await anext(parts), parts, call.deadline)


class Streamed(Response):
    """A response that is sent as it comes.

    Args:
        first: the first of the parts.
        deadline: the call's.
    """

    def __init__(
        self, media_type: str, first: Written, parts: AsyncGenerator[Written], deadline: float
    ) -> None:
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(HEADERS)
        self._first = first
        self._parts = parts
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises DeadlineExceeded where its reader is too slow."""
        async with aclosing(self._parts):
            async with reading(self._deadline):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._sent(send, self._first)
            async for part in self._parts:
                await self._sent(send, part)

    async def _sent(self, send: Send, part: Written) -> None:
        content, is_last = part
        async with reading(self._deadline):
            await send({"type": "http.response.body", "body": content, "more_body": not is_last})


async def _parts(
    form: Form, held: AsyncExitStack, gateway: Gateway, task: Task, ref: ModelRef, asked: Asked, call: Call
) -> AsyncGenerator[Written]:
    """Yield the answer; what goes wrong once it has begun is told in it, and then raised."""
    pending, count, failed, turn = b"", 0, 0, Turn()
    async with held, aclosing(gateway.stream(task, ref, asked, call, form.order)) as answers:
        try:
            async for come in answers:
                if not count:
                    model = {"name": come.model, "version": come.version, "digest": come.digest}
                    pending = form.written("model", {"model": model})
                for index, item in come.items:
                    pending += form.written("item", {"index": index, **answer_as_json(item)})
                    count, failed = count + 1, failed + isinstance(item, FailedItem)
                    if len(pending) >= PART:
                        yield pending, False
                        pending = b""
                    if turn.is_over():
                        await turn.end()
                if pending:
                    yield pending, False
                    pending = b""
        except Exception as error:
            if not count:
                raise
            fault = ours(error)
            shown = {"code": fault.code.value, "reason": fault.reason, "message": fault.message}
            yield form.written("error", {"error": shown}), True
            raise fault from None
    yield form.written("done", {"done": {"items": count, "failed": failed}}), True
