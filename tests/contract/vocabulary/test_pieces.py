"""Text to ids and back, and the words that pieces belong to."""

import unicodedata

import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Words
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.errors import ManifestInvalid

ALPHABET = "abcdefghilmnorstuvzäßéà,"  # every one of them is in the sentences that the tokenizer saw
ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates included
TRICKY = (
    "",
    " ",
    "　",
    "\u200b",
    "ﷺ",
    "ﬁn ﬁ",
    "e\u0301",
    "👩‍👧 dog",
    "\x00a",
    "a\ud800b",
    "\ud83d\ude00",
    "▁",
)


def _check(codec: SentencePieces, text: str) -> None:
    ids = codec.encode(text)
    source = codec.source_words(text)
    assert len(source.word_of_piece) == len(ids)
    assert all(-1 <= word < len(source.words) for word in source.word_of_piece)
    real = [word for word in source.word_of_piece if word >= 0]
    assert list(source.word_of_piece) == [*sorted(real), *[-1] * (len(ids) - len(real))]
    _check_ids(codec, ids)


def _check_ids(codec: SentencePieces, ids: list[int]) -> None:
    text, target = codec.decode_words(ids)
    assert codec.decode(ids) == text
    assert list(target.words) == text.split()
    assert len(target.word_of_piece) == len(ids)
    assert set(target.word_of_piece) - {-1} == set(range(len(target.words)))


