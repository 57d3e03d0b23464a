"""Texts, values of a whole sequence, several masks and streams: what each kind of feature gives."""

import math
from typing import Any

import numpy as np
import pytest

from seqserve.service import errors
from seqserve.service.contract.features import OUT_OF_RANGE, UNSEEN_EVENT_TYPE, SequenceEncoder
from seqserve.service.contract.manifest import Categories, Manifest
from tests.contract.test_features import HUGE, NAN, STAMPS, encode, manifest

CHARACTERS = {
    "characters.json": b'{"kind": "characters", "unknown": "reject", "characters": ["", " ", "a", "b"]}'
}


def of_text(head: dict[str, Any] | None = None) -> Manifest:
    """Make a manifest of one text, cut into characters, beside a value of the whole sequence."""
    special = {"pad": 0, "unknown": None, "start": None, "end": None}
    note = {"kind": "tokens", "tokenizer": "characters.json", "special_ids": special, "add_end": False}
    there = with_static()
    signature = there.signatures["serving_default"]
    tensor = signature.inputs["activity"]
    called = signature.model_copy(update={"inputs": {"note": tensor, "age": signature.inputs["age"]}})
    update = {
        "features": {"note": note, "age": AGE},
        "signatures": {"serving_default": called},
        "heads": {"y": {"kind": "numeric", **(head or {})}},
        "limits": {"text_characters": 9, "text_pieces": 4},
    }
    return Manifest.model_validate({**dict(there), **update}, strict=False)


def test_pieces_of_a_text_are_steps() -> None:
    """Its ids make the row; a vocabulary that is missing is named when the encoder is made."""
    encoder = SequenceEncoder(of_text(), "serving_default", CHARACTERS)
    encoded = encoder.encode({"note": ["b ab"], "age": 50})
    assert (encoded.row.inputs["note"].tolist(), encoded.row.length, encoded.words) == ([3, 1, 2, 3], 4, None)
    assert encoded.row.inputs["note"].dtype == np.int32
    with pytest.raises(errors.ManifestInvalid, match=r"features\.note\.tokenizer: no file 'characters.json'"):
        SequenceEncoder(of_text(), "serving_default")


def test_a_word_begins_with_its_first_letter() -> None:
    """Where a head answers each step: the space before a word belongs to none."""
    encoder = SequenceEncoder(of_text({"per": "step"}), "serving_default", CHARACTERS)
    words = encoder.encode({"note": "b ab", "age": 50}).words
    assert words is not None
    assert (words.words, words.word_of_piece) == (("b", "ab"), (0, -1, 1, 1))


@pytest.mark.parametrize(
    ("note", "kind"),
    [
        ("", errors.EmptyText),
        ("ababa", errors.TextTooLong),
        ("a" * 10, errors.TextTooLong),
        ("abc", errors.UnknownCategory),
        (["a", "b"], errors.WrongType),
        (3, errors.WrongType),
    ],
)
def test_texts_that_have_no_row(note: Any, kind: type[errors.SeqserveError]) -> None:
    """The path is the feature's."""
    with pytest.raises(kind) as caught:
        SequenceEncoder(of_text(), "serving_default", CHARACTERS).encode({"note": note, "age": 50})
    assert caught.value.path == ("note",)


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_what_is_far_outside_the_training_range_is_warned_of(transform: str) -> None:
    """Further out than the range is wide, in any column or time, and on the negative side of a scale too."""
    ranges = {"amount": [[0, 10], [-5, 5]], "minutes": [[0, 60]]}
    features = {
        "amount": {"kind": "numbers", "width": 2, "mean": [10, 0], "scale": [2, -0.5]},
        "minutes": {"kind": "elapsed", "unit": "minutes", "transform": transform},
    }
    known = manifest(features, profile={"ranges": ranges})
    for amount, minutes in (([[-10, 15]] * 3, [0, 120, 0]), ([[20, -15]] * 3, [0, 0, 0])):
        assert encode(known, amount=amount, minutes=minutes).warnings == ()
    for far, place in (
        ({"amount": [[0, 0], [20.1, 0], [0, 0]]}, ("amount", 1, "20.1")),
        ({"amount": [[0, 0], [0, -15.1], [0, 0]]}, ("amount", 1, "-15.1")),
        ({"minutes": [0, 0, 120.1]}, ("minutes", 2, "120.1")),
    ):
        encoded = encode(known, **far)
        assert encoded.warnings == (OUT_OF_RANGE,)
        assert [(one.feature, one.step, one.value) for one in encoded.details] == [place]


