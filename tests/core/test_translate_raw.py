"""Translators from text to text: no options, no score, and a graph that writes bad text is at fault."""

from typing import Any

import numpy as np
import pytest

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation, answers_as_json
from seqserve.service.core.tasks import TRANSLATION
from seqserve.service.core.translate_raw import RawPlan
from tests.core.fakes import parsed

MANIFEST = {
    "task": "translation",
    "name": "dates",
    "version": 1,
    "signatures": {
        "serving_default": {
            "inputs": {"source": {"dtype": "string", "axes": ["batch"]}},
            "outputs": {"target": {"dtype": "string", "axes": ["batch"]}},
        }
    },
    "mask": "none",
    "features": {"source": {"kind": "text"}},
    "heads": {"target": {"kind": "text"}},
    "decode": {"signatures": {"greedy": "serving_default"}},
    "limits": {"text_characters": 20},
}


def plan(**options: Any) -> RawPlan:
    body = TranslateBody.model_validate({"texts": ["Two dogs"], **options}, strict=False)
    made = TRANSLATION.codec(parsed(MANIFEST), {}).plan(body)
    assert isinstance(made, RawPlan)
    return made


def test_the_text_goes_as_it_is_and_counts_for_its_words() -> None:
    asked = plan()
    encoded = asked.encode(" Two  dogs\n")
    assert encoded.row.inputs["source"].item() == b" Two  dogs\n"
    assert (encoded.row.length, asked.signature, asked.batch_options) == (2, "serving_default", ())


def test_the_answer_has_no_score() -> None:
    asked = plan()
    answer = asked.decode(
        asked.encode("Two dogs"), {"target": np.array("zwei große Hunde".encode(), np.object_)}
    )
    assert answer == Translation("zwei große Hunde")
    assert answers_as_json([answer]) == [{"text": "zwei große Hunde", "warnings": []}]


def test_tokens_are_the_words_between_white_space() -> None:
    asked = plan(tokens=True)
    answer = asked.decode(asked.encode("Two  dogs"), {"target": np.array(b" zwei Hunde", np.object_)})
    assert (answer.text, answer.source_tokens, answer.target_tokens) == (
        " zwei Hunde",
        ("Two", "dogs"),
        ("zwei", "Hunde"),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 2},
        {"beam_size": 0},
        {"n_best": 2},
        {"length_penalty": 0.0},
        {"max_length": 5},
        {"sampling": {}},
        {"alignment": True},
    ],
)
def test_what_would_steer_the_graph_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(
        errors.OptionOutOfRange, match=f"{name} cannot be chosen: .* inside its graph"
    ) as caught:
        plan(**options)
    assert caught.value.path == (name,)


@pytest.mark.parametrize(
    ("text", "error"),
    [("", errors.EmptyText), ("\u2003 ", errors.EmptyText), ("x" * 21, errors.TextTooLong)],
)
def test_texts_that_are_refused(text: str, error: type[errors.InvalidArgument]) -> None:
    with pytest.raises(error):
        plan().encode(text)


@pytest.mark.parametrize("value", [b"\xff", np.array([b"a", b"b"], np.object_)])
def test_an_answer_that_is_no_text_is_the_models_fault(value: Any) -> None:
    asked = plan()
    with pytest.raises(errors.BackendFailed, match="the model's answer breaks its manifest"):
        asked.decode(asked.encode("Two dogs"), {"target": value})