@given(text=ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text(codec: SentencePieces, bytes_codec: SentencePieces, text: str) -> None:
    """Any string at all encodes, decodes, and has each of its pieces in a word, in order."""
    _check(codec, text)
    _check(bytes_codec, text)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text(codec: SentencePieces, bytes_codec: SentencePieces, text: str) -> None:
    """The same of texts that are empty, all invisible, expand when normalized, or are not well formed."""
    _check(codec, text)
    _check(bytes_codec, text)


@given(
    words=st.lists(st.text(ALPHABET, min_size=1, max_size=8), max_size=8), spaces=st.sampled_from(" \t　\xa0")
)
@settings(max_examples=200, deadline=None)
def test_round_trip(codec: SentencePieces, words: list[str], spaces: str) -> None:
    """Text in the tokenizer's alphabet comes back normalized: NFKC, single spaces, none at the ends."""
    text = f"{spaces} {f'{spaces} '.join(words)} {spaces}"
    decomposed = unicodedata.normalize("NFD", text)
    assert codec.decode(codec.encode(text)) == " ".join(words)
    assert codec.decode(codec.encode(decomposed)) == " ".join(words)


def test_byte_fallback_round_trip(bytes_codec: SentencePieces) -> None:
    """A tokenizer with bytes gives back what it has no pieces for."""
    assert bytes_codec.decode(bytes_codec.encode("two 👩‍👧 Жuk")) == "two 👩‍👧 Жuk"


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_ids(codec: SentencePieces, bytes_codec: SentencePieces, data: st.DataObject) -> None:
    """Any ids within the vocabulary decode, special ones anywhere included, and map to the decoded words."""
    one = data.draw(st.sampled_from([codec, bytes_codec]))
    _check_ids(one, data.draw(st.lists(st.integers(0, one.size - 1), max_size=12)))


def test_source_words(codec: SentencePieces) -> None:
    """Pieces belong to the words of the text as it was given, whatever normalization made of it."""
    text = "  ｔｗｏ　 dogs\tﬁ 👩‍👧 "
    source = codec.source_words(text)
    assert source.words == ("ｔｗｏ", "dogs", "ﬁ", "👩‍👧")
    assert source.word_of_piece[-1] == -1  # the end id
    assert set(source.word_of_piece[:-1]) == {0, 1, 2, 3}
    per_word = [len(codec.encode(word)) - 1 for word in source.words]
    assert [source.word_of_piece.count(word) for word in range(4)] == per_word


def test_decoded_words_skip_special_ids(codec: SentencePieces) -> None:
    """Pad, start and end ids belong to no word wherever they stand."""
    two, dogs = (codec.encode(word)[:-1] for word in ("two", "dogs"))
    ids = [2, *two, 0, 3, *dogs, 3, 0]
    expected = (-1, *[0] * len(two), -1, -1, *[1] * len(dogs), -1, -1)
    assert codec.decode_words(ids) == ("two dogs", Words(("two", "dogs"), expected))


def test_an_unknown_piece_is_a_part_of_its_word(codec: SentencePieces) -> None:
    """A ⁇ has no spaces of its own: within a word it leaves the word whole, and single spaces stay single."""
    text = "two tЖo Ж dogs"
    ids = codec.encode(text)
    decoded, words = codec.decode_words(ids)
    assert decoded == "two t⁇o ⁇ dogs"
    assert words == Words(("two", "t⁇o", "⁇", "dogs"), codec.source_words(text).word_of_piece)


def test_lone_surrogates(codec: SentencePieces) -> None:
    """Half of a pair reads as U+FFFD, as browsers have it; a whole pair is its character."""
    assert codec.encode("two\ud800dogs \udc00") == codec.encode("two\ufffddogs \ufffd")
    assert codec.source_words("two \ud800x \ud83d\ude00").words == ("two", "\ufffdx", "😀")


def test_text_that_looks_special(codec: SentencePieces) -> None:
    """A text that spells a special piece does not become its id."""
    ids = codec.encode("<pad> </s> <s>")
    assert ids[-1] == 3
    assert not {0, 2, 3} & set(ids[:-1])


@pytest.mark.parametrize("bad", [-1, 10_000, 2**40])
def test_ids_outside_the_vocabulary(codec: SentencePieces, bad: int) -> None:
    """An id that no piece has is a ValueError that names it, in both directions of use."""
    with pytest.raises(ValueError, match=f"id {bad} is outside the vocabulary"):
        codec.decode([4, bad])
    with pytest.raises(ValueError, match=f"id {bad} is outside the vocabulary"):
        codec.decode_words([4, bad])


def test_special_ids_are_the_manifests(tokenizer: bytes) -> None:
    """The manifest says which ids are no text, even ones beyond the tokenizer's pieces."""
    special = SpecialIds(pad=0, unknown=1, start=5000, end=5001)
    codec = SentencePieces(tokenizer, Tokens(tokenizer="en.model", special_ids=special))
    ids = codec.encode("two dogs")
    assert ids[-1] == 5001
    assert codec.decode([5000, *ids]) == "two dogs"
    assert codec.special_ids == special


@pytest.mark.parametrize("data", [b"", b"not a model"])
def test_no_tokenizer(data: bytes) -> None:
    """A file that is no tokenizer is refused by its name."""
    with pytest.raises(ManifestInvalid, match=r"en\.model"):
        SentencePieces(data, Tokens(tokenizer="en.model"))


def test_the_tokenizer_normalizes_as_the_manifest_says(tokenizer: bytes, unchanged: bytes) -> None:
    """A rule that the manifest gives must be the tokenizer's; where it gives none, the tokenizer's counts."""
    SentencePieces(tokenizer, Tokens(tokenizer="en.model", normalization="nmt_nfkc"))
    with pytest.raises(ManifestInvalid, match=r"is 'identity', but 'en\.model' normalizes by 'nmt_nfkc'"):
        SentencePieces(tokenizer, Tokens(tokenizer="en.model", normalization="identity"))
    SentencePieces(unchanged, Tokens(tokenizer="en.model", normalization="identity"))
    wide = [
        SentencePieces(model, Tokens(tokenizer="en.model")).encode("ｔ") for model in (tokenizer, unchanged)
    ]
    assert [SpecialIds().unknown in ids for ids in wide] == [False, True]


def test_start_ids_where_asked_for(tokenizer: bytes) -> None:
    """The start id opens every text that has pieces, and belongs to no word."""
    opened = SentencePieces(tokenizer, Tokens(tokenizer="en.model", add_start=True))
    plain = SentencePieces(tokenizer, Tokens(tokenizer="en.model"))
    assert opened.encode("two dogs") == [2, *plain.encode("two dogs")]
    words = plain.source_words("two dogs")
    assert opened.source_words("two dogs") == Words(words.words, (-1, *words.word_of_piece))
    assert opened.encode(" ") == [] == list(opened.source_words(" ").word_of_piece)


def test_what_is_known_of_a_text(codec: SentencePieces, bytes_codec: SentencePieces) -> None:
    """All but the characters of unknown pieces; a tokenizer with bytes knows every one."""
    assert {4, 5} == set(range(11)) - codec.known_places("two ЖЖ dogs")
    assert codec.known_places("two dogs") == set(range(8))
    assert bytes_codec.known_places("Жuk") == {0, 1, 2}