@pytest.mark.parametrize("given", [[[1]], [[1, 2]], ["a"], [[1, 2], [3, math.inf]], None])
def test_ranges_that_are_none_are_refused(given: Any) -> None:
    """A manifest with such a profile is not served."""
    path = manifest(profile={"ranges": {"amount": given}})
    with pytest.raises(errors.ManifestInvalid, match=r"profile\.ranges\.amount"):
        encode(path)


REGION = {"kind": "categories", "labels": ["north", "7"], "first_id": 1, "per": "sequence"}
CUSTOMER = {"kind": "numbers", "width": 2, "mean": [10, 0], "scale": [2, 0.5], "per": "sequence"}
AGE = {"kind": "numbers", "mean": [40], "scale": [10], "per": "sequence"}


def with_static(**fields: Any) -> Manifest:
    """Make the manifest with three features of one value a sequence."""
    inputs = {
        "region": {"dtype": "int32", "axes": ["batch"]},
        "customer": {"dtype": "float32", "axes": ["batch", "unit"]},
        "age": {"dtype": "float32", "axes": ["batch"]},
    }
    return manifest({"region": REGION, "customer": CUSTOMER, "age": AGE}, inputs, **fields)


PERSON = {"region": "north", "customer": [14, 1], "age": 50}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"region": ["north"], "customer": [[14, 1]], "age": [50]},
        {"region": ["north"], "customer": np.array([[14.0, 1.0]]), "age": np.array([50.0])},
        {"customer": np.array([14.0, 1.0]), "age": [[50]]},
    ],
    ids=["plain", "lists of one", "arrays", "flat"],
)
def test_one_value_a_sequence(given: dict[str, Any]) -> None:
    """A value, or a list or an array of it, as either door gives it, has no time axis."""
    encoded = encode(with_static(), **{**PERSON, **given})
    assert encoded.row.length == 3
    row = encoded.row.inputs
    assert {name: row[name].tolist() for name in PERSON} == {"region": 1, "customer": [2.0, 2.0], "age": 1.0}
    assert encode(with_static(), **{**PERSON, "region": np.array([7.0])}).row.inputs["region"] == 2


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"region": ["north", "7"]}, errors.UnequalLengths),
        ({"region": []}, errors.UnequalLengths),
        ({"region": {"timestamps": STAMPS}}, errors.WrongType),
        ({"region": True}, errors.WrongType),
        ({"region": "south"}, errors.UnknownCategory),
        ({"region": None}, errors.MissingFeature),
        ({"customer": 14}, errors.WrongWidth),
        ({"customer": []}, errors.WrongWidth),
        ({"customer": [1, 2, 3]}, errors.WrongWidth),
        ({"customer": [[1, 2], [3]]}, errors.WrongWidth),
        ({"customer": [[1, 2], [3, 4]]}, errors.UnequalLengths),
        ({"customer": np.ones((2, 2))}, errors.UnequalLengths),
        ({"customer": [1, "2"]}, errors.WrongType),
        ({"customer": [1, NAN]}, errors.NotFinite),
        ({"customer": [1, 1e39]}, errors.NotFinite),
        ({"age": [50, 51]}, errors.UnequalLengths),
        ({"age": [[50, 51]]}, errors.WrongWidth),
        ({"age": "old"}, errors.WrongType),
        ({"age": HUGE}, errors.NotFinite),
    ],
)
def test_what_is_not_one_value_is_refused(wrong: dict[str, Any], kind: type[errors.SeqserveError]) -> None:
    """The message names no step, and the path is the feature's."""
    with pytest.raises(kind) as caught:
        encode(with_static(), **{**PERSON, **wrong})
    assert type(caught.value) is kind
    assert caught.value.path == (next(iter(wrong)),)
    assert "step" not in caught.value.message


