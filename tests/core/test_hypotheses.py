"""Rows of one batch read together: each has the answer that it has alone, and its own fault."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core import hypotheses
from seqserve.service.core.translate import TranslateCodec, TranslatePlan
from seqserve.service.core.types import Batch, Encoded, Outputs, RowOutputs
from tests.core.fakes import parsed, translation_manifest

TEXT, BEAMS, STEPS, SOURCE, END = "two dogs run fast", 2, 8, 32, 3
UNKNOWN = 1
BEAM_AXES = ["batch", "beam"]


def planned(tokenizer: bytes, *, attended: bool) -> TranslatePlan:
    """Return a plan of a model that says what it attended to, in sums or in full."""
    manifest = translation_manifest()
    if attended:
        for signature in manifest["signatures"].values():
            more = {"coverage": [*BEAM_AXES, "source"], "attended": [*BEAM_AXES, "time"]}
            dtypes = {"coverage": "float32", "attended": "int32"}
            given = {name: {"dtype": dtypes[name], "axes": axes} for name, axes in more.items()}
            signature["outputs"] = {**signature["outputs"], **given}
    codec = TranslateCodec(parsed(manifest), {"en.model": tokenizer})
    return codec.plan(TranslateBody(texts=[TEXT], beam_size=BEAMS, n_best=BEAMS, tokens=True))


rows = st.fixed_dictionaries(
    {
        "ids": st.lists(st.sampled_from([UNKNOWN, *range(4, 30)]), min_size=STEPS, max_size=STEPS),
        "lengths": st.integers(1, STEPS),
        "coverage": st.sampled_from([0.0, 0.2, 0.3, 1.0]),
        "attended": st.integers(0, 3),
    }
)


def outputs_of(row: dict[str, Any]) -> dict[str, Array]:
    """Return a row's outputs, both of its beams alike."""
    attention = np.full((BEAMS, STEPS, SOURCE), row["coverage"] / STEPS, np.float32)
    return {
        "ids": np.array([[*row["ids"][:-1], END]] * BEAMS, np.int32),
        "lengths": np.full(BEAMS, row["lengths"], np.int32),
        "scores": np.array([-1, -2], np.float32),
        "attention": attention,
        "coverage": attention.sum(axis=1),
        "attended": np.full((BEAMS, STEPS), row["attended"], np.int32),
    }


def together(each: list[dict[str, Array]], length: int) -> list[Outputs]:
    """Return rows as they come of a batch."""
    batch = Batch({name: np.stack([row[name] for row in each]) for name in each[0]}, [length] * len(each))
    return [RowOutputs(batch, row) for row in range(len(each))]


def outcome(asked: TranslatePlan, encoded: Encoded, outputs: Outputs) -> Translation | str:
    try:
        return asked.decode(encoded, outputs)
    except errors.BackendFailed as error:
        return error.message


@pytest.mark.parametrize("attended", [False, True])
@given(
    each=st.lists(rows, min_size=5, max_size=5), at_once=st.integers(1, 3), order=st.permutations(range(5))
)
def test_a_row_has_the_answer_that_it_has_alone(
    tokenizer: bytes, attended: bool, each: list[dict[str, Any]], at_once: int, order: list[int]
) -> None:
    """Whichever is asked for first."""
    asked = planned(tokenizer, attended=attended)
    encoded = asked.encode(TEXT)
    alone = [outputs_of(row) for row in each]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypotheses, "TOGETHER", at_once)
        batched = together(alone, encoded.row.length)
        got = {row: asked.decode(encoded, batched[row]) for row in order}
    assert [got[row] for row in range(5)] == [asked.decode(encoded, row) for row in alone]


GOOD = {"ids": [5, 6, 7, 8, 9, 10, 11, 12], "lengths": 4, "coverage": 1.0, "attended": 1}
FAULTS = {
    "no piece": ("ids", 9999, "outside the vocabulary"),
    "no length": ("lengths", 0, "lengths"),
    "too long": ("lengths", STEPS + 1, "lengths"),
    "no score": ("scores", np.nan, "score"),
    "coverage of NaN": ("coverage", np.nan, "attention"),
    "attended to nothing": ("attended", SOURCE, "attended places"),
    "attended before all": ("attended", -1, "attended places"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_breaks_the_manifest_fails_alone(
    tokenizer: bytes, text_codec: SentencePieces, fault: str
) -> None:
    asked = planned(tokenizer, attended=True)
    encoded = asked.encode(TEXT)
    each = [outputs_of(GOOD) for _ in range(4)]
    name, value, told = FAULTS[fault]
    each[1][name][0] = value
    got = [outcome(asked, encoded, row) for row in together(each, encoded.row.length)]
    assert isinstance(got[1], str)
    assert told in got[1]
    answers = [got[row] for row in (0, 2, 3)]
    assert answers == [asked.decode(encoded, outputs_of(GOOD))] * 3
    assert isinstance(answers[0], Translation)
    assert answers[0].text == text_codec.decode(GOOD["ids"][:4])  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "shape"),
    [("coverage", (1, SOURCE)), ("coverage", (BEAMS, 1)), ("attended", (BEAMS, 1)), ("attended", (1, STEPS))],
)
def test_outputs_that_do_not_go_together_fail_each_row(
    tokenizer: bytes, name: str, shape: tuple[int, ...]
) -> None:
    asked = planned(tokenizer, attended=True)
    encoded = asked.encode(TEXT)
    each = [{**outputs_of(GOOD), name: outputs_of(GOOD)[name][: shape[0], : shape[1]]} for _ in range(2)]
    for row in together(each, encoded.row.length):
        assert isinstance(outcome(asked, encoded, row), str)
