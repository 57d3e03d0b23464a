"""The codec of sequence models: which heads, how many labels, and malformed answers."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.items import ClassAnswer, PredictBody, Prediction, answers_as_json
from seqserve.service.contract.padding import Array
from seqserve.service.core.predict import PredictCodec, PredictPlan
from seqserve.service.core.types import Batch, RowOutputs
from tests.core.fakes import NEVER, parsed, running, sequence_manifest, served, total, totals

SPECIAL = {"pad": 0, "unknown": 1, "start": None, "end": None}
CODEC = PredictCodec(parsed(sequence_manifest()))
OUTPUTS = {"total": np.array([4.0]), "size": np.array([3.0, 2.5])}


def plan(**options: Any) -> PredictPlan:
    return CODEC.plan(PredictBody(sequences=[{"x": [1, 2, 3]}], **options))


def decoded(outputs: dict[str, Array], **options: Any) -> Prediction:
    asked = plan(**options)
    return asked.decode(asked.encode(asked.items[0]), outputs)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=16))
async def test_every_head_answers_if_none_is_named(values: list[float]) -> None:
    async with running() as core:
        body = PredictBody(sequences=[{"x": values}])
        got = (await core.runner.run(served(), body, NEVER))[0]
    assert isinstance(got, Prediction)
    assert list(got.heads) == ["total", "size"]
    assert got.heads["total"].value == pytest.approx(total(values), rel=1e-4, abs=1e-3)
    assert got.heads["size"].label == ("long" if len(values) > 2.5 else "short")


@pytest.mark.parametrize("heads", [["size"], ["total"], ["size", "total"], ["size", "size"]])
def test_the_heads_named_answer_and_no_other(heads: list[str]) -> None:
    assert set(decoded(OUTPUTS, heads=heads).heads) == set(heads)
    only = {name: OUTPUTS[name] for name in heads}
    assert set(decoded(only, heads=heads).heads) == set(heads)


@pytest.mark.parametrize(("top_k", "labels"), [(1, ["long"]), (2, ["long", "short"]), (9, ["long", "short"])])
def test_top_k_labels_best_first(top_k: int, labels: list[str]) -> None:
    size = decoded(OUTPUTS, top_k=top_k).heads["size"]
    assert isinstance(size, ClassAnswer)
    assert [entry.label for entry in size.top] == labels
    assert (size.label, size.probability) == (size.top[0].label, size.top[0].probability)
    assert size.probability == pytest.approx(1 / (1 + np.exp(-0.5)))


def test_a_warning_comes_with_its_step_and_value() -> None:
    codec = PredictCodec(parsed(sequence_manifest(profile={"ranges": {"x": [[0, 1]]}})))
    asked = codec.plan(PredictBody(sequences=[{"x": [1, 7, 2]}, {"x": [1]}]))
    far, near = answers_as_json([asked.decode(asked.encode(item), OUTPUTS) for item in asked.items])
    assert far["warnings"] == ["OUT_OF_RANGE"]
    assert far["warning_details"] == [{"warning": "OUT_OF_RANGE", "feature": "x", "step": 1, "value": "7"}]
    assert near["warnings"] == []
    assert "warning_details" not in near


WORDS = (
    b'{"kind": "text_vectorization", "standardize": "lower_and_strip_punctuation", "split": "whitespace", '
    b'"vocabulary": ["", "[UNK]", "two", "dogs", "run"]}'
)


@pytest.mark.parametrize(
    ("note", "wanted"),
    [
        ("Two dogs, 3 cats", ()),  # most letters are known
        ("dogs and other animals", ("HIGH_UNKNOWN",)),
        ("\u0434\u0432\u0435 \u0441\u043e\u0431\u0430\u043a\u0438", ("HIGH_UNKNOWN",)),
        ("2026 - 12", ()),  # says nothing of a language
    ],
)
def test_a_text_that_the_vocabulary_does_not_know_is_warned_of(note: str, wanted: tuple[str, ...]) -> None:
    """By the rule that translations have."""
    tokens = {"kind": "tokens", "tokenizer": "words.json", "special_ids": SPECIAL, "add_end": False}
    limits = {"sequence_steps": 16, "text_characters": 100, "text_pieces": 16}
    manifest = sequence_manifest(features={"x": tokens}, limits=limits)
    manifest["signatures"]["serving_default"]["inputs"]["x"]["dtype"] = "int32"
    asked = PredictCodec(parsed(manifest), {"words.json": WORDS}).plan(PredictBody(sequences=[{"x": note}]))
    assert asked.decode(asked.encode({"x": note}), OUTPUTS).warnings == wanted


def test_a_sigmoid_head_answers_every_label_whatever_top_k_is() -> None:
    heads = {
        "size": {"kind": "sigmoid", "labels": ["a", "b"], "scores": "probabilities", "thresholds": [0.5, 0.5]}
    }
    codec = PredictCodec(parsed(sequence_manifest(heads={**sequence_manifest()["heads"], **heads})))
    asked = codec.plan(PredictBody(sequences=[{"x": [1]}], top_k=1))
    outputs = {**OUTPUTS, "size": np.array([0.25, 0.75])}
    (answer,) = answers_as_json([asked.decode(asked.encode({"x": [1]}), outputs)])
    likely, unlikely = {"label": "b", "probability": 0.75}, {"label": "a", "probability": 0.25}
    assert answer["heads"]["size"] == {"labels": [likely], "all": [likely, unlikely]}


WRONG: list[tuple[dict[str, Any], type[errors.SeqserveError], tuple[Any, ...]]] = [
    ({"heads": ["total", "sise"]}, errors.UnknownHead, ("heads", 1)),
    ({"heads": []}, errors.UnknownHead, ("heads",)),
    ({"top_k": 0}, errors.OptionOutOfRange, ("top_k",)),
    ({"top_k": 1001}, errors.OptionOutOfRange, ("top_k",)),
    ({"seed": -1}, errors.OptionOutOfRange, ("seed",)),
    ({"seed": 10}, errors.OptionOutOfRange, ("seed",)),
    ({"seed": 10**300}, errors.OptionOutOfRange, ("seed",)),
]


@pytest.mark.parametrize(("options", "kind", "path"), WRONG)
def test_wrong_options_are_named_in_few_words(
    options: dict[str, Any], kind: type[errors.SeqserveError], path: tuple[Any, ...]
) -> None:
    with pytest.raises(kind) as caught:
        plan(**options)
    assert caught.value.path == path
    assert len(caught.value.message) < 200


MALFORMED = {
    "NaN": {**OUTPUTS, "total": np.array([np.nan])},
    "a number too many": {**OUTPUTS, "total": np.array([1.0, 2.0])},
    "a label too few": {**OUTPUTS, "size": np.array([1.0])},
    "no numbers": {**OUTPUTS, "size": np.array(["a", "b"])},
}


@pytest.mark.parametrize("outputs", MALFORMED.values(), ids=MALFORMED)
def test_an_answer_that_breaks_the_manifest_is_the_models_fault(outputs: dict[str, Array]) -> None:
    with pytest.raises(errors.BackendFailed):
        decoded(outputs)


async def test_a_head_that_is_missing_from_the_answer_is_the_models_fault() -> None:
    async with running(lambda spec, inputs: {"size": totals(spec, inputs)["size"]}) as core:
        got = await core.runner.run(served(), PredictBody(sequences=[{"x": [1]}], heads=["total"]), NEVER)
    assert [type(outcome) for outcome in got] == [errors.BackendFailed]


async def test_rows_of_other_options_are_answered_by_their_own() -> None:
    async with running() as core:
        bodies = [PredictBody(sequences=[{"x": [1, 2]}], seed=seed) for seed in (0, 2, 0)]
        got = await asyncio.gather(*(core.runner.run(served_once, body, NEVER) for body in bodies))
    values = [outcome.heads["total"].value for (outcome,) in got if isinstance(outcome, Prediction)]
    assert values == [5.0, 15.0, 5.0]
    assert sorted(batch.rows for batch in core.backend.batches) == [1, 2]


served_once = served()


EVERY_KIND: dict[str, Any] = {
    "total": {"kind": "numeric", "unit": "points", "inverse": "expm1", "mean": [1.0], "scale": [0.5]},
    "span": {"kind": "numeric", "unit": "points", "quantiles": [0.1, 0.5, 0.9]},
    "size": {"kind": "softmax", "labels": ["long", "short"], "scores": "logits", "temperature": 2.0},
    "tags": {"kind": "sigmoid", "labels": ["a", "b"], "thresholds": [0.5, 0.2], "scores": "logits"},
    "steps": {"kind": "softmax", "labels": ["on", "off"], "scores": "logits", "per": "step"},
}
SHAPES = {"total": (1,), "span": (1, 3), "size": (2,), "tags": (2,), "steps": (3, 2)}


def batched() -> PredictCodec:
    """Return a codec of a model with heads of every kind."""
    manifest = sequence_manifest(heads=EVERY_KIND, examples=[])
    signature = manifest["signatures"]["serving_default"]
    axes = {
        "total": ["unit"],
        "span": ["unit", "quantile"],
        "size": ["label"],
        "tags": ["label"],
        "steps": ["time", "label"],
    }
    signature["outputs"] = {name: {"dtype": "float32", "axes": ["batch", *own]} for name, own in axes.items()}
    return PredictCodec(parsed(manifest))


def rows_of(values: list[float]) -> list[dict[str, Array]]:
    """Return outputs of as many rows, each of its own value."""
    return [
        {
            name: np.linspace(v, -v, int(np.prod(shape)), dtype=np.float32).reshape(shape)
            for name, shape in SHAPES.items()
        }
        for v in values
    ]


def together(each: list[dict[str, Array]]) -> list[RowOutputs]:
    """Return rows as they come of a batch."""
    batch = Batch({name: np.stack([row[name] for row in each]) for name in each[0]}, [3] * len(each))
    return [RowOutputs(batch, row) for row in range(len(each))]


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), st.integers(1, 2))
def test_a_row_of_a_batch_has_the_answer_that_it_has_alone(values: list[float], top_k: int) -> None:
    asked = batched().plan(PredictBody(sequences=[{"x": [1, 2, 3]}], top_k=top_k))
    encoded, each = asked.encode(asked.items[0]), rows_of(values)
    got = [asked.decode(encoded, row) for row in together(each)]
    assert got == [asked.decode(encoded, row) for row in each]


@pytest.mark.parametrize("head", SHAPES)
def test_a_row_that_breaks_the_manifest_fails_alone(head: str) -> None:
    asked = batched().plan(PredictBody(sequences=[{"x": [1, 2, 3]}]))
    encoded, each = asked.encode(asked.items[0]), rows_of([1.0, 2.0, 3.0])
    each[1][head][...] = np.nan
    first, wrong, last = together(each)
    with pytest.raises(errors.BackendFailed):
        asked.decode(encoded, wrong)
    assert [asked.decode(encoded, row) for row in (first, last)] == [
        asked.decode(encoded, row) for row in (each[0], each[2])
    ]
