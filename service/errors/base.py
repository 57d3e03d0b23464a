"""What every error has, and the kinds of errors: each has one canonical code."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar
from urllib.parse import quote

Path = tuple[str | int, ...]
"""Where in the request the fault lies: `("texts", 3)`, `("sequences", 0, "minutes", 2)`."""


def json_pointer(path: Path) -> str:
    """Return a path as a JSON Pointer (RFC 6901) in its URI fragment form, as RFC 9457's examples have it."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join("/" + quote(part, safe="~!$&'()*+,;=:@") for part in parts)


class Code(StrEnum):
    """The canonical codes of google.rpc.Code that seqserve uses."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of a request that has several: where, what, and its reason."""

    path: Path
    message: str
    reason: str


class SeqserveError(Exception):
    """Base of all: `code` and `reason` say what kind, the message names field, limit and value.

    Args:
        retry_after: seconds.
        limit: the setting that the request went past; the entrance counts it by this name.
    """

    code: ClassVar[Code]
    reason: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        path: Path = (),
        retry_after: float | None = None,
        violations: tuple[Violation, ...] = (),
        limit: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.retry_after = retry_after
        self.limit = limit
        self._violations = violations

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Every fault with its place; empty where no part of the request is at fault."""
        if self._violations:
            return self._violations
        return (Violation(self.path, self.message, self.reason),) if self.path else ()

    def at(self, *prefix: str | int) -> "SeqserveError":
        """Return the same error with `prefix` before its path: an item's fault seen from the request."""
        inner = tuple(Violation((*prefix, *v.path), v.message, v.reason) for v in self._violations)
        return type(self)(
            self.message,
            path=(*prefix, *self.path),
            retry_after=self.retry_after,
            violations=inner,
            limit=self.limit,
        )

    def among(self, violations: tuple[Violation, ...]) -> "SeqserveError":
        """Return the same error listing `violations`: the request's error when all its items failed."""
        return type(self)(self.message, retry_after=self.retry_after, violations=violations, limit=self.limit)


class InvalidArgument(SeqserveError):
    """The request is at fault, whatever the state of the service."""

    code = Code.INVALID_ARGUMENT


class NotFound(SeqserveError):
    """What the request names does not exist here."""

    code = Code.NOT_FOUND


class FailedPrecondition(SeqserveError):
    """What the request names exists but cannot serve it."""

    code = Code.FAILED_PRECONDITION


class Aborted(SeqserveError):
    """The request was made for another state of things than there is now."""

    code = Code.ABORTED


class ResourceExhausted(SeqserveError):
    """The service is full."""

    code = Code.RESOURCE_EXHAUSTED
    told_after: float = 0.0  # seconds by which a door tells it later


class Unavailable(SeqserveError):
    """The service cannot answer now; the same call may succeed later."""

    code = Code.UNAVAILABLE


class Internal(SeqserveError):
    """The service or the model is at fault."""

    code = Code.INTERNAL


Raised = TypeVar("Raised", bound=BaseException)


def without_frames(error: Raised) -> Raised:
    """Return an error that lets go of the frames it was raised in, which hold a request of megabytes.

    An error that is kept somewhere in them is else a cycle, and waits with all they hold for the collector.
    """
    raised: BaseException | None = error
    while raised is not None:
        raised.__traceback__ = None
        raised = raised.__context__
    return error
