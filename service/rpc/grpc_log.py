"""What grpc's own loggers may say here: that something failed and of what kind, never what a caller sent."""

import logging

LOGGERS = ("grpc._common", "grpc._cython.cygrpc")
OURS_TO_MIND = "Invalid encoding on"
"""How a message about metadata begins, which the edge refuses or does not mind."""


def hush() -> None:
    """Let grpc's loggers keep values and tracebacks to themselves; doing it again changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_terse)


def _terse(record: logging.LogRecord) -> bool:
    """Leave of a record its message before any value is filled in, and the exception's type."""
    message = record.msg if isinstance(record.msg, str) else f"{type(record.msg).__name__} in grpc"
    kind = record.exc_info[0] if record.exc_info else None
    record.msg = message if kind is None else f"{message} ({kind.__name__})"
    record.args, record.exc_info = (), None
    return not message.startswith(OURS_TO_MIND)
