"""Regular expressions in the edits of a text: RE2's, as in TensorFlow's graphs."""

import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

import re2

from seqserve.service.contract.vocabulary.edits import NOWHERE, Traced


class Replaced:
    r"""Every match of a pattern rewritten, exactly as `tf.strings.regex_replace` does: both are RE2.

    So classes such as `\w`, `\s` and `\b` are ASCII's, there is no looking around and no backreference in a
    pattern, and nothing backtracks. `\0` to `\9` in the replacement are the match and its
    groups, `\\` is a backslash. Source: https://github.com/google/re2/wiki/Syntax, RE2::GlobalReplace.

    Raises:
        ValueError: RE2 knows no such pattern or replacement.
    """

    def __init__(self, pattern: str, replacement: str) -> None:
        self._regexp = _compiled(pattern)
        self._parts = _rewrite(replacement, self._regexp.groups)

    def apply(self, text: str) -> str:
        """Return the text with every match rewritten."""
        return "".join(piece for piece, _ in self._pieces(text))

    def trace(self, text: str) -> Traced:
        """Return the same; groups keep their places, other text comes from where its match begins."""
        pieces = list(self._pieces(text))
        return Traced("".join(piece for piece, _ in pieces), [at for _, places in pieces for at in places])

    def _pieces(self, text: str) -> Iterator[tuple[str, Sequence[int]]]:
        done = 0
        for match in self._matches(text):
            begin, end = match.span()
            yield text[done:begin], range(done, begin)
            for part in self._parts:
                if isinstance(part, str):
                    yield part, [begin if end > begin else NOWHERE] * len(part)
                elif match.start(part) >= 0:  # a group that took no part is at -1
                    yield match.group(part), range(*match.span(part))
            done = end
        yield text[done:], range(done, len(text))

    def _matches(self, text: str) -> Iterator[Any]:
        """Yield the matches that RE2 replaces: no empty one right where the match before it ended."""
        last = NOWHERE
        for match in self._regexp.finditer(text):
            begin, end = match.span()
            if not begin == end == last:
                yield match
                last = end


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise ValueError(f"RE2 does not know {pattern!r}: {reason}") from error


def _rewrite(replacement: str, groups: int) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    for match in re.finditer(r"([^\\]+)|\\(.?)", replacement, re.DOTALL):
        literal, escaped = match.groups()
        if literal is not None or escaped == "\\":
            parts.append(literal or escaped)
        elif escaped in tuple(string.digits) and int(escaped) <= groups:
            parts.append(int(escaped))
        else:
            raise ValueError(rf"replacement {replacement!r}: {match[0]} is none of \\ and \0 to \{groups}")
    return tuple(parts)
