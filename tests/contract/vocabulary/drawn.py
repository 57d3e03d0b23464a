"""Texts as people and machines write them, and what holds of every vocabulary whatever the text."""

import unicodedata

from hypothesis import strategies as st

from seqserve.service.contract.vocabulary.base import Vocabulary

KNOWN_WORDS = ["two", "dogs", "run", "don't", "straße", "naïve", "İzmir", "ΣΟΦΟΣ", "犬", "été", "👩\u200d👧"]
SPACES = (" ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\xa0", "\u3000", "\u2028", "\x1c", "\x85", "\u200b")
MARKS = (*".,?!¿'\"-_\\[]…«<>", "\x00", "\x7f", "\u0308")
ASSIGNED = st.characters(exclude_categories=("Cs", "Cn"))
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
WORD = st.sampled_from(KNOWN_WORDS) | st.sampled_from(KNOWN_WORDS).map(str.upper)
TEXT = st.lists(WORD | st.sampled_from(SPACES) | st.sampled_from(MARKS) | ANY, max_size=10).map("".join)
ASSIGNED_TEXT = st.lists(
    WORD | st.sampled_from(SPACES) | st.sampled_from(MARKS) | st.text(ASSIGNED, max_size=8), max_size=10
).map("".join)
TEXTS = st.lists(TEXT, min_size=1, max_size=12)
"""Several at once: a call of a Keras layer costs the same for one text as for twelve."""
TRICKY = (
    *("", " ", "\u3000", "\u200b", "ﷺ", "ﬁn ﬁ", "e\u0301", "\U0001f469\u200d\U0001f467 dog"),
    *("\x00a", "a\ud800b", "¨ ¨", "...", "İI", "가 각"),
)


def check_text(vocabulary: Vocabulary, text: str) -> None:
    """Assert that ids and words of a text fit each other, and that its ids decode."""
    ids, source = vocabulary.encode(text), vocabulary.source_words(text)
    assert len(source.word_of_piece) == len(ids)
    assert all(-1 <= word < len(source.words) for word in source.word_of_piece)
    real = [word for word in source.word_of_piece if word >= 0]
    assert real == sorted(real)
    assert vocabulary.known_places(text) <= set(range(len(text)))
    check_ids(vocabulary, ids)


def check_ids(vocabulary: Vocabulary, ids: list[int]) -> None:
    """Assert that both ways of decoding give the same text, and that its words are those of the ids."""
    text, target = vocabulary.decode_words(ids)
    assert vocabulary.decode(ids) == text
    assert list(target.words) == text.split()
    assert len(target.word_of_piece) == len(ids)
    assert set(target.word_of_piece) <= {-1, *range(len(target.words))}
    real = [word for word in target.word_of_piece if word >= 0]
    assert real == sorted(real)


def unaccented(text: str) -> str:
    """Return the text taken apart and without its non-spacing marks, as many tutorials have it in Python."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
