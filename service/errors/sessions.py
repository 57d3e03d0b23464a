"""Reasons of sessions, at both doors."""

from seqserve.service.errors.base import Aborted, FailedPrecondition, NotFound, Unavailable


class SessionNotFound(NotFound):
    """There is no such session of this caller; one that was deleted, or not used for too long, is none."""

    reason = "SESSION_NOT_FOUND"


class SessionExpired(FailedPrecondition):
    """The session's model version is gone, and the session cannot move to another one."""

    reason = "SESSION_EXPIRED"


class StepUnsupported(FailedPrecondition):
    """The model cannot be taken from event to event, so that it has no sessions; the message says why."""

    reason = "STEP_UNSUPPORTED"


class EventGap(Aborted):
    """The first event's number is beyond the session's next one; those between are missing."""

    reason = "EVENT_GAP"


class EventConflict(Aborted):
    """The session has other events at these numbers."""

    reason = "EVENT_CONFLICT"


class SessionsUnavailable(Unavailable):
    """The store of sessions cannot be reached; an append may be sent again, with the same number."""

    reason = "SESSIONS_UNAVAILABLE"
