"""Vocabularies that are a list: words and their pieces, special ids, what is unknown, what is empty."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Vocabulary, Words
from seqserve.service.contract.vocabulary.load import load_vocabulary
from seqserve.service.errors import UnknownCategory
from tests.contract.vocabulary.drawn import KNOWN_WORDS, MARKS, TEXT, TRICKY, check_ids, check_text

VECTORIZED = {
    "kind": "text_vectorization",
    "vocabulary": ["", "[UNK]", "[START]", "[END]", "two", "dogs", "run", ".", "fi", *KNOWN_WORDS[3:]],
    "standardize": "lower_and_strip_punctuation",
    "split": "whitespace",
}
STEPS = [
    {"step": "unicode", "form": "NFKC"},
    {"step": "lower", "letters": "all"},
    {"step": "replace", "pattern": "[.?!,]", "replacement": r" \0 "},
    {"step": "prefix", "text": "[START] "},
    {"step": "suffix", "text": " [END]"},
]
STEPPED = {**VECTORIZED, "standardize": None, "steps": STEPS}
SPELLED = {**VECTORIZED, "split": "character", "vocabulary": ["", "[UNK]", *"aou dgnst"]}
INDEXED = {"kind": "word_index", "word_index": {"<s>": 1, "</s>": 2, "two": 4, "dogs": 5}, "lower": True}
MAPPED = {
    **INDEXED,
    "word_index": {**INDEXED["word_index"], "<oov>": 3},
    "oov_token": "<oov>",
    "filters": ",-",
}
LETTERS = {"kind": "characters", "characters": ["\t", "\n", " ", *"abdgostw"], "unknown": "drop"}


def vocabulary_of(file: dict[str, Any], special: SpecialIds | None = None, **fields: Any) -> Vocabulary:
    fields = {"add_end": False, **fields}
    spec = Tokens(tokenizer="v.json", special_ids=special or SpecialIds(), **fields)
    return load_vocabulary(orjson.dumps(file), spec)


VOCABULARIES: dict[str, Vocabulary] = {
    "text vectorization": vocabulary_of(VECTORIZED),
    "steps": vocabulary_of(STEPPED),
    "characters of a layer": vocabulary_of(SPELLED, SpecialIds(start=None, end=None)),
    "the whole as one": vocabulary_of({**VECTORIZED, "split": None}),
    "word index, closed": vocabulary_of(
        INDEXED, SpecialIds(unknown=None, start=1, end=2), add_start=True, add_end=True
    ),
    "word index, unknown mapped": vocabulary_of(MAPPED, SpecialIds(unknown=3, start=1, end=2)),
    "characters": vocabulary_of(LETTERS, SpecialIds(pad=2, unknown=None, start=0, end=1), add_end=True),
    "characters, unknown mapped": vocabulary_of(
        {**LETTERS, "unknown": "map", "characters": ["", "?", *"abc "]}, SpecialIds(start=None, end=None)
    ),
}


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@given(text=st.text(st.characters(), max_size=30) | TEXT)
@settings(max_examples=30, deadline=None)
def test_any_text(vocabulary: Vocabulary, text: str) -> None:
    """Any string at all encodes, decodes, and has each of its pieces in a word, in order."""
    check_text(vocabulary, text)


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text(vocabulary: Vocabulary, text: str) -> None:
    check_text(vocabulary, text)


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_ids(vocabulary: Vocabulary, data: st.DataObject) -> None:
    """Any ids within the vocabulary decode, and map to the decoded words."""
    check_ids(vocabulary, data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=12)))


SIMPLE_WORD = st.lists(st.sampled_from(KNOWN_WORDS) | st.sampled_from(MARKS), min_size=1, max_size=4).map(
    "".join
)
WORDWISE = ("text vectorization", "steps", "word index, closed", "word index, unknown mapped")


def _of_word(ids: list[int], words: Words, place: int) -> list[int]:
    return [i for i, owner in zip(ids, words.word_of_piece, strict=True) if owner == place]


@pytest.mark.parametrize("name", WORDWISE)
@given(words=st.lists(SIMPLE_WORD, min_size=1, max_size=6), spaces=st.sampled_from((" ", "  ", " \t")))
@settings(max_examples=50, deadline=None)
def test_a_words_pieces_are_those_it_has_alone(name: str, words: list[str], spaces: str) -> None:
    """Where words stand between ASCII spaces, each one's pieces are what the word alone is encoded to."""
    vocabulary = VOCABULARIES[name]
    if name.startswith("word index"):
        spaces = spaces.replace("\t", " ")  # the only white space that it splits at
    ids, source = vocabulary.encode(spaces.join(words)), vocabulary.source_words(spaces.join(words))
    assert source.words == tuple(words)
    for place, word in enumerate(words):
        own = _of_word(ids, source, place)
        assert own == _of_word(vocabulary.encode(word), vocabulary.source_words(word), 0)


def test_source_words_by_hand() -> None:
    """Pieces belong to the caller's words, whatever steps make of them; what was added belongs to none."""
    source = VOCABULARIES["steps"].source_words("  Two ﬁ,dogs ... run")
    assert source == Words(("Two", "ﬁ,dogs", "...", "run"), (-1, 0, 1, 1, 1, 2, 2, 2, 3, -1))
    plain = VOCABULARIES["text vectorization"]
    assert plain.encode("Two ﬁ,dogs ... run") == [4, 1, 6]
    assert plain.source_words("Two ﬁ,dogs ... run") == Words(("Two", "ﬁ,dogs", "...", "run"), (0, 1, 3))


