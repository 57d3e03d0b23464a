"""The translation codec where the model returns no attention: everything but what is made from it."""

import pytest

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core.translate import TranslateCodec
from tests.core.fakes import parsed, translation_manifest
from tests.core.test_translate import END, beams

UNKNOWN = 1


@pytest.fixture(scope="module")
def codec(tokenizer: bytes) -> TranslateCodec:
    manifest = translation_manifest()
    for signature in manifest["signatures"].values():
        signature["outputs"] = {k: v for k, v in signature["outputs"].items() if k != "attention"}
    return TranslateCodec(parsed(manifest), {"en.model": tokenizer})


def without_attention(*hypotheses: list[int], scores: list[float]) -> dict[str, Array]:
    outputs = beams(*hypotheses, scores=scores)
    del outputs["attention"]
    return outputs


def test_text_score_and_words_are_given(codec: TranslateCodec, text_codec: SentencePieces) -> None:
    asked = codec.plan(TranslateBody(texts=["two dogs"], tokens=True))
    encoded = asked.encode("two dogs")
    answer = asked.decode(encoded, without_attention(text_codec.encode("a cat"), scores=[-1]))
    words = {"source_tokens": ("two", "dogs"), "target_tokens": ("a", "cat")}
    assert answer == Translation("a cat", -1.0, **words)


def test_alternatives_are_given(codec: TranslateCodec, text_codec: SentencePieces) -> None:
    asked = codec.plan(TranslateBody(texts=["two dogs"], beam_size=2, n_best=2))
    hypotheses = [text_codec.encode(text) for text in ("a cat", "the mat")]
    answer = asked.decode(asked.encode("two dogs"), without_attention(*hypotheses, scores=[-1, -2]))
    assert [(other.text, other.score) for other in answer.alternatives or ()] == [("the mat", -2.0)]


def test_only_what_is_cut_off_is_warned_of(codec: TranslateCodec, text_codec: SentencePieces) -> None:
    """A word said twice and a source left out are seen by attention alone."""
    asked = codec.plan(TranslateBody(texts=["two dogs run fast"]))
    encoded, ids = asked.encode("two dogs run fast"), text_codec.encode("cat cat")
    assert asked.decode(encoded, without_attention(ids, scores=[-1])).warnings == ()
    assert asked.decode(encoded, without_attention(ids[:-1], scores=[-1])).warnings == ("TRUNCATED",)


def test_an_unknown_word_stays_as_the_vocabulary_writes_it(
    codec: TranslateCodec, text_codec: SentencePieces
) -> None:
    asked = codec.plan(TranslateBody(texts=["two dogs"]))
    answer = asked.decode(asked.encode("two dogs"), without_attention([UNKNOWN, END], scores=[-1]))
    assert answer.text == text_codec.decode([UNKNOWN, END]) != ""


def test_alignment_is_refused(codec: TranslateCodec) -> None:
    with pytest.raises(
        errors.OptionOutOfRange, match="alignment is true, but this model returns no"
    ) as caught:
        codec.plan(TranslateBody(texts=["two dogs"], alignment=True))
    assert caught.value.path == ("alignment",)
