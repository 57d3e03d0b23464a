"""The error tree: every way a call can fail, with its canonical code and its stable reason.

Raised everywhere below the transports; turned into HTTP and gRPC by `service.status` alone.

    SeqserveError
      ├── InvalidArgument      the caller can fix it: one item's text, a feature, an option, the body
      ├── Unauthenticated      nobody that we know calls
      ├── PermissionDenied     the caller is known, and may not do this
      ├── NotFound             no such model, version, label or route
      ├── FailedPrecondition   the model is there but cannot do this, or was refused
      ├── Aborted              made for another state of a session; look at it and decide
      ├── ResourceExhausted    too much is queued; come back later
      ├── DeadlineExceeded     the caller's time is up
      ├── Unavailable          nothing to answer with now; retry
      └── Internal             our fault or the model's

A leaf class is one reason. Its docstring is its line in the documented table (`docs/errors.md`).
"""

from collections.abc import Iterator
from typing import Any

from seqserve.service.errors.base import (
    Aborted as Aborted,
    Code as Code,
    FailedPrecondition as FailedPrecondition,
    Internal as Internal,
    InvalidArgument as InvalidArgument,
    NotFound as NotFound,
    Path as Path,
    ResourceExhausted as ResourceExhausted,
    SeqserveError as SeqserveError,
    Unavailable as Unavailable,
    Violation as Violation,
    json_pointer as json_pointer,
    without_frames as without_frames,
)
from seqserve.service.errors.sessions import (
    EventConflict as EventConflict,
    EventGap as EventGap,
    SessionExpired as SessionExpired,
    SessionNotFound as SessionNotFound,
    SessionsUnavailable as SessionsUnavailable,
    StepUnsupported as StepUnsupported,
)
from seqserve.service.errors.versions import (
    BackendBatchingOn as BackendBatchingOn,
    FileChanged as FileChanged,
    GoldenFailed as GoldenFailed,
    ManifestInvalid as ManifestInvalid,
    ManifestMissing as ManifestMissing,
    TaskDiffers as TaskDiffers,
    UnsafeOp as UnsafeOp,
)

OK = "OK"
"""The code of a call that was answered."""

# --- REST alone ---------------------------------------------------------------------------------


class BodyTooLarge(InvalidArgument):
    """The HTTP body is larger than the service accepts (413)."""

    reason = "BODY_TOO_LARGE"


class UnsupportedMediaType(InvalidArgument):
    """The body's Content-Type, charset or Content-Encoding is none that the service reads (415)."""

    reason = "UNSUPPORTED_MEDIA_TYPE"

    def __init__(self, message: str, *, encodings: tuple[str, ...] = (), **others: Any) -> None:
        super().__init__(message, **others)
        self.encodings = encodings  # those that would be read, where the encoding is at fault


class MalformedHttp(InvalidArgument):
    """What came on the connection is not HTTP/1.1."""

    reason = "MALFORMED_HTTP"


class MalformedJson(InvalidArgument):
    """The body is not JSON, or not JSON of this request's form."""

    reason = "MALFORMED_JSON"


class HeadersTooLarge(InvalidArgument):
    """The HTTP request's line and headers are more, or larger, than the service accepts (431)."""

    reason = "HEADERS_TOO_LARGE"


class TooManyConnections(Unavailable):
    """More connections are open than the service takes."""

    reason = "TOO_MANY_CONNECTIONS"


class RouteNotFound(NotFound):
    """No such path (404)."""

    reason = "ROUTE_NOT_FOUND"


class MethodNotAllowed(SeqserveError):
    """The path has no such method (405)."""

    code = Code.UNIMPLEMENTED
    reason = "METHOD_NOT_ALLOWED"

    def __init__(self, message: str, *, allowed: tuple[str, ...] = (), **others: Any) -> None:
        super().__init__(message, **others)
        self.allowed = allowed


# --- gRPC alone ---------------------------------------------------------------------------------


class MalformedMessage(InvalidArgument):
    """The request's bytes are no message of the method's type, or have more fields than the service reads."""

    reason = "MALFORMED_MESSAGE"


# --- both doors: who asks, and how much ------------------------------------------------------------


class Unauthenticated(SeqserveError):
    """The call bears no key or token, or one that is not known here or has expired."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDenied(SeqserveError):
    """The caller may not do this; the message names the model or the action."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class RateLimited(ResourceExhausted):
    """The caller asks for more than its share, or too many calls are open; retry after the hint."""

    reason = "RATE_LIMITED"


class RequestTimeout(SeqserveError):
    """The request came too slowly (REST: 408)."""

    code = Code.DEADLINE_EXCEEDED
    reason = "REQUEST_TIMEOUT"


class RequestTooCostly(InvalidArgument):
    """The request as a whole takes more cells than the service computes for one."""

    reason = "REQUEST_TOO_COSTLY"


# --- both doors: what is asked for --------------------------------------------------------------


