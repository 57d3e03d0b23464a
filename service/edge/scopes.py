"""What a principal may do, as people write it: `translate:en-de`, `predict:*`, `*:*`."""

import re
from collections.abc import Iterable

Scopes = frozenset[tuple[str, str]]
"""Pairs of an action and a model, as `Principal` has them."""
FORM = r"(\*|[a-z][a-z_]*):(\S{1,256})"
_FORM = re.compile(FORM)


def parse(written: Iterable[str]) -> Scopes:
    """Return those that are scopes of this service; what else a token's issuer grants is none of them."""
    matches = (_FORM.fullmatch(text) for text in written)
    return frozenset((match[1], match[2]) for match in matches if match is not None)
