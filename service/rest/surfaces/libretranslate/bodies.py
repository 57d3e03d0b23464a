"""What LibreTranslate's clients send, as JSON or as a form, and what our door is asked by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ConfigDict, Field
from starlette.requests import Request

from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.tasks import TRANSLATION
from seqserve.service.core.types import Asked
from seqserve.service.rest.bodies import Parts, asked_of, checked, media_type, read_body, read_parts
from seqserve.service.rest.outline import Bounds

FORM_TYPE = "application/x-www-form-urlencoded"
TEXT = "q"
MOST_FIELDS = 20
"""Fields of a form beside the texts."""
DIGITS = 4
MOST_FORM_BYTES = 256 * 1024
"""A form is read at once."""


class Options(Body):
    """All but the texts; what else a client sends is passed over, as LibreTranslate does."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    source: str = Field(description="the language of the texts, by its tag; `auto` is refused")
    target: str = Field(description="the language that is wanted, by its tag")
    format: str = Field("text", description="`html` is refused")
    alternatives: int = Field(0, description="how many further translations are wanted of each text")


ASKED: dict[str, Any] = Options.model_json_schema()
ASKED["properties"] = {
    TEXT: {"type": ["string", "array"], "items": {"type": "string"}, "description": "a text, or a list"},
    **ASKED["properties"],
}
ASKED["required"] = [TEXT, *ASKED["required"]]


@dataclass(frozen=True, slots=True)
class Question:
    """A request: what our door is asked, and how the answer is shown.

    Args:
        is_list: whether the texts came as a list, and so go back as one.
    """

    options: Options
    asked: Asked
    is_list: bool


async def read_question(request: Request, bounds: Bounds, became: Callable[[int], None]) -> Question:
    """Read a request.

    Raises:
        Unsupported: markup, or a language that is to be found out.
        UnsupportedMediaType, BodyTooLarge, TooManyItems, MalformedJson: see `read_asked`.
    """
    if media_type(request.headers.get("content-type", "")) == FORM_TYPE:
        parts = _form(
            await read_body(request, min(bounds.data, MOST_FORM_BYTES), became, (FORM_TYPE,)), bounds
        )
    else:
        parts = await read_parts(request, (TEXT,), bounds, became)
    table = dict(parts.table)
    given: Any = table.pop(TEXT, parts.items)
    options = checked(table, Options)
    if options.format != "text":
        raise errors.Unsupported(f"format is {options.format[:20]!r}; only text is translated, not markup")
    if options.source == "auto":
        raise errors.Unsupported("source is auto; languages are not detected here: name it (/languages)")
    is_list = not isinstance(given, str)
    texts = given if is_list else [given]
    if parts.items is None and not (isinstance(texts, list) and all(isinstance(one, str) for one in texts)):
        raise errors.MalformedJson("q is wanted: a text, or a list of texts")
    asked = await asked_of(_ours(texts, options, parts.items is not None), TRANSLATION, bounds, is_whole=True)
    return Question(options, asked, is_list)


def _ours(texts: Sequence[str], options: Options, is_large: bool) -> Parts:
    """Return the body that asks the same of our own door; alternatives are what further beams found."""
    beams = options.alternatives + 1
    table: dict[str, Any] = {} if beams == 1 else {"beam_size": beams, "n_best": beams}
    member = TRANSLATION.body_member
    return Parts(table, member, texts) if is_large else Parts({**table, member: texts}, member)


def _form(data: bytes, bounds: Bounds) -> Parts:
    """Return a form as the object that says the same.

    Raises:
        MalformedJson: it is no form, or none of this request.
    """
    most = bounds.items + MOST_FIELDS
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError as error:
        raise errors.MalformedJson(f"the body is no form of UTF-8 with at most {most} fields") from error
    table: dict[str, Any] = dict(pairs)
    texts = [value for name, value in pairs if name == TEXT]
    if texts:
        table[TEXT] = texts[0] if len(texts) == 1 else texts
    number = table.get("alternatives", "0")
    if not (number.isdecimal() and number.isascii() and len(number) <= DIGITS):
        raise errors.MalformedJson(f"alternatives is {number[:20]!r}; a number is wanted")
    return Parts({**table, "alternatives": int(number)}, TEXT)
