"""From a configuration of translation to a draft: what its shortlist leaves, and what is said of it."""

import numpy as np
import pytest
import tensorflow as tf

from seqserve.models.config import TranslationConfig, read_config
from seqserve.models.data.batches import pad_right
from seqserve.models.data.phrases import phrase_pairs
from seqserve.models.recipes.translation import TOKENIZER, TOKENS, TranslationRecipe
from seqserve.service.contract.shortlist import Shortlist
from seqserve.service.contract.vocabulary.pieces import SentencePieces

PHRASES = phrase_pairs("train", 300, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("partners", [0, 4])
def test_pieces_that_no_text_is_translated_by_are_not_written(partners: int) -> None:
    """Those of the other language: a network that is not trained would write them as soon as others."""
    listed = {"common": 1000, "partners": partners}
    table = {
        "name": "phrases",
        "task": "translation",
        "data": {"kind": "phrases"},
        "model": {"vocabulary_size": 200, "embedding": 8, "units": 8, "shortlist": listed},
        "training": {"epochs": 1, "batch_size": 8},
        "serving": {"buckets": [32, 64], "text_characters": 300, "output_length": 80},
    }
    config = read_config(table, "a test")
    assert isinstance(config, TranslationConfig)
    draft = TranslationRecipe(config, PHRASES, PHRASES[:40]).draft(1, {})
    pieces = SentencePieces(draft.files[TOKENIZER], TOKENS)
    written = set().union(*(pieces.encode(pair.target) for pair in PHRASES))
    assert draft.manifest.decode is not None
    assert draft.manifest.decode.shortlist == Shortlist(common=len(written), partners=partners)
    assert len(written) < 180
    rows = [np.array(pieces.encode(pair.source), np.int32) for pair in PHRASES[:60]]
    bounds = tf.fill([60], 12), tf.fill([60], 1.0)
    ids = draft.functions["greedy"](tf.constant(pad_right(rows, 0)), *bounds)["ids"]
    assert set(ids.numpy().ravel().tolist()) <= written | {0, 1, 2, 3}
