"""Which of several media types a request's `Accept` header prefers (RFC 9110, 12.5.1)."""

import re
from collections.abc import Sequence

LINES, EVENTS = "application/x-ndjson", "text/event-stream"
"""The media types of answers that are sent as they come."""
QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")
MOST_RANGES = 32
"""Ranges that are looked at: nobody means more."""


def preferred(accepted: str, usual: str, others: Sequence[str]) -> str:
    """Return the media type that is accepted best.

    Args:
        accepted: the header's value, in lower case.
        usual: what everybody gets who asks for no other by its name: ranges (`*/*`) are of it alone.
        others: the first of them, where two are accepted alike, and neither more than the usual one.
    """
    qualities = dict(filter(None, map(_range, accepted.split(",")[:MOST_RANGES])))
    kind = usual.partition("/")[0]
    ranges = (usual, f"{kind}/*", "*/*")
    best, most = usual, next((qualities[name] for name in ranges if name in qualities), 0.0)
    for name in others:
        if qualities.get(name, 0.0) > most:
            best, most = name, qualities[name]
    return best


def _range(part: str) -> tuple[str, float] | None:
    """Return a media range and its quality; None where that is none."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    given = next((value[2:].strip() for value in parameters if value.startswith("q=")), "1")
    return (name, float(given)) if QUALITY.fullmatch(given) else None
