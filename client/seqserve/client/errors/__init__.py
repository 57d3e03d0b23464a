"""Why a call failed: one class for each reason of the service (docs/errors.md), and two of the client's own.

    ServiceError
      ├── InvalidArgument      the caller can fix it: one item's text, a feature, an option, the body
      ├── NotFound             no such model, version, label, session or route
      ├── FailedPrecondition   the model is there but cannot do this, or was refused
      ├── Aborted              made for another state of a session; look at it and decide
      ├── ResourceExhausted    too much is waiting; come back later
      ├── Unavailable          nothing to answer with now; the same call may succeed later
      ├── Internal             the service's fault or the model's
      └── …                    reasons with a code of their own, as DeadlineExceeded

A reason that this version does not know is the class of its code, or ServiceError.
"""

from seqserve.client.errors.base import (
    Aborted as Aborted,
    FailedPrecondition as FailedPrecondition,
    Internal as Internal,
    InvalidArgument as InvalidArgument,
    NoAnswer as NoAnswer,
    NotFound as NotFound,
    ResourceExhausted as ResourceExhausted,
    ServiceError as ServiceError,
    Unavailable as Unavailable,
    Unreachable as Unreachable,
    Violation as Violation,
    kind_of as kind_of,
)


class BodyTooLarge(InvalidArgument):
    """The HTTP body is larger than the service accepts (413)."""

    reason = "BODY_TOO_LARGE"


class UnsupportedMediaType(InvalidArgument):
    """The body's Content-Type, charset or Content-Encoding is none that the service reads (415)."""

    reason = "UNSUPPORTED_MEDIA_TYPE"


class MalformedHttp(InvalidArgument):
    """What came on the connection is not HTTP/1.1."""

    reason = "MALFORMED_HTTP"


class MalformedJson(InvalidArgument):
    """The body is not JSON, or not JSON of this request's form."""

    reason = "MALFORMED_JSON"


class HeadersTooLarge(InvalidArgument):
    """The HTTP request's line and headers are more, or larger, than the service accepts (431)."""

    reason = "HEADERS_TOO_LARGE"


class MalformedMessage(InvalidArgument):
    """The request's bytes are no message of the method's type, or have more fields than the service reads."""

    reason = "MALFORMED_MESSAGE"


class RequestTooCostly(InvalidArgument):
    """The request as a whole takes more cells than the service computes for one."""

    reason = "REQUEST_TOO_COSTLY"


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


class SessionNotFound(NotFound):
    """There is no such session of this caller; one that was deleted, or not used for too long, is none."""

    reason = "SESSION_NOT_FOUND"


class RouteNotFound(NotFound):
    """No such path (404)."""

    reason = "ROUTE_NOT_FOUND"


class ModelNotFound(NotFound):
    """No model of that name."""

    reason = "MODEL_NOT_FOUND"


class VersionNotFound(NotFound):
    """The model has no such version, or no longer has it."""

    reason = "VERSION_NOT_FOUND"


class LabelNotFound(NotFound):
    """The model has no version under that label."""

    reason = "LABEL_NOT_FOUND"


class SessionExpired(FailedPrecondition):
    """The session's model version is gone, and the session cannot move to another one."""

    reason = "SESSION_EXPIRED"


class StepUnsupported(FailedPrecondition):
    """The model cannot be taken from event to event, so that it has no sessions; the message says why."""

    reason = "STEP_UNSUPPORTED"


class BackendBatchingOn(FailedPrecondition):
    """The model server batches by itself; the gateway batches, so that must be off."""

    reason = "BACKEND_BATCHING_ON"


class GoldenFailed(FailedPrecondition):
    """The version does not give the answers that were recorded when it was exported."""

    reason = "GOLDEN_FAILED"


class ManifestMissing(FailedPrecondition):
    """The version carries no manifest."""

    reason = "MANIFEST_MISSING"


class ManifestInvalid(FailedPrecondition):
    """The version's manifest breaks the contract; the message names the field."""

    reason = "MANIFEST_INVALID"


class FileChanged(FailedPrecondition):
    """A file of the version is not the one that was exported; the message names it."""

    reason = "FILE_CHANGED"


class UnsafeOp(FailedPrecondition):
    """The version's graph would reach for more than its own files; the message names node and operation."""

    reason = "UNSAFE_OP"


class TaskDiffers(FailedPrecondition):
    """The version is for another task than the one that answers under its name; the message names both."""

    reason = "TASK_DIFFERS"


class WrongTask(FailedPrecondition):
    """The model does not do what was asked: translation models translate, sequence models predict."""

    reason = "WRONG_TASK"


class EventGap(Aborted):
    """The first event's number is beyond the session's next one; those between are missing."""

    reason = "EVENT_GAP"


class EventConflict(Aborted):
    """The session has other events at these numbers."""

    reason = "EVENT_CONFLICT"


class RateLimited(ResourceExhausted):
    """The caller asks for more than its share, or too many calls are open; retry after the hint."""

    reason = "RATE_LIMITED"


class QueueFull(ResourceExhausted):
    """Too much is waiting already, or the wait would outlast the deadline; retry after the hint."""

    reason = "QUEUE_FULL"


class SessionsUnavailable(Unavailable):
    """The store of sessions cannot be reached; an append may be sent again, with the same number."""

    reason = "SESSIONS_UNAVAILABLE"


class TooManyConnections(Unavailable):
    """More connections are open than the service takes."""

    reason = "TOO_MANY_CONNECTIONS"


class BackendUnavailable(Unavailable):
    """The model server cannot be reached, or is overloaded."""

    reason = "BACKEND_UNAVAILABLE"


class Draining(Unavailable):
    """The service is shutting down and takes no new work."""

    reason = "DRAINING"


class NotReady(Unavailable):
    """The model is known but no version of it can be called yet."""

    reason = "NOT_READY"


class BackendFailed(Internal):
    """The model failed on this input, or answered what its manifest does not allow."""

    reason = "BACKEND_FAILED"


class Unexpected(Internal):
    """A fault of the service itself; the log has it under the request's id."""

    reason = "UNEXPECTED"


class MethodNotAllowed(ServiceError):
    """The path has no such method (405)."""

    code = "UNIMPLEMENTED"
    reason = "METHOD_NOT_ALLOWED"


class Unauthenticated(ServiceError):
    """The call bears no key or token, or one that is not known here or has expired."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(ServiceError):
    """The caller may not do this; the message names the model or the action."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class RequestTimeout(ServiceError):
    """The request came too slowly (REST: 408)."""

    code = "DEADLINE_EXCEEDED"
    reason = "REQUEST_TIMEOUT"


class Unsupported(ServiceError):
    """The protocol has this, and the service does not (REST: 400); the message says what there is instead."""

    code = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"


class DeadlineExceeded(ServiceError):
    """The caller's deadline passed before there was an answer."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Cancelled(ServiceError):
    """The caller went away before there was an answer."""

    code = "CANCELLED"
    reason = "CANCELLED"
