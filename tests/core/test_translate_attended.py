"""The translation codec where the model returns coverage and attended places, its attention when asked."""

from typing import Any

import numpy as np
import pytest

from seqserve.service import errors
from seqserve.service.contract.items import TranslateBody, Translation
from seqserve.service.contract.padding import Array
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.core.translate import TranslateCodec
from tests.core.fakes import parsed, translation_manifest
from tests.core.test_translate import beams

WIDTH = 32


def manifest_of(*outputs: str, asks: bool = True) -> dict[str, Any]:
    """Return a manifest with further outputs of its signatures."""
    manifest = translation_manifest()
    every = {
        "coverage": {"dtype": "float32", "axes": ["batch", "beam", "source"]},
        "attended": {"dtype": "int32", "axes": ["batch", "beam", "time"]},
    }
    for signature in manifest["signatures"].values():
        signature["outputs"] = {**signature["outputs"], **{name: every[name] for name in outputs}}
        if asks:
            signature["inputs"] = {**signature["inputs"], "alignment": {"dtype": "bool", "axes": ["batch"]}}
    if asks:
        option = {"option": "alignment", "default": 0, "minimum": 0, "maximum": 1}
        manifest["options"] = {**manifest["options"], "alignment": option}
    return manifest


@pytest.fixture(scope="module")
def codec(tokenizer: bytes) -> TranslateCodec:
    return TranslateCodec(parsed(manifest_of("coverage", "attended")), {"en.model": tokenizer})


def attending(ids: list[int], places: list[int]) -> dict[str, Array]:
    """Return a hypothesis whose pieces attend to one place each, without the matrix."""
    outputs = beams(ids, scores=[-1])
    outputs["attention"] = outputs["attention"][:, :0]
    outputs["coverage"] = np.bincount(places, minlength=WIDTH).astype(np.float32)[None]
    outputs["attended"] = np.array([places], np.int32)
    return outputs


def decoded(codec: TranslateCodec, text: str, outputs: dict[str, Array], **options: Any) -> Translation:
    asked = codec.plan(TranslateBody(texts=[text], **options))
    return asked.decode(asked.encode(text), outputs)


def test_words_said_twice_and_left_out_are_warned_of(
    codec: TranslateCodec, text_codec: SentencePieces
) -> None:
    text, ids = "two dogs run fast", text_codec.encode("two two")
    same = decoded(codec, text, attending(ids, [0] * len(ids)))
    assert same.warnings == ("REPETITION", "LOW_COVERAGE")
    each = decoded(codec, "two two", attending(ids, list(range(len(ids)))))
    assert each.warnings == ()


def test_an_unknown_word_becomes_the_source_word_it_attends_to(
    codec: TranslateCodec, text_codec: SentencePieces
) -> None:
    text = "two Жuk dogs"
    ids = text_codec.encode(text)
    assert text_codec.special_ids.unknown in ids
    assert decoded(codec, text, attending(ids, list(range(len(ids))))).text == text


@pytest.mark.parametrize("asks", [False, True])
def test_the_matrix_is_asked_for_by_alignment_alone(
    codec: TranslateCodec, text_codec: SentencePieces, asks: bool
) -> None:
    """And read where it is: other answers are the same with it or without."""
    asked, ids = codec.plan(TranslateBody(texts=["two dogs"], alignment=asks)), text_codec.encode("two dogs")
    encoded, outputs = asked.encode("two dogs"), attending(ids, [0] * len(ids))
    assert encoded.row.inputs["alignment"].dtype == bool
    assert (encoded.row.inputs["alignment"].item(), asked.batch_options) == (asks, ())
    if asks:
        with pytest.raises(errors.BackendFailed):  # not given
            asked.decode(encoded, outputs)
        outputs["attention"] = np.broadcast_to(np.eye(len(ids), WIDTH), (1, len(ids), WIDTH))
    answer = asked.decode(encoded, outputs)
    assert answer.alignment == (((1.0, 0.0), (0.0, 1.0)) if asks else None)
    assert answer.warnings == decoded(codec, "two dogs", attending(ids, [0] * len(ids))).warnings


@pytest.mark.parametrize(
    "changes",
    [
        {"coverage": np.full((1, WIDTH), np.nan)},
        {"coverage": np.ones((1, 1))},
        {"coverage": np.ones((0, WIDTH))},
        {"attended": np.array([[0]])},
        {"attended": np.full((1, WIDTH), WIDTH)},
        {"attended": np.full((1, WIDTH), -1)},
    ],
)
def test_what_breaks_the_manifest_is_the_models_fault(
    codec: TranslateCodec, text_codec: SentencePieces, changes: dict[str, Array]
) -> None:
    ids = text_codec.encode("two dogs")
    with pytest.raises(errors.BackendFailed):
        decoded(codec, "two dogs", {**attending(ids, [0] * len(ids)), **changes})


def test_a_model_may_look_at_padding(codec: TranslateCodec, text_codec: SentencePieces) -> None:
    """`check` finds such a model; one that was exported all the same answers, as if it looked at the end."""
    ids = text_codec.encode("two dogs")
    at_padding, at_the_end = (attending(ids, [place] * len(ids)) for place in (WIDTH - 1, len(ids) - 1))
    assert decoded(codec, "two dogs", at_padding) == decoded(codec, "two dogs", at_the_end)


@pytest.mark.parametrize("outputs", [("coverage",), ("attended",), ()])
def test_the_two_and_the_option_go_together(outputs: tuple[str, ...]) -> None:
    parsed(manifest_of("coverage", "attended", asks=False))
    with pytest.raises(errors.ManifestInvalid, match="coverage and attended go together"):
        parsed(manifest_of(*outputs))
