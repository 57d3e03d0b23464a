"""Messages and bodies: an absent option is REST's default, and both doors read a sequence alike."""

import datetime
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2

from seqserve.service import errors
from seqserve.service.contract import items
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.items import PredictBody, Sampling, TranslateBody, answers_as_json
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.core.types import Answered
from seqserve.service.rpc import convert
from seqserve.v1 import sequence_pb2, translation_pb2

OPTIONS = {
    "beam_size": 4,
    "n_best": 2,
    "length_penalty": 0.0,
    "max_length": 9,
    "sampling": {"temperature": 0.5, "top_k": 0, "seed": 7},
    "alignment": True,
    "tokens": False,
}


@pytest.fixture
def encoder(sequence_files: dict[str, bytes]) -> SequenceEncoder:
    return SequenceEncoder(parse_manifest(sequence_files["manifest.json"]), "serving_default")


def test_absent_options_are_the_defaults_of_rest() -> None:
    translate = translation_pb2.TranslateRequest(texts=["a", ""])
    assert convert.translate_body(translate) == TranslateBody(texts=["a", ""])
    predict = sequence_pb2.PredictRequest(sequences=[sequence_pb2.Sequence()])
    assert convert.predict_body(predict) == PredictBody(sequences=[{}])
    sampling = translation_pb2.DecodeOptions(sampling=translation_pb2.Sampling())
    body = convert.translate_body(translation_pb2.TranslateRequest(texts=["a"], options=sampling))
    assert body == TranslateBody(texts=["a"], sampling=Sampling())


def test_given_options_are_kept_where_they_equal_a_zero() -> None:
    options = json_format.ParseDict(OPTIONS, translation_pb2.DecodeOptions())
    request = translation_pb2.TranslateRequest(texts=["a"], options=options)
    assert convert.translate_body(request) == TranslateBody.model_validate({"texts": ["a"], **OPTIONS})
    body = convert.predict_body(sequence_pb2.PredictRequest(heads=["next"], top_k=0, seed=0))
    assert body == PredictBody(sequences=[], heads=["next"], top_k=0, seed=0)


def test_both_doors_have_the_same_options() -> None:
    options = set(translation_pb2.DecodeOptions.DESCRIPTOR.fields_by_name)
    assert options == set(OPTIONS) == set(TranslateBody.model_fields) - {"texts"}
    assert set(translation_pb2.Sampling.DESCRIPTOR.fields_by_name) == set(Sampling.model_fields)
    fields = set(sequence_pb2.PredictRequest.DESCRIPTOR.fields_by_name)
    assert fields - {"model"} == set(PredictBody.model_fields)


def sequence(**features: Any) -> dict[str, Any]:
    """Return a sequence of the test's model as its encoder takes it from a message."""
    message = sequence_pb2.Sequence()
    for name, values in features.items():
        json_format.ParseDict(values, message.features[name])
    body = convert.predict_body(sequence_pb2.PredictRequest(sequences=[message]))
    return dict(body.sequences[0])


def numbers(*values: float, width: int = 0) -> dict[str, Any]:
    return {"numbers": {"values": values, "width": width}}


def test_a_sequence_is_the_same_by_both_doors(encoder: SequenceEncoder) -> None:
    # the first two: 0.1 microseconds apart, which cut, not rounded, is a whole one
    stamps = ["2026-05-01T09:30:00.0000009Z", "2026-05-01T09:30:00.000001Z", "2026-05-01T09:31:00.5Z"]
    given = sequence(
        activity=numbers(7, 7, 7),
        minutes={"timestamps": {"values": stamps}},
        amount=numbers(1, 2, 3, 4, 5, 6, width=2),
    )
    rest = {
        "activity": [7, 7, 7],
        "minutes": {"timestamps": stamps},
        "amount": [[1, 2], [3, 4], [5, 6]],
    }
    one, other = encoder.encode(given).row.inputs, encoder.encode(rest).row.inputs
    assert set(one) == {"activity", "minutes", "amount"}
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_timestamps_before_1970_keep_their_distance(encoder: SequenceEncoder) -> None:
    early = sequence_pb2.Feature()
    for second in (-2, -1):
        moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second + 0.5)
        early.timestamps.values.add().FromDatetime(moment)
    given = sequence(activity=numbers(7, 7), amount=numbers(1, 2, 3, 4, width=2))
    message = sequence_pb2.Sequence(features={"minutes": early})
    request = sequence_pb2.PredictRequest(sequences=[message])
    given |= dict(convert.predict_body(request).sequences[0])
    minutes = encoder.encode(given).row.inputs["minutes"]
    np.testing.assert_allclose(minutes, [0, 1 / 60], rtol=1e-6)


