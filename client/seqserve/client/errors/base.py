"""What every error has, and the kinds of errors: each has one canonical code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault: where in the request (`#/texts/3`, a JSON Pointer as a fragment), what, and its reason."""

    pointer: str
    message: str
    reason: str


class ServiceError(Exception):
    """Base of all. Stands as well in the place of an item that failed, among others that did not.

    Args:
        message: names the field, the limit and the value; for people.
        code: name of the google.rpc.Code; the class's if absent.
        reason: stable, UPPER_SNAKE; the class's if absent.
        errors: every fault that has a place in the request.
        request_id: what the service's log has it under; empty where it did not answer.
        retry_after: seconds after which the same call may succeed, where the service says so.
        left_out: how many `errors` there were beyond those.
    """

    code: str = "UNKNOWN"
    reason: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        errors: Sequence[Violation] = (),
        request_id: str = "",
        retry_after: float | None = None,
        left_out: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason or type(self).reason
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after
        self.left_out = left_out

    def __str__(self) -> str:
        """Return what can be shown to a user."""
        return f"{self.reason or self.code}: {self.message}"


class InvalidArgument(ServiceError):
    """The request is at fault, whatever the state of the service."""

    code = "INVALID_ARGUMENT"


class NotFound(ServiceError):
    """What the request names does not exist here."""

    code = "NOT_FOUND"


class FailedPrecondition(ServiceError):
    """What the request names exists but cannot serve it."""

    code = "FAILED_PRECONDITION"


class Aborted(ServiceError):
    """The request was made for another state of things than there is now."""

    code = "ABORTED"


class ResourceExhausted(ServiceError):
    """The service is full."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(ServiceError):
    """The service cannot answer now; the same call may succeed later."""

    code = "UNAVAILABLE"


class Internal(ServiceError):
    """The service or the model is at fault."""

    code = "INTERNAL"


# --- the client's own -----------------------------------------------------------------------------


class Unreachable(Unavailable):
    """No service answers at the address, or the connection broke before there was an answer.

    Args:
        sent: whether the request may have reached the service.
    """

    reason = "UNREACHABLE"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class NoAnswer(ServiceError):
    """What answers does not speak the service's language: a proxy, or another program."""

    reason = "NO_ANSWER"


def kinds(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """Yield every class below one."""
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


@cache
def _by_reason() -> dict[str, type[ServiceError]]:
    return {kind.reason: kind for kind in kinds() if kind.reason and kind.__module__ != __name__}


@cache
def _by_code() -> dict[str, type[ServiceError]]:
    return {kind.code: kind for kind in ServiceError.__subclasses__() if not kind.reason}


def kind_of(code: str, reason: str) -> type[ServiceError]:
    """Return the class of what a service says; of a reason that is not known here, that of its code."""
    return _by_reason().get(reason) or _by_code().get(code, ServiceError)
