"""Text that goes to the graph and comes from it as it is: its parts of a manifest, and its tensors.

A string tensor has no time axis: the graph itself cuts the text into whatever it works on.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqserve.service import errors
from seqserve.service.contract.late import Late, made
from seqserve.service.contract.part import Part


class Text(Part):
    """A feature of raw text, one a row: dtype string, axes batch."""

    kind: Literal["text"] = "text"


class TextHead(Part):
    """A head whose output is text itself, one a row: dtype string."""

    kind: Literal["text"] = "text"
    per: Literal["sequence"] = "sequence"


def text_input(value: Any, longest: int | None) -> npt.NDArray[Any]:
    """Return a text as the string tensor of one row, shape (): its UTF-8 bytes; see `one_text`."""
    return np.array(one_text(value, longest).encode(), np.object_)


def one_text(value: Any, longest: int | None) -> str:
    """Return a text that a caller gave, checked.

    Args:
        value: the text, or a list of this one text, which is how gRPC has it.
        longest: characters that are allowed.

    Raises:
        WrongType, EmptyText, TextTooLong.
    """
    if isinstance(value, Late):
        value = made(value) if len(value) == 1 else None
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str):
        raise errors.WrongType("one text is wanted, a string")
    if longest is not None and len(text) > longest:
        raise errors.TextTooLong(f"the text has {len(text)} characters, more than the limit of {longest}")
    if not text.strip():
        raise errors.EmptyText("the text is empty")
    return text


def words_in(tensor: npt.NDArray[Any]) -> int:
    """Return the words, between white space, of one row's text: what it counts for in a batch, at least 1."""
    return max(1, len(tensor.item().split()))


def text_output(value: Any) -> str:
    """Return the text that a graph gives for one row: bytes, or an array of this one entry.

    Raises:
        ValueError: it is not one text, or not UTF-8.
    """
    entries = np.asarray(value, np.object_).reshape(-1)
    if len(entries) != 1 or not isinstance(entries[0], bytes):
        raise ValueError(f"the output of a row has shape {np.shape(value)}, its head is one text")
    try:
        return entries[0].decode()
    except UnicodeDecodeError:
        raise ValueError("the output is a text that is not UTF-8") from None
