"""Answers of every kind, written as both doors write them: the client reads one and the same."""

from dataclasses import asdict
from typing import Any

import pytest

from seqserve.client import reading, reading_messages, rpc
from seqserve.service.contract import items
from seqserve.service.contract.items import answer_as_json
from seqserve.service.core.types import Answered
from seqserve.service.errors import Path, json_pointer
from seqserve.service.rpc import convert
from tests.answers import prune
from tests.client.calling import lists

LABELLED = (items.Labelled("b", 0.75), items.Labelled("a", 0.25))
CLASS = items.ClassAnswer("b", 0.75, LABELLED)
VALUE = items.ValueAnswer(1.5, "days", (items.Interval(0.9, 0.0, 2.0),))
HEADS: dict[str, items.HeadAnswer] = {
    "class": CLASS,
    "labels": items.LabelsAnswer(LABELLED[:1], LABELLED),
    "none of the labels": items.LabelsAnswer((), LABELLED),
    "value": VALUE,
    "zero": items.ValueAnswer(0.0, ""),
    "columns": items.ValueAnswer((1.0, 2.0), "m", (items.Interval(0.5, (0.0, 1.0), (2.0, 3.0)),), ("x", "y")),
    "steps": items.StepsAnswer((CLASS, CLASS)),
    "steps of values": items.StepsAnswer((VALUE,), ("word",)),
    "horizon": items.HorizonAnswer(
        ((1.0, 2.0), (3.0, 4.0)), ("x", "y"), "m", (items.Interval(0.5, ((0.0, 0.0),), ((9.0, 9.0),)),)
    ),
    "text": items.TextAnswer("said"),
}
DETAILS = (
    items.WarningDetail("OUT_OF_RANGE", "minutes", 0, "1e+07"),
    items.WarningDetail("UNSEEN_EVENT_TYPE", "region", None, "abroad"),
)
PREDICTION = items.Prediction(HEADS, ("OUT_OF_RANGE",), DETAILS)
TRANSLATIONS = [
    items.Translation("zwei", None),
    items.Translation("zwei", -0.0, ("TRUNCATED",)),
    items.Translation(
        "zwei Hunde",
        -0.5,
        (),
        (items.Alternative("zwo", -1.5),),
        ("two", "dogs"),
        ("zwei", "Hunde"),
        ((1.0, 0.0), (0.25, 0.5)),
    ),
]


def test_a_prediction_of_every_kind_of_head() -> None:
    """Nothing is left out, by either door."""
    assert {type(head) for head in HEADS.values()} == set(items.HeadAnswer.__args__)  # type: ignore[attr-defined]
    by_rest = reading.prediction(answer_as_json(PREDICTION))
    answered = Answered("shop", 3, "sha256:0", (PREDICTION,))
    (result,) = convert.predict_response(answered).results
    assert reading_messages.prediction(result.prediction) == by_rest
    assert prune(lists(asdict(by_rest))) == prune(answer_as_json(PREDICTION))


@pytest.mark.parametrize("item", TRANSLATIONS)
def test_a_translation_with_and_without_what_may_be_absent(item: items.Translation) -> None:
    """A score that is absent is none, and not 0."""
    by_rest = reading.translation(answer_as_json(item))
    (result,) = convert.translate_response(Answered("en-de", 3, "sha256:0", (item,))).results
    assert reading_messages.translation(result.translation) == by_rest
    assert by_rest.score == item.score
    assert prune(lists(asdict(by_rest))) == prune(answer_as_json(item))


PLACES: list[tuple[Any, Path]] = [
    (convert.translate_field, ("texts", 3)),
    (convert.translate_field, ("beam_size",)),
    (convert.translate_field, ("sampling", "temperature")),
    (convert.predict_field, ("heads", 1)),
    (convert.predict_field, ("sequences", 0, "minutes", 2)),
    (convert.predict_field, ("sequences", 12, "values")),
    (convert.predict_field, ("sequences", 12, 'a "b".[c]/~ é', 4)),
    (convert.predict_field, ("sequences", 0, "features", 1)),
    (convert.predict_field, ("top_k",)),
    (convert.append_field, ("sequence", "minutes", 2)),
    (convert.append_field, ("first_event",)),
]


@pytest.mark.parametrize(("field", "path"), PLACES)
def test_a_field_of_a_message_is_the_place_in_the_body(field: Any, path: Path) -> None:
    """Whatever a feature is called."""
    assert rpc.pointer(field(path)) == json_pointer(path)


def test_an_item_that_failed_is_read_alike() -> None:
    """Its class, and its place."""
    fault = items.Fault("INVALID_ARGUMENT", "EMPTY_TEXT", "the text is empty", ("texts", 3))
    by_rest = reading.item_error(answer_as_json(items.FailedItem(fault))["error"])
    answered = Answered("en-de", 3, "sha256:0", (items.FailedItem(fault),))
    (result,) = convert.translate_response(answered).results
    by_grpc = rpc.item_error(result.error)
    assert type(by_rest) is type(by_grpc)
    for name in ("code", "reason", "message", "errors"):
        assert getattr(by_rest, name) == getattr(by_grpc, name)