@pytest.mark.parametrize(
    ("amount", "fault"),
    [
        (numbers(1, 2, 3, 4, 5, width=2), errors.WrongWidth),  # the last row is short
        (numbers(1, 2, width=3), errors.WrongWidth),  # so short that it has the model's width
        (numbers(1, 2, 3, width=3), errors.WrongWidth),
        (numbers(1, 2, 3), errors.WrongWidth),
        (numbers(1, 2, width=-1), errors.WrongWidth),
        (numbers(1, 2, width=2**31 - 1), errors.WrongWidth),
        (numbers(width=2), errors.EmptySequence),
        ({}, errors.MissingFeature),
    ],
)
def test_the_contract_refuses_what_does_not_fit(
    encoder: SequenceEncoder, amount: dict[str, Any], fault: type[errors.SeqserveError]
) -> None:
    values = sequence(amount=amount)["amount"]
    steps = 0 if values is None else len(values)
    given = sequence(activity=numbers(*[7] * steps), minutes=numbers(*[0] * steps), amount=amount)
    with pytest.raises(fault) as caught:
        encoder.encode(given)
    assert caught.value.path[0] in ("amount", "activity")


LABELLED = (items.Labelled("a", 0.75), items.Labelled("b", 0.25))
CLASS = items.ClassAnswer("a", 0.75, LABELLED)
TABLE = ((1.0, 2.0), (3.0, 4.0))
LABELS = [{"label": "a", "probability": 0.75}, {"label": "b", "probability": 0.25}]
ROWS = [{"values": [1, 2]}, {"values": [3, 4]}]
HEADS: list[tuple[items.HeadAnswer, dict[str, Any]]] = [
    (CLASS, {"class_answer": {"label": "a", "probability": 0.75, "top": LABELS}}),
    (items.LabelsAnswer(LABELLED[:1], LABELLED), {"labels_answer": {"labels": LABELS[:1], "all": LABELS}}),
    (items.LabelsAnswer((), LABELLED), {"labels_answer": {"all": LABELS}}),
    (
        items.ValueAnswer(0.0, "s", (items.Interval(0.9, 0.0, 4.0),)),
        {"value_answer": {"value": 0, "unit": "s", "intervals": [{"level": 0.9, "low": 0, "high": 4}]}},
    ),
    (
        items.ValueAnswer([1.0, 2.0], "", (items.Interval(0.9, [0.0, 1.0], [2.0, 3.0]),), ("x", "y")),
        {
            "value_answer": {
                "values": [1, 2],
                "columns": ["x", "y"],
                "intervals": [{"level": 0.9, "lows": [0, 1], "highs": [2, 3]}],
            }
        },
    ),
    (
        items.StepsAnswer((CLASS, items.LabelsAnswer((), LABELLED), items.ValueAnswer(0.0, ""))),
        {
            "steps_answer": {
                "steps": [
                    {"class_answer": {"label": "a", "probability": 0.75, "top": LABELS}},
                    {"labels_answer": {"all": LABELS}},
                    {"value_answer": {"value": 0}},
                ]
            }
        },
    ),
    (
        items.HorizonAnswer(TABLE, ("x", "y"), "kW", (items.Interval(0.5, TABLE, TABLE),)),
        {
            "horizon_answer": {
                "values": ROWS,
                "columns": ["x", "y"],
                "unit": "kW",
                "intervals": [{"level": 0.5, "low": ROWS, "high": ROWS}],
            }
        },
    ),
]


@pytest.mark.parametrize(("answer", "message"), HEADS)
def test_every_kind_of_head_has_its_message(answer: items.HeadAnswer, message: dict[str, Any]) -> None:
    detail = items.WarningDetail("UNSEEN_EVENT_TYPE", "event", 2, "dance")
    prediction = items.Prediction({"head": answer}, ("UNSEEN_EVENT_TYPE",), (detail,))
    response = convert.predict_response(Answered("m", 3, "sha256:0", (prediction,)))
    wanted = {
        "model": {"name": "m", "version": 3, "digest": "sha256:0"},
        "results": [
            {
                "prediction": {
                    "heads": {"head": message},
                    "warnings": ["UNSEEN_EVENT_TYPE"],
                    "warning_details": [
                        {"warning": "UNSEEN_EVENT_TYPE", "feature": "event", "step": 2, "value": "dance"}
                    ],
                }
            }
        ],
    }
    assert response == json_format.ParseDict(wanted, sequence_pb2.PredictResponse())


def test_a_translation_has_all_that_rest_has_and_a_fault_its_place() -> None:
    translation = items.Translation(
        "x y", -0.5, ("TRUNCATED",), (items.Alternative("z", -1.0),), ("a", "b"), ("x", "y"), TABLE
    )
    place = ("texts", 1)
    fault = items.FailedItem(items.Fault("INVALID_ARGUMENT", "EMPTY_TEXT", "the text is empty", place))
    response = convert.translate_response(Answered("m", 3, "sha256:0", (translation, fault)))
    [rest] = answers_as_json([translation])
    wanted = {**rest, "alignment": [{"weights": row} for row in rest["alignment"]]}
    assert response.results[0].translation == json_format.ParseDict(wanted, translation_pb2.Translation())
    info = error_details_pb2.ErrorInfo()
    assert response.results[1].error.details[0].Unpack(info)
    assert (response.results[1].error.code, info.reason, info.domain) == (3, "EMPTY_TEXT", "seqserve")
    bad = error_details_pb2.BadRequest()
    assert response.results[1].error.details[1].Unpack(bad)
    assert [(one.field, one.reason) for one in bad.field_violations] == [("texts[1]", "EMPTY_TEXT")]
    assert answers_as_json([fault])[0]["error"]["pointer"] == "#/texts/1"
