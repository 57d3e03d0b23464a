"""Logs as one JSON object a line, each with the id of the request it belongs to. No texts, no values."""

import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
_ID_FORM = re.compile(r"[\x21-\x7e]{1,128}")


def request_id(given: str) -> str:
    """Return the caller's id where it is fit for a log line and a header, else a new one."""
    return given if _ID_FORM.fullmatch(given) else f"{getrandbits(128):032x}"


class JsonFormatter(logging.Formatter):
    """Formats a record; members given by `extra={"fields": {…}}` are added."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **({"request_id": REQUEST_ID.get()} if REQUEST_ID.get() else {}),
            **getattr(record, "fields", {}),
            **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str) -> None:
    """Send every log line to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
