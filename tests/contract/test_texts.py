"""Raw text: what is taken, what a row counts for, and what a graph may give back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.heads import answer_head
from seqserve.service.contract.items import TextAnswer
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.padding import Row, pad_batch, padded_length
from seqserve.service.contract.texts import TextHead, text_input, text_output


def manifest_of(**features: Any) -> Manifest:
    """Return the manifest of a model of texts; `x` is a feature of numbers."""
    text = {"dtype": "string", "axes": ["batch"]}
    steps = {"dtype": "float32", "axes": ["batch", "time"], "pad_value": 0.0}
    has_steps = "x" in features
    return Manifest.model_validate(
        {
            "task": "sequence",
            "name": "notes",
            "version": 1,
            "signatures": {
                "serving_default": {
                    "inputs": {name: steps if name == "x" else text for name in features},
                    "outputs": {"y": {"dtype": "string", "axes": ["batch"]}},
                }
            },
            "features": features,
            "heads": {"y": {"kind": "text"}},
            "limits": {"text_characters": 30, **({"sequence_steps": 4} if has_steps else {})},
            "buckets": [4] if has_steps else [],
        },
        strict=False,
    )


TEXT = {"kind": "text"}
BOTH = manifest_of(note=TEXT, x={"kind": "numbers", "mean": [0.0], "scale": [1.0]})
NOTES = manifest_of(note=TEXT, more=TEXT)


@given(st.text(min_size=1, max_size=30).filter(str.strip))
def test_a_text_comes_back_as_it_went(text: str) -> None:
    tensor = text_input(text, 30)
    assert (tensor.shape, tensor.dtype) == ((), np.object_)
    assert text_output(tensor) == text_output(tensor.item()) == text_output(tensor.reshape(1)) == text
    assert text_input([text], 30) == tensor


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("", errors.EmptyText, "the text is empty"),
        (" \n\t", errors.EmptyText, "the text is empty"),
        ("x" * 31, errors.TextTooLong, "31 characters, more than the limit of 30"),
        (" " * 31, errors.TextTooLong, "31 characters"),
        (["a", "b"], errors.WrongType, "one text is wanted"),
        ([], errors.WrongType, "one text is wanted"),
        (7, errors.WrongType, "one text is wanted"),
        ([7.0], errors.WrongType, "one text is wanted"),
        ({"timestamps": []}, errors.WrongType, "one text is wanted"),
        (np.array([1.0]), errors.WrongType, "one text is wanted"),
    ],
)
def test_what_is_no_text_is_refused(value: Any, error: type[errors.InvalidArgument], says: str) -> None:
    encoder = SequenceEncoder(BOTH, PREDICT_SIGNATURE)
    with pytest.raises(error, match=says) as caught:
        encoder.encode({"note": value, "x": [1.0, 2.0]})
    assert caught.value.path == ("note",)


def test_a_text_beside_a_sequence_is_one_value() -> None:
    """The steps are the sequence's."""
    encoder = SequenceEncoder(BOTH, PREDICT_SIGNATURE)
    rows = [encoder.encode({"note": note, "x": x}).row for note, x in (("a b c", [1, 2]), ("d", [3]))]
    assert [row.length for row in rows] == [2, 1]
    batch = pad_batch(rows, 4, BOTH.signatures[PREDICT_SIGNATURE], BOTH)
    assert batch["note"].tolist() == [b"a b c", b"d"]
    assert batch["x"].tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]


def test_texts_alone_count_for_their_words_and_are_not_padded() -> None:
    encoder = SequenceEncoder(NOTES, PREDICT_SIGNATURE)
    rows = [
        encoder.encode({"note": "ein Hund", "more": "läuft  schnell weg"}).row,
        encoder.encode({"note": "Züge", "more": "\u00a0x"}).row,
    ]
    assert [row.length for row in rows] == [5, 2]
    assert padded_length(5, NOTES) == 5
    batch = pad_batch(rows, 5, NOTES.signatures[PREDICT_SIGNATURE], NOTES)
    assert {name: values.shape for name, values in batch.items()} == {"note": (2,), "more": (2,)}
    assert batch["note"].tolist() == [b"ein Hund", "Züge".encode()]


@pytest.mark.parametrize(
    ("features", "error"),
    [
        ({"note": "a"}, errors.MissingFeature),
        ({"note": "a", "more": None}, errors.MissingFeature),
        ({"note": "a", "more": "b", "less": "c"}, errors.UnknownFeature),
    ],
)
def test_every_text_is_needed_and_no_other(
    features: dict[str, Any], error: type[errors.InvalidArgument]
) -> None:
    with pytest.raises(error, match=r"note, more|'more' is missing"):
        SequenceEncoder(NOTES, PREDICT_SIGNATURE).encode(features)


def test_a_head_of_text_answers_with_it() -> None:
    assert answer_head(TextHead(), np.array(["größer".encode()], np.object_), 1, "right", 1) == TextAnswer(
        "größer"
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"caf\xe9", "not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"),  # half of a surrogate pair
        (np.array([b"a", b"b"], np.object_), r"shape \(2,\)"),
        (np.array([], np.object_), r"shape \(0,\)"),
        (np.float32(1), "is one text"),
    ],
)
def test_an_output_that_is_no_text_breaks_the_manifest(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        text_output(value)


def test_rows_of_text_have_no_other_length() -> None:
    row = Row({"note": text_input("a b", 9), "more": text_input("c", 9)}, 3)
    assert pad_batch([row], 9, NOTES.signatures[PREDICT_SIGNATURE], NOTES)["note"].shape == (1,)


def test_a_mask_of_texts_is_refused() -> None:
    plain = NOTES.model_dump(mode="json", exclude_none=True)
    plain["signatures"][PREDICT_SIGNATURE]["inputs"]["words"] = {"dtype": "int32", "axes": ["batch"]}
    with pytest.raises(ValueError, match=r"mask\.input: 'words' masks steps, and a text has none"):
        Manifest.model_validate({**plain, "mask": {"input": "words"}}, strict=False)
