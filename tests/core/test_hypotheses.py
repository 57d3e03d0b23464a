"""Rows of one batch read together: each has the answer that it has alone, and its own fault."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core.doubts import LOW_WORD
from seqserve.service.core.hypotheses import Hypotheses
from seqserve.service.core.translate import TranslateCodec, TranslatePlan
from seqserve.service.core.types import Batch, Encoded, Outputs, RowOutputs
from tests.core.fakes import parsed, translation_manifest

TEXT, BEAMS, STEPS, SOURCE, END = "two dogs run fast", 2, 8, 48, 3
TEXTS = [TEXT, "dogs", "two cats run", "a dog runs fast. two dogs run fast"]
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


ids = st.lists(st.sampled_from([UNKNOWN, *range(4, 30)]), min_size=STEPS, max_size=STEPS)
rows = st.fixed_dictionaries(
    {
        "text": st.sampled_from(TEXTS),
        "ids": st.lists(ids, min_size=BEAMS, max_size=BEAMS),
        "lengths": st.lists(st.integers(1, STEPS), min_size=BEAMS, max_size=BEAMS),
        "coverage": st.lists(st.sampled_from([0.0, 0.2, 0.3, 1.0]), min_size=BEAMS, max_size=BEAMS),
        "attended": st.lists(st.integers(0, 3), min_size=BEAMS, max_size=BEAMS),
    }
)


def outputs_of(row: dict[str, Any], length: int) -> dict[str, Array]:
    """Return the outputs of a row of so many pieces; padding is attended to by nothing."""
    attention = np.zeros((BEAMS, STEPS, SOURCE), np.float32)
    attention[..., :length] = np.array(row["coverage"])[:, None, None] / STEPS
    attended = np.minimum(row["attended"], length - 1)
    return {
        "ids": np.array([[*ids[:-1], END] for ids in row["ids"]], np.int32),
        "lengths": np.array(row["lengths"], np.int32),
        "scores": np.array([-1, -2], np.float32),
        "attention": attention,
        "coverage": attention.sum(axis=1),
        "attended": np.repeat(attended[:, None], STEPS, axis=1).astype(np.int32),
    }


def batch_of(each: list[dict[str, Array]], lengths: list[int]) -> Batch:
    return Batch({name: np.stack([row[name] for row in each]) for name in each[0]}, lengths)


def together(each: list[dict[str, Array]], lengths: list[int]) -> list[Outputs]:
    """Return rows as they come of a batch."""
    batch = batch_of(each, lengths)
    return [RowOutputs(batch, row) for row in range(len(each))]


def outcome(asked: TranslatePlan, encoded: Encoded, outputs: Outputs) -> Translation | str:
    try:
        return asked.decode(encoded, outputs)
    except errors.BackendFailed as error:
        return error.message


@pytest.mark.parametrize("attended", [False, True])
@given(each=st.lists(rows, min_size=5, max_size=5), order=st.permutations(range(5)))
def test_a_row_has_the_answer_that_it_has_alone(
    tokenizer: bytes, text_codec: SentencePieces, attended: bool, each: list[dict[str, Any]], order: list[int]
) -> None:
    """Whichever is asked for first, and however long its neighbours are."""
    asked = planned(tokenizer, attended=attended)
    encoded = [asked.encode(row["text"]) for row in each]
    lengths = [one.row.length for one in encoded]
    alone = [outputs_of(row, length) for row, length in zip(each, lengths, strict=True)]
    batched = together(alone, lengths)
    got = {row: asked.decode(encoded[row], batched[row]) for row in order}
    assert [got[row] for row in range(5)] == [asked.decode(encoded[row], alone[row]) for row in range(5)]
    for place, row in enumerate(each):
        written = [
            ids[:length] for ids, length in zip(alone[place]["ids"].tolist(), row["lengths"], strict=True)
        ]
        texts = [got[place].text, *(other.text for other in got[place].alternatives or ())]
        for text, ids in zip(texts, written, strict=True):
            assert UNKNOWN in ids or text == text_codec.decode(ids)


@given(each=st.lists(st.tuples(rows, st.integers(1, SOURCE)), min_size=1, max_size=4))
def test_what_is_hardly_attended_to_is_counted_within_each_row(
    each: list[tuple[dict[str, Any], int]],
) -> None:
    outputs = [outputs_of(row, length) for row, length in each]
    known = Hypotheses(batch_of(outputs, [length for _, length in each]), ("coverage", "attended"))
    for place, (_, length) in enumerate(each):
        pieces = outputs[place]["coverage"][0, :length]  # of the best
        assert known.low(place) == sum(covered < LOW_WORD for covered in pieces)


GOOD = {
    "ids": [[5, 6, 7, 8, 9, 10, 11, 12]] * BEAMS,
    "lengths": [4] * BEAMS,
    "coverage": [1.0] * BEAMS,
    "attended": [1] * BEAMS,
}
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
    good = outputs_of(GOOD, encoded.row.length)
    each = [{name: value.copy() for name, value in good.items()} for _ in range(4)]
    name, value, told = FAULTS[fault]
    each[1][name][0] = value
    got = [outcome(asked, encoded, row) for row in together(each, [encoded.row.length] * 4)]
    assert isinstance(got[1], str)
    assert told in got[1]
    answers = [got[row] for row in (0, 2, 3)]
    assert answers == [asked.decode(encoded, good)] * 3
    assert isinstance(answers[0], Translation)
    assert answers[0].text == text_codec.decode(GOOD["ids"][0][:4])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("coverage", (1, SOURCE)), ("coverage", (BEAMS, 1)), ("attended", (BEAMS, 1)), ("attended", (1, STEPS))],
)
def test_outputs_that_do_not_go_together_fail_each_row(
    tokenizer: bytes, name: str, shape: tuple[int, ...]
) -> None:
    asked = planned(tokenizer, attended=True)
    encoded = asked.encode(TEXT)
    good = outputs_of(GOOD, encoded.row.length)
    each = [{**good, name: good[name][: shape[0], : shape[1]]} for _ in range(2)]
    for row in together(each, [encoded.row.length] * 2):
        assert isinstance(outcome(asked, encoded, row), str)