def test_a_separator_of_several_characters() -> None:
    """Pieces between separators of any length belong to the words that they stand in."""
    index = {"kind": "word_index", "word_index": {"a": 1, "b": 2, "c": 3}, "split": " - "}
    vocabulary = vocabulary_of(index, SpecialIds(unknown=None, start=None, end=None))
    assert vocabulary.encode("a - b -  - c") == [1, 2, 3]
    assert vocabulary.source_words("a - b -  - c") == Words(("a", "-", "b", "-", "-", "c"), (0, 2, 5))


def test_a_piece_of_two_words_belongs_to_the_first() -> None:
    """TensorFlow does not split at a no-break space, which stands between two words of the caller's."""
    vocabulary = VOCABULARIES["text vectorization"]
    assert vocabulary.source_words("two\xa0dogs run") == Words(("two", "dogs", "run"), (0, 2))


def test_words_of_characters() -> None:
    """A space goes with the word that it opens, one after the last word with none."""
    letters = VOCABULARIES["characters"]
    assert letters.encode("two Xdo ") == [9, 10, 7, 2, 5, 7, 2, 1]
    source = letters.source_words("two Xdo ")
    assert source == Words(("two", "Xdo"), (0, 0, 0, 1, 1, 1, -1, -1))


def test_start_and_end_ids() -> None:
    """They open and close a text where asked for, belong to no word, and are written as nothing."""
    vocabulary = VOCABULARIES["word index, closed"]
    assert vocabulary.encode("TWO strange dogs") == [1, 4, 5, 2]
    assert vocabulary.source_words("TWO strange dogs") == Words(("TWO", "strange", "dogs"), (-1, 0, 2, -1))
    assert vocabulary.decode_words([1, 4, 0, 5, 2, 0]) == (
        "two dogs",
        Words(("two", "dogs"), (-1, 0, -1, 1, -1, -1)),
    )


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
def test_no_text(vocabulary: Vocabulary) -> None:
    """No ids at all, neither those of start and end nor those that steps add."""
    assert vocabulary.encode("") == []
    assert vocabulary.source_words("") == Words((), ())
    assert vocabulary.known_places("") == set()


def test_nothing_left() -> None:
    """White space, punctuation that is deleted, and words that are all dropped leave nothing."""
    assert VOCABULARIES["text vectorization"].encode(" ... ") == []
    assert VOCABULARIES["steps"].encode(" \t") == []
    assert VOCABULARIES["the whole as one"].encode("...") == []
    assert VOCABULARIES["word index, closed"].encode("all strange") == []
    assert VOCABULARIES["word index, closed"].source_words("all strange") == Words(("all", "strange"), ())


@pytest.mark.parametrize(
    ("name", "text", "known"),
    [
        ("text vectorization", "two strange dogs!", "two         dogs "),
        ("steps", "two strange dogs.", "two         dogs."),
        ("steps", "ＴＷＯ ﬁ !", "ＴＷＯ ﬁ  "),
        ("word index, closed", "two strange dogs", "two         dogs"),
        ("word index, unknown mapped", "two strange-dogs", "two         dogs"),
        ("characters", "two X", "two  "),
        ("characters, unknown mapped", "cab X", "cab  "),
    ],
)
def test_what_is_known_of_a_text(name: str, text: str, known: str) -> None:
    """Neither what is mapped to the unknown id, nor what is dropped, nor what the edits delete."""
    places = VOCABULARIES[name].known_places(text)
    seen = (character if place in places else " " for place, character in enumerate(text))
    assert "".join(seen) == known


def test_unknown_characters_may_be_refused() -> None:
    letters = vocabulary_of({**LETTERS, "unknown": "reject"}, SpecialIds(pad=2, unknown=None, start=0, end=1))
    assert letters.decode(letters.encode("two dogs")) == "two dogs"
    for way in (letters.encode, letters.source_words, letters.known_places):
        with pytest.raises(UnknownCategory, match="the model's vocabulary has no 'X'"):
            way("two X")


def test_a_space_that_pads_is_still_a_space() -> None:
    """A pad id that is a character of the text is written as that; one that stands for none as nothing."""
    spaced = VOCABULARIES["characters"]
    assert spaced.special_ids.pad == 2
    assert spaced.decode([0, *spaced.encode("two dogs"), 1]) == "two dogs"
    assert VOCABULARIES["characters, unknown mapped"].decode([2, 0, 5, 3, 1, 0]) == "a b?"


def test_lone_surrogates() -> None:
    """Half of a pair reads as U+FFFD."""
    letters = vocabulary_of(
        {**LETTERS, "characters": ["\ufffd", "a", "😀"]},
        SpecialIds(pad=0, unknown=None, start=None, end=None),
    )
    assert letters.encode("\ud800a\ud83d\ude00") == [0, 1, 2]
    assert letters.source_words("\ud800a \ud83d").words == ("\ufffda", "\ufffd")


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@pytest.mark.parametrize("bad", [-1, 10_000, 2**40])
def test_ids_outside_the_vocabulary(vocabulary: Vocabulary, bad: int) -> None:
    for way in (vocabulary.decode, vocabulary.decode_words):
        with pytest.raises(ValueError, match=f"id {bad} is outside the vocabulary of {vocabulary.size}"):
            way([4, bad])
