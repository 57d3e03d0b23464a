"""The translation codec: options to a signature, text to a row, malformed and good answers to text."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.backend.base import Spec
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.base import Words
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core.alignment import align_words, replace_unknown
from seqserve.service.core.translate import TranslateCodec, TranslatePlan
from seqserve.service.core.types import Encoded, Outputs
from tests.core.fakes import echo, parsed, translation_manifest

WORDS = ("two", "dogs", "run", "fast", "mat", "hunde")
END = 3
Planner = Callable[..., TranslatePlan]


def planner_of(tokenizer: bytes, **changes: Any) -> Planner:
    codec = TranslateCodec(parsed(translation_manifest(**changes)), {"en.model": tokenizer})

    def plan(*texts: str, **options: Any) -> TranslatePlan:
        return codec.plan(
            TranslateBody.model_validate({"texts": texts or ["two dogs"], **options}, strict=False)
        )

    return plan


@pytest.fixture(scope="session")
def plan(tokenizer: bytes) -> Planner:
    return planner_of(tokenizer)


def echoed(encoded: Encoded) -> Outputs:
    """Return what `echo` answers one row with."""
    outputs = echo(Spec("echo", 1, "greedy", ""), {"source": encoded.row.inputs["source"][None]})
    return {name: value[0] for name, value in outputs.items()}


def beams(*hypotheses: list[int], scores: list[float]) -> dict[str, Array]:
    """Return the outputs that hold these hypotheses."""
    longest = max(map(len, hypotheses))
    return {
        "ids": np.array([[*ids, *[0] * (longest - len(ids))] for ids in hypotheses], np.int32),
        "lengths": np.array([len(ids) for ids in hypotheses], np.int32),
        "scores": np.array(scores, np.float32),
        "attention": np.full((len(hypotheses), longest, 32), 1 / 32, np.float32),
    }


def test_alignment_by_hand() -> None:
    source = Words(("one", "two", "three"), (0, 0, 1, 2, -1))
    target = Words(("eins", "zwei"), (0, 1, 1, -1))
    weights = np.array(
        [
            [0.1, 0.2, 0.3, 0.3, 0.1],  # all of eins: the sum over the pieces of each source word
            [0.0, 0.0, 1.0, 0.0, 0.0],  # half of zwei
            [0.5, 0.1, 0.0, 0.2, 0.2],  # the other half
            [0.0, 0.0, 0.0, 0.0, 1.0],  # the end, which is no word
        ]
    )
    assert np.array(align_words(weights, source, target)) == pytest.approx(
        np.array([[0.3, 0.3, 0.3], [0.3, 0.5, 0.1]])
    )


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5))
def test_a_text_translated_to_itself_is_aligned_word_by_word(plan: Planner, words: list[str]) -> None:
    asked = plan(" ".join(words), alignment=True)
    encoded = asked.encode(asked.items[0])
    got = asked.decode(encoded, echoed(encoded))
    assert (got.text, got.score, got.warnings) == (" ".join(words), -encoded.row.length, ())
    assert got.source_tokens == got.target_tokens == tuple(words)
    assert np.array(got.alignment) == pytest.approx(np.eye(len(words)))


def test_what_is_not_asked_for_is_not_given(plan: Planner) -> None:
    asked = plan("two dogs")
    encoded = asked.encode("two dogs")
    assert asked.decode(encoded, echoed(encoded)) == Translation("two dogs", -float(encoded.row.length))
    tokens = plan("two dogs", tokens=True).decode(encoded, echoed(encoded))
    assert (tokens.source_tokens, tokens.alignment) == (("two", "dogs"), None)


@given(st.lists(st.integers(4, 30), max_size=6))
def test_truncated_says_that_the_end_was_not_reached(plan: Planner, ids: list[int]) -> None:
    asked = plan()
    encoded = asked.encode("two dogs")
    assert asked.decode(encoded, beams([*ids, END], scores=[-1])).warnings.count("TRUNCATED") == 0
    if ids:
        assert asked.decode(encoded, beams(ids, scores=[-1])).warnings.count("TRUNCATED") == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_alternatives_as_asked_for_best_first(
    plan: Planner, text_codec: SentencePieces, count: int
) -> None:
    texts = ["two dogs", "a cat", "the mat"]
    hypotheses = [text_codec.encode(text) for text in texts]
    asked = plan(beam_size=3, n_best=count)
    got = asked.decode(asked.encode("two dogs"), beams(*hypotheses, scores=[-1, -2, -3]))
    others = [(other.text, other.score) for other in got.alternatives or ()]
    assert [(got.text, got.score), *others] == list(zip(texts, (-1, -2, -3), strict=True))[:count]
    assert (got.alternatives is None) == (count == 1)


GOOD = beams([5, 6, END], [7, END], scores=[-1, -2])
MALFORMED: dict[str, dict[str, Any]] = {
    "length of nothing": {"lengths": np.array([0, 2])},
    "negative length": {"lengths": np.array([-1, 2])},
    "length past the ids": {"lengths": np.array([4, 2])},
    "id past the vocabulary": {"ids": np.array([[5, 9999, END], [7, END, 0]])},
    "negative id": {"ids": np.array([[5, -6, END], [7, END, 0]])},
    "score of NaN": {"scores": np.array([np.nan, -2])},
    "score of infinity": {"scores": np.array([-np.inf, -2])},
    "one beam of ids": {"ids": GOOD["ids"][:1]},
    "one beam of lengths": {"lengths": GOOD["lengths"][:1]},
    "no beams": {name: value[:0] for name, value in GOOD.items()},
    "attention of NaN": {"attention": np.full((2, 3, 32), np.nan)},
    "attention to too few": {"attention": np.ones((2, 3, 1))},
    "attention of too few": {"attention": np.ones((2, 1, 32))},
    "attention of no beam": {"attention": np.ones((0, 3, 32))},
}


@pytest.mark.parametrize("changes", MALFORMED.values(), ids=MALFORMED)
def test_an_answer_that_breaks_the_manifest_is_the_models_fault(
    plan: Planner, changes: dict[str, Array]
) -> None:
    asked = plan(beam_size=2, n_best=2, alignment=True)
    encoded = asked.encode("two dogs")
    assert asked.decode(encoded, GOOD).alternatives is not None
    with pytest.raises(errors.BackendFailed):
        asked.decode(encoded, {**GOOD, **changes})


def test_fewer_scores_than_hypotheses_are_the_models_fault(plan: Planner) -> None:
    """BACKEND_FAILED, like any other answer that breaks the manifest."""
    asked = plan(beam_size=2, n_best=2)
    with pytest.raises(errors.BackendFailed):
        asked.decode(asked.encode("two dogs"), {**GOOD, "scores": GOOD["scores"][:1]})


class Untouched:
    """A tokenizer that may not be used."""

    def encode(self, text: str) -> list[int]:
        raise AssertionError("tokenized before the limit was checked")


def test_characters_are_limited_before_they_are_tokenized(plan: Planner) -> None:
    asked = plan()._replace(text=Untouched())  # type: ignore[arg-type]
    huge = "a " * 5_000_000
    started = time.process_time()
    with pytest.raises(errors.TextTooLong, match="10000000 characters, more than the limit of 100"):
        asked.encode(huge)
    assert time.process_time() - started < 0.05


@given(st.text(alphabet=" \tzdq€", max_size=110))
def test_a_text_is_a_row_within_the_limits_or_refused(
    plan: Planner, text_codec: SentencePieces, text: str
) -> None:
    ids = text_codec.encode(text) if len(text) <= 100 else []
    try:
        row = plan().encode(text).row
    except errors.TextTooLong:
        assert len(text) > 100 or len(ids) > 32
    except errors.EmptyText:
        assert not text.strip()
    else:
        assert row.inputs["source"].tolist() == ids
        assert row.length == len(ids) <= 32
        assert row.inputs["source"].dtype == np.int32


def test_pieces_are_limited_right_after(tokenizer: bytes, text_codec: SentencePieces) -> None:
    text = "two dogs run"
    pieces = len(text_codec.encode(text))
    allowed = planner_of(tokenizer, limits={"text_characters": 100, "text_pieces": pieces})
    assert allowed().encode(text).row.length == pieces
    short = planner_of(tokenizer, limits={"text_characters": 100, "text_pieces": pieces - 1})
    with pytest.raises(errors.TextTooLong, match=f"{pieces} pieces, more than the limit of {pieces - 1}"):
        short().encode(text)


OPTIONS: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "greedy", ()),
    ({"beam_size": 3}, "beam", (("beam_size", 3),)),
    ({"beam_size": 4, "n_best": 4}, "beam", (("beam_size", 4),)),
    ({"sampling": {"seed": 7}}, "sample", ()),
    ({"length_penalty": 1.0, "max_length": None}, "greedy", ()),  # as good as absent
]


@pytest.mark.parametrize(("options", "signature", "shared"), OPTIONS)
def test_options_choose_the_signature_and_feed_its_inputs(
    plan: Planner, options: dict[str, Any], signature: str, shared: Any
) -> None:
    asked = plan(**options)
    assert (asked.signature, asked.batch_options) == (signature, shared)
    seed = asked.encode("two dogs").row.inputs.get("seed")
    assert (None if seed is None else (seed.dtype, seed.tolist())) == (
        (np.int64, 7) if signature == "sample" else None
    )


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"beam_size": 0}, ("beam_size",)),
    ({"beam_size": 5}, ("beam_size",)),
    ({"n_best": 0}, ("n_best",)),
    ({"beam_size": 2, "n_best": 3}, ("n_best",)),
    ({"beam_size": 2, "sampling": {}}, ("sampling",)),
    ({"sampling": {"seed": 100}}, ("sampling", "seed")),
    # what the signature has no input for
    ({"length_penalty": 0.5}, ("length_penalty",)),
    ({"max_length": 5}, ("max_length",)),
    ({"sampling": {"temperature": 0.5}}, ("sampling", "temperature")),
]


@pytest.mark.parametrize(("options", "path"), WRONG)
def test_options_out_of_range_are_named(
    plan: Planner, options: dict[str, Any], path: tuple[str, ...]
) -> None:
    with pytest.raises(errors.OptionOutOfRange) as caught:
        plan(**options)
    assert caught.value.path == path


def test_a_way_of_decoding_that_the_model_lacks_is_refused(tokenizer: bytes) -> None:
    changed = {**translation_manifest()["decode"], "signatures": {"greedy": "greedy"}}
    greedy = planner_of(tokenizer, decode=changed)
    assert greedy().signature == "greedy"
    for options, path in (({"beam_size": 2}, ("beam_size",)), ({"sampling": {}}, ("sampling",))):
        with pytest.raises(errors.OptionOutOfRange) as caught:
            greedy(**options)
        assert caught.value.path == path


@pytest.mark.parametrize("text", ["Москва", "Встреча состоится во вторник", "東京都は日本の首都です", "😀😀"])
def test_a_text_in_an_unknown_script_is_warned_of(plan: Planner, text: str) -> None:
    """Whatever the profile, or without one."""
    asked = plan(text)
    assert asked.encode(text).warnings == ("HIGH_UNKNOWN",)
    assert asked.encode("two dogs, 12").warnings == ()


def test_a_text_that_is_spelled_is_warned_of(tokenizer: bytes, text_codec: SentencePieces) -> None:
    """Of fewer letters a piece than all but a hundredth of the training texts."""
    text = "hunde"
    letters = len(text) / len(text_codec.encode(text))
    for p1, wanted in ((letters + 0.01, ("HIGH_UNKNOWN",)), (letters - 0.01, ())):
        plan = planner_of(tokenizer, profile={"letters_per_piece": {"p1": p1}, "pieces_per_word": 0.1})
        assert plan(text).encode(text).warnings == wanted


def test_a_text_of_far_more_pieces_than_usual_is_warned_of(
    tokenizer: bytes, text_codec: SentencePieces
) -> None:
    plan = planner_of(tokenizer, profile={"pieces_per_word": 2.0})
    assert plan().encode("two dogs").warnings == ()
    strange = "zqzqzqzqzq"
    assert len(text_codec.encode(strange)) > 5
    asked = plan(strange)
    encoded = asked.encode(strange)
    assert encoded.warnings == ("HIGH_UNKNOWN",)
    warnings = asked.decode(encoded, beams([5], scores=[-1])).warnings
    assert warnings == ("HIGH_UNKNOWN", "TRUNCATED", "LOW_COVERAGE")


def test_warnings_come_with_the_answer_whether_or_not_the_alignment_was_asked_for(
    plan: Planner, text_codec: SentencePieces
) -> None:
    asked = plan("two dogs run fast")
    encoded = asked.encode("two dogs run fast")
    ids = text_codec.encode("two two")
    outputs = beams(ids, scores=[-1])
    outputs["attention"] = np.zeros_like(outputs["attention"])
    outputs["attention"][..., 0] = 1
    assert asked.decode(encoded, outputs).warnings == ("REPETITION", "LOW_COVERAGE")


def test_an_unknown_word_becomes_the_source_word_it_attends_to(
    plan: Planner, text_codec: SentencePieces
) -> None:
    """In text and tokens, of the best hypothesis and the others."""
    text = "two Жuk dogs"
    assert text_codec.special_ids.unknown in text_codec.encode(text)
    asked = plan(text, beam_size=2, n_best=2, tokens=True)
    encoded = asked.encode(text)
    length = encoded.row.length
    same = encoded.row.inputs["source"].tolist()
    outputs = beams(same, same, scores=[-1, -2])
    outputs["attention"] = np.broadcast_to(np.eye(length, 32), (2, length, 32))
    got = asked.decode(encoded, outputs)
    assert got.text == text
    assert got.target_tokens == tuple(got.text.split())
    assert [other.text for other in got.alternatives or ()] == [got.text]


@pytest.mark.parametrize(
    ("target", "source", "wanted"),
    [
        ("⁇", "Zürich", "Zürich"),
        ("Z⁇rich.", "Zürich,", "Zürich."),
        ("(⁇)", "5€", "(5€)"),
        ("⁇", "...", "..."),
    ],
)
def test_the_targets_punctuation_stays(target: str, source: str, wanted: str) -> None:
    one = (Words((source,), (0,)), Words((target,), (0,)))
    assert replace_unknown(np.ones((1, 1)), *one, [True]) == (wanted,)
