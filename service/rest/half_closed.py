"""A caller that has closed its sending side, as RFC 9112 9.6 lets it: does it still wait for the answer?

TCP tells the same of a caller that has gone altogether, until something is sent to it: that comes back as a
reset, and the next write fails. So the bytes that every answer begins with are sent ahead of it, one by one.
"""

from collections.abc import Callable

BEGINNING = b"HTTP/1.1 "
FIRST_SECONDS, TIMES_LONGER = 0.01, 4
"""From the first byte to the second, and from then on: 11 minutes, which is more than a call may take."""


class HalfClosed:
    """Sends the beginning of the next answer ahead of it.

    Args:
        send: takes bytes for the caller, and closes the connection where that fails.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._ahead = 0  # bytes of the next answer that have been sent
        self._seconds = FIRST_SECONDS

    def probe(self) -> float:
        """Send a byte ahead while no answer is under way; return the seconds until the next one is due."""
        self._send(BEGINNING[self._ahead : self._ahead + 1])
        self._ahead = min(self._ahead + 1, len(BEGINNING))
        seconds, self._seconds = self._seconds, self._seconds * TIMES_LONGER
        return seconds

    def rest(self, data: bytes) -> bytes:
        """Return what is left to be sent of data that begin an answer, or go on with one."""
        left, self._ahead = data[self._ahead :], 0
        return left
