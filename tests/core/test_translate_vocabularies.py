"""The translation codec with a vocabulary a side: the source's encodes, the target's decodes."""

from typing import Any

import numpy as np
import orjson
import pytest

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody
from seqserve.service.contract.padding import Array
from seqserve.service.core.translate import TranslateCodec
from tests.core.fakes import parsed, translation_manifest

SOURCE = {
    "kind": "text_vectorization",
    "vocabulary": ["", "[UNK]", "[START]", "[END]", "two", "dogs"],
    "standardize": "lower",
    "split": "whitespace",
}
TARGET = {
    "kind": "word_index",
    "word_index": {"<oov>": 5, "hunde": 2, "zwei": 3, "<end>": 4},
    "oov_token": "<oov>",
}
LETTERS = {"kind": "characters", "characters": ["", "\t", "\n", *" adehinrwuz"], "unknown": "reject"}


def codec_of(
    target: dict[str, Any],
    special: dict[str, Any],
    source: dict[str, Any] = SOURCE,
    **changed: bytes | None,
) -> TranslateCodec:
    """Return a codec of the two vocabularies; files may be changed, or left out where None."""
    manifest = translation_manifest()
    feature = {"tokenizer": "source.json", "add_end": True, "special_ids": {"start": 2, "end": 3}}
    manifest["features"]["source"].update(feature)
    manifest["decode"] |= {"tokenizer": "target.json", "special_ids": special}
    files = {"source.json": orjson.dumps(source), "target.json": orjson.dumps(target), **changed}
    return TranslateCodec(parsed(manifest), {name: data for name, data in files.items() if data is not None})


def outputs(ids: list[int], attended: list[int], width: int) -> dict[str, Array]:
    """Return one hypothesis, each piece of which attends to one source piece."""
    return {
        "ids": np.array([ids], np.int32),
        "lengths": np.array([len(ids)], np.int32),
        "scores": np.array([-1.0], np.float32),
        "attention": np.eye(width, dtype=np.float32)[attended][None],
    }


def test_two_vocabularies_of_words() -> None:
    """Ids, text, words, alignment and the end id are each side's own; an unknown word is the source's."""
    codec = codec_of(TARGET, {"unknown": 5, "start": None, "end": 4})
    asked = codec.plan(TranslateBody(texts=["Two Zürich dogs"], alignment=True, tokens=True))
    encoded = asked.encode(asked.items[0])
    assert encoded.row.inputs["source"].tolist() == [4, 1, 5, 3]
    answer = asked.decode(encoded, outputs([3, 5, 2, 4], [0, 1, 2, 3], 4))
    assert answer.text == "zwei Zürich hunde"
    assert (answer.source_tokens, answer.target_tokens) == (
        ("Two", "Zürich", "dogs"),
        ("zwei", "Zürich", "hunde"),
    )
    assert np.array_equal(answer.alignment or (), np.eye(3))
    assert answer.warnings == ()
    assert asked.decode(encoded, outputs([3, 5, 2, 3], [0, 1, 2, 3], 4)).warnings == ("TRUNCATED",)


def test_a_target_of_characters() -> None:
    """Its pieces are joined without spaces, and make up words."""
    codec = codec_of(LETTERS, {"unknown": None, "start": 1, "end": 2})
    asked = codec.plan(TranslateBody(texts=["two dogs"], tokens=True))
    encoded = asked.encode("two dogs")
    ids = [LETTERS["characters"].index(letter) for letter in "zwei hund\n"]
    answer = asked.decode(encoded, outputs(ids, [0] * 5 + [1] * 4 + [2], 3))
    assert (answer.text, answer.target_tokens, answer.warnings) == ("zwei hund", ("zwei", "hund"), ())


def test_a_target_without_an_end_is_never_cut_off() -> None:
    codec = codec_of(LETTERS, {"unknown": None, "start": 1, "end": None})
    asked = codec.plan(TranslateBody(texts=["two dogs"]))
    assert asked.decode(asked.encode("two dogs"), outputs([3, 4, 3], [0, 1, 2], 3)).warnings == ()


def test_texts_of_which_nothing_is_left() -> None:
    codec = codec_of(
        TARGET, {"unknown": 5, "start": None, "end": 4}, {**SOURCE, "standardize": "strip_punctuation"}
    )
    asked = codec.plan(TranslateBody(texts=["..."]))
    with pytest.raises(errors.EmptyText, match="the text is empty"):
        asked.encode(" ")
    with pytest.raises(errors.EmptyText, match="nothing is left of the text once it is standardized"):
        asked.encode("...")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"source.json": b"{"}, "features.source.tokenizer: source.json: not JSON"),
        ({"target.json": b"{"}, "decode.tokenizer: target.json: not JSON"),
        ({"target.json": b'{"two": 1}'}, "decode.tokenizer: special_ids.unknown: 5, but 'target.json' drops"),
        ({"target.json": None}, "decode.tokenizer: no file 'target.json'"),
        ({"source.json": None}, "features.source.tokenizer: no file 'source.json'"),
    ],
)
def test_files_at_fault_are_named_with_their_field(files: dict[str, bytes | None], named: str) -> None:
    with pytest.raises(errors.ManifestInvalid) as caught:
        codec_of(TARGET, {"unknown": 5, "start": None, "end": 4}, **files)
    assert named in str(caught.value)