class ModelNotFound(NotFound):
    """No model of that name."""

    reason = "MODEL_NOT_FOUND"


class VersionNotFound(NotFound):
    """The model has no such version, or no longer has it."""

    reason = "VERSION_NOT_FOUND"


class LabelNotFound(NotFound):
    """The model has no version under that label."""

    reason = "LABEL_NOT_FOUND"


class Unsupported(SeqserveError):
    """The protocol has this, and the service does not (REST: 400); the message says what there is instead."""

    code = Code.UNIMPLEMENTED
    reason = "UNSUPPORTED"


class WrongTask(FailedPrecondition):
    """The model does not do what was asked: translation models translate, sequence models predict."""

    reason = "WRONG_TASK"


# --- both doors: the request --------------------------------------------------------------------


class EmptyRequest(InvalidArgument):
    """The list of texts or sequences is empty."""

    reason = "EMPTY_REQUEST"


class TooManyItems(InvalidArgument):
    """The request holds more texts or sequences than the service takes at once."""

    reason = "TOO_MANY_ITEMS"


class OptionOutOfRange(InvalidArgument):
    """An option is outside the range that the service or the model allows."""

    reason = "OPTION_OUT_OF_RANGE"


class MalformedTensor(InvalidArgument):
    """A tensor's type, shape and values do not fit together, or two have different numbers of rows."""

    reason = "MALFORMED_TENSOR"


class UnknownHead(InvalidArgument):
    """The model has no head of that name."""

    reason = "UNKNOWN_HEAD"


# --- both doors: one item -----------------------------------------------------------------------


class EmptyText(InvalidArgument):
    """The text has nothing in it."""

    reason = "EMPTY_TEXT"


class TextTooLong(InvalidArgument):
    """The text has more characters or pieces than the model takes."""

    reason = "TEXT_TOO_LONG"


class EmptySequence(InvalidArgument):
    """The sequence has no steps."""

    reason = "EMPTY_SEQUENCE"


class SequenceTooLong(InvalidArgument):
    """The sequence has more steps than the model takes."""

    reason = "SEQUENCE_TOO_LONG"


class SequenceTooShort(InvalidArgument):
    """The sequence has fewer steps than the model needs."""

    reason = "SEQUENCE_TOO_SHORT"


class UnknownFeature(InvalidArgument):
    """The sequence has a feature that the model does not know."""

    reason = "UNKNOWN_FEATURE"


class MissingFeature(InvalidArgument):
    """The sequence lacks a feature that the model needs."""

    reason = "MISSING_FEATURE"


class WrongType(InvalidArgument):
    """A feature's values are not of its kind: labels, numbers, timestamps or one text."""

    reason = "WRONG_TYPE"


class UnequalLengths(InvalidArgument):
    """The features of one sequence have different numbers of steps, or more than one value a sequence."""

    reason = "UNEQUAL_LENGTHS"


class WrongWidth(InvalidArgument):
    """A step of a feature, or its one value, has more or fewer columns than the model's."""

    reason = "WRONG_WIDTH"


class UnknownCategory(InvalidArgument):
    """A label, or a piece of a text, is not among the feature's, and the model does not map unknown ones."""

    reason = "UNKNOWN_CATEGORY"


class NotFinite(InvalidArgument):
    """A number is NaN, infinite, or too large for the model's type."""

    reason = "NOT_FINITE"


class NegativeElapsed(InvalidArgument):
    """An elapsed time is negative, or timestamps decrease."""

    reason = "NEGATIVE_ELAPSED"


class PadCollision(InvalidArgument):
    """A real step looks exactly like padding to the model, which would drop it."""

    reason = "PAD_COLLISION"


# --- both doors: the service --------------------------------------------------------------------


class QueueFull(ResourceExhausted):
    """Too much is waiting already, or the wait would outlast the deadline; retry after the hint."""

    reason = "QUEUE_FULL"


class DeadlineExceeded(SeqserveError):
    """The caller's deadline passed before there was an answer."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(SeqserveError):
    """The caller went away before there was an answer."""

    code = Code.CANCELLED
    reason = "CANCELLED"


class BackendUnavailable(Unavailable):
    """The model server cannot be reached, or is overloaded."""

    reason = "BACKEND_UNAVAILABLE"


class BackendFailed(Internal):
    """The model failed on this input, or answered what its manifest does not allow."""

    reason = "BACKEND_FAILED"


class Draining(Unavailable):
    """The service is shutting down and takes no new work."""

    reason = "DRAINING"


class NotReady(Unavailable):
    """The model is known but no version of it can be called yet."""

    reason = "NOT_READY"


class Unexpected(Internal):
    """A fault of the service itself; the log has it under the request's id."""

    reason = "UNEXPECTED"


def leaves(root: type[SeqserveError] = SeqserveError) -> Iterator[type[SeqserveError]]:
    """Yield every class that is a reason, in the order of this page."""
    for kind in root.__subclasses__():
        if hasattr(kind, "reason"):
            yield kind
        yield from leaves(kind)