def test_warnings_of_one_value_have_no_step() -> None:
    """An unseen label, and a number far outside of training's range."""
    mapped = {**REGION, "unknown": "map", "unknown_id": 0}
    there = with_static(profile={"ranges": {"customer": [[0, 10], [-5, 5]], "age": [[20, 80]]}})
    there = there.model_copy(
        update={"features": {**there.features, "region": Categories.model_validate(mapped, strict=False)}}
    )
    encoded = encode(there, **{**PERSON, "region": "south", "customer": [3, 16]})
    assert [(one.warning, one.feature, one.step, one.value) for one in encoded.details] == [
        (UNSEEN_EVENT_TYPE, "region", None, "south"),
        (OUT_OF_RANGE, "customer", None, "16"),
    ]


def test_nothing_but_values_of_the_whole_sequence() -> None:
    """A row counts for one step, and is not padded."""
    there = with_static()
    kept = ("region", "customer", "age")
    signature = there.signatures["serving_default"]
    called = signature.model_copy(update={"inputs": {name: signature.inputs[name] for name in kept}})
    update = {
        "features": {name: there.features[name] for name in kept},
        "signatures": {"serving_default": called},
        "limits": {},
        "buckets": (),
    }
    flat = Manifest.model_validate({**dict(there), **update}, strict=False)
    assert (flat.is_raw, flat.masking_inputs) == (True, ())
    assert SequenceEncoder(flat, "serving_default").encode(PERSON).row.length == 1


def test_each_of_several_masks_has_its_pad_value() -> None:
    """Any of them makes a collision; of those that only mask together, all of them at one step."""
    each = manifest(mask_from=["activity", "amount"])
    for amount, step in (([[10, 0], [10, 1], [10, 1]], 0), ([[10, 1], [10, 1], [10, 0]], 2)):
        with pytest.raises(errors.PadCollision) as caught:
            encode(each, amount=amount)
        assert caught.value.path == ("amount", step)
    both = manifest(mask_from=["amount", "minutes"], mask_where="all")
    encode(both, amount=[[10, 1], [10, 0], [10, 1]])
    with pytest.raises(errors.PadCollision) as caught:
        encode(both, amount=[[10, 0], [10, 1], [10, 1]])
    assert caught.value.path == ("amount", 0)


def test_streams_have_lengths_of_their_own() -> None:
    """Features of one stream must agree; the row is as long as the longest."""
    there = manifest(streams=[["activity", "minutes"], ["amount"]], mask_from=["activity", "amount"])
    assert encode(there, amount=[[1, 2]] * 4).row.length == 4
    row = encode(there, amount=[[1, 2]]).row
    assert (row.length, len(row.inputs["amount"])) == (3, 1)
    for wrong, kind in (
        ({"minutes": [0]}, errors.UnequalLengths),
        ({"amount": []}, errors.EmptySequence),
        ({"amount": [[1, 2]] * 5}, errors.SequenceTooLong),
    ):
        with pytest.raises(kind):
            encode(there, **wrong)


def test_a_shortest_sequence() -> None:
    """Fewer steps are refused by both numbers; none at all are still none."""
    there = manifest(limits={"sequence_steps": 4, "sequence_least": 3})
    assert encode(there).row.length == 3
    short = {"activity": ["Wait"] * 2, "amount": [[1, 2]] * 2, "minutes": [0, 1]}
    with pytest.raises(errors.SequenceTooShort, match="'activity' has 2 steps, fewer than the 3"):
        encode(there, **short)
    with pytest.raises(errors.EmptySequence):
        encode(there, activity=[], amount=[], minutes=[])


def test_a_head_per_step_needs_one_stream() -> None:
    """Which steps it answers would be open."""
    with pytest.raises(ValueError, match="per: step, but activity, minutes and amount may differ"):
        manifest(
            streams=[["activity", "minutes"], ["amount"]], heads={"y": {"kind": "numeric", "per": "step"}}
        )
