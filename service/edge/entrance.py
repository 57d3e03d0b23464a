"""What every call crosses at either door: recognized, within its limits, and written down when it ends.

A door's edge translates its transport into `Credentials`, and the errors that leave here into its own form.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from seqserve.service.core.types import Call
from seqserve.service.edge.recognizer import Credentials, Recognizer


class Entrance:
    """Takes calls in, and out again."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer

    @contextmanager
    def crossing(self, credentials: Credentials, transport: str, deadline: float, id: str) -> Iterator[Call]:
        """Take a call in: a context, in which it is answered.

        Args:
            deadline: absolute, on the event loop's clock.
            id: the request's.

        Raises:
            Unauthenticated; RateLimited.
        """
        yield Call(transport, deadline, id, self._recognizer.principal(credentials))
