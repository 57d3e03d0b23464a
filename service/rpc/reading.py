"""Reads requests: what a caller has begun to send, grpc's core keeps, so that few slow ones may come at once.

Until a request is asked for, the core takes 64 KiB of it and no more; then it takes as much as a message may
have. Most requests are whole by then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from seqserve.service import errors
from seqserve.service.edge.bytes_in_flight import BytesInFlight, Held
from seqserve.service.errors import SeqserveError
from seqserve.service.rpc.calls import Context

SLOW = 0.1
"""Seconds after which a request that is not whole is taken to hold as many bytes as a message may have."""
GONE = 0.05
"""Seconds in which we hear that a call without a request has ended: its caller has gone, or sent too much."""


class Reader:
    """Reads requests for every method of ours.

    Args:
        in_flight: counts what they hold.
        largest: bytes that a message may have.
        seconds: how long a request may take to come.
    """

    def __init__(self, in_flight: BytesInFlight, largest: int, seconds: float) -> None:
        self._in_flight = in_flight
        self._largest = largest
        self._seconds = seconds

    def hold(self) -> Held:
        """Return what counts the bytes of a request that has come whole; it must be released."""
        return self._in_flight.hold()

    @asynccontextmanager
    async def request(self, context: Context) -> AsyncIterator[bytes]:
        """Read a call's request: a context, in which its bytes are held.

        Raises:
            RequestTimeout: it came too slowly.
            QueueFull: there is no room for its bytes.
            MalformedMessage: there is none.
        """
        raw = await self._read(context)
        held = self._in_flight.hold()
        try:
            held.add(len(raw))
            yield raw
        finally:
            held.release()

    async def _read(self, context: Context) -> bytes:
        loop = asyncio.get_running_loop()
        arriving = _Arriving(self._in_flight, self._largest, loop.time() + self._seconds)
        timer = loop.call_later(min(SLOW, self._seconds), arriving.is_slow)
        try:
            async with arriving.waiting:
                raw = await context.read()
        except TimeoutError:
            message = f"the request has not come in {self._seconds:g} s, the limit (SEQSERVE_BODY_SECONDS)"
            late = errors.RequestTimeout(message, limit="body_seconds")
            raise arriving.error or late from None
        finally:
            timer.cancel()
            arriving.release()
        if isinstance(raw, bytes):
            return raw
        await asyncio.sleep(GONE)  # which is cut short where the call has ended, as it mostly has
        raise errors.MalformedMessage("the call ends without a request")


class _Arriving:
    """A request that is not whole.

    Args:
        deadline: when its time is over, on the event loop's clock.
    """

    def __init__(self, in_flight: BytesInFlight, largest: int, deadline: float) -> None:
        self._in_flight = in_flight
        self._largest = largest
        self._held: Held | None = None
        self._deadline = deadline
        self.waiting = asyncio.timeout(None)
        self.error: SeqserveError | None = None

    def is_slow(self) -> None:
        """Hold what it may yet be, and mind the time."""
        self.waiting.reschedule(self._deadline)
        self._held = self._in_flight.hold(self._give_way)
        try:
            self._held.add(self._largest)
        except errors.QueueFull as error:
            self._give_way(error)

    def release(self) -> None:
        """Hold nothing any more."""
        if self._held is not None:
            self._held.release()

    def _give_way(self, error: SeqserveError) -> None:
        if not self.waiting.expired():  # else its time is over, and it goes by itself
            self.error = error
            self.waiting.reschedule(asyncio.get_running_loop().time())
