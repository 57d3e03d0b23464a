"""What the service answers is what the model says: worked out from the SavedModel and its manifest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.core.golden import first_difference
from tests.doors import Both, predict, translate

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEXTS = ["Tuesday, November 24, 2026", "9:05 AM", "one hundred and twelve", "$3,600.20", "12/1/31"]
JOURNEYS = [
    {"event": ["visit"], "minutes": [0.0]},
    {"event": ["visit", "search", "view", "cart"], "minutes": [0.0, 0.5, 12.0, 3.0]},
    {"event": ["visit", "view"] * 9, "minutes": [0.0, *[1.25] * 17]},
]


@pytest.fixture
def loaded(root: Path) -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """Load a version's functions by TensorFlow's other loader, and its manifest as plain JSON."""

    def load(name: str) -> tuple[Any, dict[str, Any]]:
        folder = root / name / "1"
        return tf.saved_model.load(str(folder)), json.loads((folder / "assets" / FILE_NAME).read_bytes())

    return load


async def test_translations(
    both: Both, root: Path, loaded: Callable[[str], tuple[Any, dict[str, Any]]]
) -> None:
    """Each text tokenized, decoded alone and unpadded, and detokenized by hand; text and score agree."""
    model, manifest = loaded("en-de")
    tokenizer = root / "en-de/1/assets" / manifest["features"]["source_ids"]["tokenizer"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    answer, _ = await both.by_rest(translate(texts=TEXTS))
    by_grpc, _ = await both.by_grpc(translate(texts=TEXTS))
    assert first_difference(answer, by_grpc, 1e-5) is None  # another batch may round otherwise
    for text, given in zip(TEXTS, answer["translations"], strict=True):
        out = model.signatures["greedy"](
            source_ids=tf.constant([[*pieces.encode(text), 3]]),
            max_length=tf.constant([24]),
            length_penalty=tf.constant([1.0]),
            alignment=tf.constant([False]),
        )
        ids = out["ids"].numpy()[0, 0, : int(out["lengths"][0, 0])].tolist()
        assert given["text"] == pieces.decode([i for i in ids if i != 3])
        assert given["score"] == pytest.approx(float(out["scores"][0, 0]), rel=1e-5)


async def test_predictions(both: Both, loaded: Callable[[str], tuple[Any, dict[str, Any]]]) -> None:
    """Each journey encoded, run alone, unpadded, and decoded by hand; labels and values agree."""
    model, manifest = loaded("shop")
    labels, heads = manifest["features"]["event"]["labels"], manifest["heads"]
    answer, _ = await both.by_rest(predict(sequences=JOURNEYS))
    by_grpc, _ = await both.by_grpc(predict(sequences=JOURNEYS))
    assert first_difference(answer, by_grpc, 1e-5) is None
    for journey, given in zip(JOURNEYS, answer["predictions"], strict=True):
        ids = [labels.index(event) + 1 for event in journey["event"]]
        elapsed = np.log1p(journey["minutes"]) / manifest["features"]["minutes"]["scale"]
        out = model.signatures["serving_default"](
            event=tf.constant([ids]), minutes=tf.constant(elapsed[None], tf.float32)
        )
        logits = out["next_event"].numpy()[0].astype(float)
        best = int(logits.argmax())
        chance = float(np.exp(logits[best]) / np.exp(logits).sum())
        assert given["heads"]["next_event"]["label"] == heads["next_event"]["labels"][best]
        assert given["heads"]["next_event"]["probability"] == pytest.approx(chance, rel=1e-4)
        for name in ("minutes_to_next", "minutes_to_end"):
            value = float(out[name][0]) * heads[name]["scale"][0] + heads[name]["mean"][0]
            assert given["heads"][name]["value"] == pytest.approx(max(0.0, np.expm1(value)), rel=1e-4)
