"""Errors as gRPC shows them: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo.

The status itself comes from `service.status`. A violation's `field` is the place in the request message, as
`texts[3]` or `heads[0]`; a task whose message differs from its body names places its own way.
"""

from collections.abc import Callable, Sequence

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seqserve.service.contract.items import Fault
from seqserve.service.errors import Code, Path, SeqserveError, Violation
from seqserve.service.status import TABLE, grpc_status

DOMAIN = "seqserve"
LEFT_OUT = "violations_left_out"
"""The member of ErrorInfo's metadata that says how many violations did not fit."""
MOST_MESSAGE_BYTES = 1024
MOST_VIOLATION_BYTES = 2048
"""Peers refuse trailers above 8 KiB, where a message may take three times its bytes and details 4/3."""

Field = Callable[[Path], str]
"""Returns a path of `service.errors` as a field of a request message."""


def dotted(path: Path) -> str:
    """Return the field of a message that has the body's members."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def call_status(error: SeqserveError, field: Field) -> status_pb2.Status:
    """Return a call's error with its details, small enough for the trailers."""
    fitting, left_out = _fitting(error.violations, field)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if left_out:
        info.metadata[LEFT_OUT] = str(left_out)
    details: list[Message] = [info]
    if fitting.field_violations:
        details.append(fitting)
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after)))
    return _status(grpc_status(error).value[0], error.message, details)


def item_status(fault: Fault, field: Field = dotted) -> status_pb2.Status:
    """Return the error that stands in an item's place."""
    info = error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN)
    fitting, _ = _fitting([Violation(fault.pointer, fault.message, fault.reason)], field)
    return _status(TABLE[Code(fault.code)][1].value[0], fault.message, [info, fitting])


def _fitting(violations: Sequence[Violation], field: Field) -> tuple[error_details_pb2.BadRequest, int]:
    """Return as many violations as fit, from the first on, and how many do not."""
    bad = error_details_pb2.BadRequest()
    for place, violation in enumerate(violations):
        bad.field_violations.add(
            field=field(violation.path),
            description=_shortened(violation.message),
            reason=violation.reason,
        )
        if bad.ByteSize() > MOST_VIOLATION_BYTES:
            del bad.field_violations[place]
            return bad, len(violations) - place
    return bad, 0


def _status(code: int, message: str, details: Sequence[Message]) -> status_pb2.Status:
    packed = [any_pb2.Any() for _ in details]
    for target, detail in zip(packed, details, strict=True):
        target.Pack(detail)
    return status_pb2.Status(code=code, message=_shortened(message), details=packed)


def _shortened(message: str) -> str:
    raw = message.encode("utf-8", "replace")
    return message if len(raw) <= MOST_MESSAGE_BYTES else raw[:MOST_MESSAGE_BYTES].decode("utf-8", "ignore")


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
