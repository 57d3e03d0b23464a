"""Edits: what TensorFlow and Python do, and where every character of the result comes from."""

import unicodedata
from typing import Any, Literal

import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.vocabulary.edits import (
    PUNCTUATION,
    Edit,
    Edits,
    Exchanged,
    Lowered,
    Stripped,
    Surrounded,
)
from seqserve.service.contract.vocabulary.forms import Form, Normalized
from seqserve.service.contract.vocabulary.patterns import Replaced
from seqserve.service.errors import TextTooLong
from tests.contract.vocabulary.drawn import ASSIGNED_TEXT, TEXT, TEXTS

FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
REWRITES = (
    ("[.?!,¿]", r" \0 "),
    ("[^ a-z.?!,¿]", ""),
    (r"\s+", " "),
    (r"\p{Mn}", ""),
    (r"(\pL+)([^\pL]*)", r"\2\1"),
    (r"([?.!,])|(\d)", r"<\1\2>"),
    (r"\w\b", r"\\"),
    ("", "-"),
    ("o*", "-"),
    ("^.|.$", "_"),
    ("(?i)DOGS", "cats and hens"),
    (r"[[:punct:]]", ""),
    (".", ""),
)
EDITS: dict[str, Edit] = {
    "ascii": Lowered("ascii"),
    "all": Lowered("all"),
    "delete": Exchanged(PUNCTUATION),
    "exchange": Exchanged("s,\t\0", "<>"),
    "strip": Stripped("ascii"),
    "strip all": Stripped("all"),
    "surround": Surrounded("[START] ", " [END]"),
    **{form: Normalized(form) for form in FORMS},
    **{f"{pattern} {new}": Replaced(pattern, new) for pattern, new in REWRITES},
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@given(text=TEXT)
@settings(max_examples=20, deadline=None)
def test_tracing_changes_nothing(edit: Edit, text: str) -> None:
    """The traced text is the applied one; each character is from a place in the text, or from nowhere."""
    edited, origins = edit.trace(text)
    assert edited == edit.apply(text)
    assert len(origins) == len(edited)
    assert all(-1 <= place < len(text) for place in origins)


@pytest.mark.parametrize("edit", [EDITS[name] for name in ("ascii", "all", "delete", "strip", "strip all")])
@given(text=TEXT)
@settings(max_examples=20, deadline=None)
def test_a_kept_character_comes_from_itself(edit: Edit, text: str) -> None:
    edited, origins = edit.trace(text)
    assert list(origins) == sorted(origins)
    assert all(new in (text[at], *text[at].lower(), "ς") for new, at in zip(edited, origins, strict=True))


@pytest.mark.parametrize("form", FORMS)
@given(text=TEXT)
@settings(max_examples=20, deadline=None)
def test_a_normalized_character_is_a_part_of_its_origin(form: Form, text: str) -> None:
    """Taken apart, its first part is one of its origin's; and no character of the text is lost."""
    edited, origins = Normalized(form).trace(text)
    for new, at in zip(edited, origins, strict=True):
        assert unicodedata.normalize("NFD", new)[0] in unicodedata.normalize("NFKD", text[at]) + text[at]
    if form.endswith("D"):
        assert set(origins) == set(range(len(text)))


@given(
    text=st.text(
        st.sampled_from("a\u0300\u0323\u0345\u1100\u1161\u11a8\u09c7\u09be\u0b47\u0b57ệ가"), max_size=12
    )
)
@settings(max_examples=300, deadline=None)
def test_composition_is_unicodes(text: str) -> None:
    """Marks of several classes, blocked ones, Hangul syllables and starters that join a starter."""
    for form in FORMS:
        assert Normalized(form).trace(text).text == unicodedata.normalize(form, text)


def _decoded(tensor: Any) -> list[str]:
    return [value.decode() for value in tensor.numpy()]


@given(texts=TEXTS)
@settings(max_examples=20, deadline=None)
def test_lower_and_strip_are_tensorflows(texts: list[str]) -> None:
    assert [Lowered("ascii").apply(text) for text in texts] == _decoded(tf.strings.lower(texts))
    assert [Stripped("ascii").apply(text) for text in texts] == _decoded(tf.strings.strip(texts))


OLD_LETTERS = st.characters(min_codepoint=1, max_codepoint=0x2BFF)
"""Without NUL, at which TensorFlow's Unicode operations end a text, and letters that its tables lack."""


@given(
    texts=st.lists(st.text(OLD_LETTERS | st.sampled_from("ΣσΑ'. İ"), max_size=12), min_size=1, max_size=12)
)
@settings(max_examples=20, deadline=None)
def test_lower_of_all_letters_is_tensorflows_by_unicode(texts: list[str]) -> None:
    assert [Lowered("all").apply(text) for text in texts] == _decoded(
        tf.strings.lower(texts, encoding="utf-8")
    )


@pytest.mark.parametrize(("pattern", "replacement"), REWRITES)
@given(texts=st.lists(ASSIGNED_TEXT, min_size=1, max_size=12))  # what a letter is grows with Unicode
@settings(max_examples=25, deadline=None)
def test_replacing_is_tensorflows(pattern: str, replacement: str, texts: list[str]) -> None:
    """Matches, groups, empty matches and rewrites are RE2's, to the character."""
    edit = Replaced(pattern, replacement)
    wanted = _decoded(tf.strings.regex_replace(texts, pattern, replacement))
    assert [edit.apply(text) for text in texts] == wanted


def test_origins_by_hand() -> None:
    """Through steps that take apart, lower, delete, put spaces around, strip and surround."""
    edits = Edits(
        (
            Normalized("NFKD"),
            Lowered("ascii"),
            Replaced("[^ a-z.?!,¿]", ""),
            Replaced("[.?!,¿]", r" \0 "),
            Stripped("ascii"),
            Surrounded("[S] ", " [E]"),
        )
    )
    edited, origins = edits.trace(" ﬁ ÉT?")
    assert edited == edits.apply(" ﬁ ÉT?") == "[S] fi et ? [E]"
    assert list(origins) == [-1, -1, -1, -1, 1, 1, 2, 3, 4, 5, 5, -1, -1, -1, -1]


def test_origins_of_a_rewrite() -> None:
    """A group's characters keep their places; other text is from where its match begins, or from nowhere."""
    assert Replaced("(b)(c)", r"\2x\1").trace("abcd") == ("acxbd", [0, 2, 1, 1, 3])
    assert Replaced("$", "!").trace("ab") == ("ab!", [0, 1, -1])


def test_a_text_that_grows_without_end_is_refused() -> None:
    edits = Edits((Replaced("", "x" * 100),) * 3)
    for way in (edits.apply, edits.trace):
        with pytest.raises(TextTooLong, match=r"2050400 characters, more than 1000000"):
            way("a" * 200)


@pytest.mark.parametrize(
    ("pattern", "replacement", "named"),
    [
        ("(?=a)", "", r"RE2 does not know '\(\?=a\)': invalid perl operator"),
        (r"(a)\1", "", "invalid escape sequence"),
        ("(a{1000}){1000}", "", "invalid repetition size"),
        ("a", r"\1", r"replacement '\\\\1': \\1 is none of"),
        ("a", "b\\", "is none of"),
        ("a", r"\n", "is none of"),
    ],
)
def test_what_re2_does_not_know(pattern: str, replacement: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Replaced(pattern, replacement)


@pytest.mark.parametrize("letters", ["ascii", "all"])
def test_white_space_of_one_kind(letters: Literal["ascii", "all"]) -> None:
    """A no-break space is white space to Python and none to TensorFlow."""
    assert Stripped(letters).apply(" \xa0a\xa0 ") == ("a" if letters == "all" else "\xa0a\xa0")
