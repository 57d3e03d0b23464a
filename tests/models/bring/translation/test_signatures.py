"""An encoder and one step of the decoder that are signatures of one SavedModel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from seqserve.models.cli import export_own
from seqserve.service.contract.padding import Array
from tests.models.bring.translation.forms import LIMIT, SOURCE, TARGET, UNITS, Form, drawn, ids_of, words
from tests.models.bring.translation.test_answers import items

pytestmark = pytest.mark.slow
CONTRACT = 'file = "saved"\n[encoder]\nsignature = "encode"\n[decoder]\nsignature = "decode"\n'
FLOATS = tf.TensorSpec([None, UNITS], tf.float32)


class Saved(tf.Module):
    """A translator without Keras: the decoder's state attends to the source's vectors."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(7)

        def drawn(*shape: int) -> tf.Variable:
            return tf.Variable(random.normal(size=shape).astype(np.float32))

        self.source, self.target = drawn(len(SOURCE), UNITS), drawn(len(TARGET), UNITS)
        self.mix, self.out = drawn(2 * UNITS, UNITS), drawn(UNITS, len(TARGET))
        self.never = tf.constant([-30.0] * 3 + [0.0] * (len(TARGET) - 3))

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def encode(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = tf.gather(self.source, ids) * tf.cast(ids != 0, tf.float32)[..., None]
        return {"state": tf.tanh(tf.reduce_sum(vectors, axis=1)), "vectors": vectors}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int32), FLOATS, tf.TensorSpec([None, None, UNITS])]
    )
    def decode(self, word: tf.Tensor, state: tf.Tensor, vectors: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.einsum("bu,bsu->bs", state, vectors)
        real = tf.reduce_any(vectors != 0, axis=-1)
        weights = tf.nn.softmax(tf.where(real, scores, -1e9))
        attended = tf.einsum("bs,bsu->bu", weights, vectors) + tf.gather(self.target, word)
        new = tf.tanh(tf.concat([attended, state], axis=-1) @ self.mix)
        return {"scores": new @ self.out + self.never, "state": new, "weights": weights}

    def save(self, path: Path) -> None:
        """Write it as a SavedModel."""
        tf.saved_model.save(self, str(path), signatures={"encode": self.encode, "decode": self.decode})

    def next_scores(self, text: str, ids: Sequence[int]) -> Array:
        """Return the scores after the pieces so far, as a loop of one's own has them."""
        state, vectors = (self.encode(tf.constant(ids_of(text), tf.int32))[n] for n in ("state", "vectors"))
        for word in ids:
            step = self.decode(tf.constant([word]), state, vectors)
            state = step["state"]
        return np.asarray(step["scores"][0])


def test_two_signatures_are_joined(tmp_path: Path) -> None:
    """Greedy translations are those of the user's own loop, and they are aligned."""
    module = Saved()
    form = Form(CONTRACT + words(), {"saved": module}, module.next_scores)
    _, toml = form.save(tmp_path)
    version = export_own(tmp_path, toml, tmp_path / "models", version=None, imports=[])
    texts = drawn(8)
    wanted = [form.text(text) for text in texts]
    assert len(set(wanted)) > 4
    assert [item["text"] for item in items(version, texts=texts, max_length=LIMIT)] == wanted
    for item in items(version, texts=texts[:2], alignment=True):
        assert np.sum(item["alignment"], axis=1) == pytest.approx(1, abs=1e-4)
