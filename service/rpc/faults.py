"""Errors as gRPC shows them: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo.

Called by `service.rpc.edge` for a call's error and by `service.rpc.convert` for an item's. The status
itself comes from `service.status`.

A violation's `field` is the place in the request message: `texts[3]`, `heads[0]`, `options.beam_size`,
`sequences[0].features["minutes"]`. `….values[2]` behind a feature is its step 2, whichever member of
`values` is set, and however many columns a step has.
"""

import json
from collections.abc import Sequence

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from seqserve.service.contract.items import Fault
from seqserve.service.errors import Code, Path, SeqserveError, Violation
from seqserve.service.status import TABLE, grpc_status
from seqserve.v1 import translation_pb2

DOMAIN = "seqserve"
LEFT_OUT = "violations_left_out"
"""The member of ErrorInfo's metadata that says how many violations did not fit."""
MOST_MESSAGE_BYTES = 1024
MOST_VIOLATION_BYTES = 2048
"""Peers refuse trailers above 8 KiB, where a message may take three times its bytes and details 4/3."""

_OPTIONS = {
    **dict.fromkeys(translation_pb2.DecodeOptions.DESCRIPTOR.fields_by_name, "options"),
    **dict.fromkeys(translation_pb2.Sampling.DESCRIPTOR.fields_by_name, "options.sampling"),
}


def call_status(error: SeqserveError, request: type[Message]) -> status_pb2.Status:
    """Return a call's error with its details, small enough for the trailers.

    Args:
        request: the type of the request, which the violations' fields are named in.
    """
    fitting, left_out = _fitting(error.violations, request)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if left_out:
        info.metadata[LEFT_OUT] = str(left_out)
    details: list[Message] = [info]
    if fitting.field_violations:
        details.append(fitting)
    if error.retry_after is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after)))
    return _status(grpc_status(error).value[0], error.message, details)


def item_status(fault: Fault) -> status_pb2.Status:
    """Return the error that stands in an item's place."""
    info = error_details_pb2.ErrorInfo(reason=fault.reason, domain=DOMAIN)
    return _status(TABLE[Code(fault.code)][1].value[0], fault.message, [info])


def field_path(path: Path, request: type[Message]) -> str:
    """Return a path of `service.errors` as a field of the request message; see the module."""
    match path:
        case ("sequences", int(place), str(feature), *rest):
            within = f"sequences[{place}].features[{json.dumps(feature, ensure_ascii=False)}]"
            return within + _step(rest)
        case (str(root), *rest) if root not in request.DESCRIPTOR.fields_by_name and root in _OPTIONS:
            return f"{_OPTIONS[root]}.{_dotted(path)}"
    return _dotted(path)


def _step(rest: Sequence[str | int]) -> str:
    names = [part for part in rest if isinstance(part, str)]
    return "".join([*(f".{name}" for name in names), *(f".values[{n}]" for n in rest if isinstance(n, int))])


def _dotted(path: Sequence[str | int]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _fitting(
    violations: Sequence[Violation], request: type[Message]
) -> tuple[error_details_pb2.BadRequest, int]:
    """Return as many violations as fit, from the first on, and how many do not."""
    bad = error_details_pb2.BadRequest()
    for place, violation in enumerate(violations):
        bad.field_violations.add(
            field=field_path(violation.path, request),
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
