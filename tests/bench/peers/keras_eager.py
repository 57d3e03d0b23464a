"""Peer: the eager loop of TensorFlow's tutorial "NMT with attention", once a request, behind FastAPI.

The encoder runs once; Python asks the decoder for one piece after another until every row has ended. Layers
are the project's, their weights the SavedModel's. https://www.tensorflow.org/text/tutorials/nmt_with_attention
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

from seqserve.models.networks.translation import Translator
from tests.bench.peers.arguments import arguments
from tests.bench.peers.fastapi_plain import make_app, serve
from tests.bench.peers.model import Row, Translation, load


class EagerTranslation(Translation):
    """Texts to texts, the decoder's loop in Python."""

    def __init__(self, folder: Path, manifest: dict[str, Any], rows: int) -> None:
        super().__init__(folder, manifest, rows)
        self._special = manifest["decode"]["special_ids"]
        self._network = _network(manifest, self._loaded.values, self._pieces.get_piece_size())
        self._score = self._network.scorer()

    def run(self, rows: list[Row]) -> list[str]:
        source_ids = tf.constant(self.batch(rows)[self._source])  # (batch, source)
        state, memory = self._network.encode(source_ids)
        last = tf.fill([len(rows)], self._special["start"])  # (batch)
        done = tf.zeros([len(rows)], tf.bool)
        pieces = []
        for _ in range(self.manifest["decode"]["default_length"]):
            embedded = self._network.embedding(last)
            state, context, _ = self._network.step(state, embedded, memory)
            logits = self._score(self._network.readouts(state[0], context, embedded))
            last = tf.where(done, self._end, tf.argmax(logits, axis=-1, output_type=tf.int32))
            pieces.append(last)
            done = tf.logical_or(done, last == self._end)
            if tf.reduce_all(done):
                break
        return self.texts(tf.stack(pieces, axis=1).numpy().tolist())


def _network(manifest: dict[str, Any], values: list[tf.Variable], pieces: int) -> Translator:
    """Return the exported network, built anew around the variables that were saved."""
    model = manifest["card"]["config"]["model"]
    special_ids = manifest["decode"]["special_ids"]
    network = Translator(
        pieces, model["embedding"], model["units"], model["dropout"], special_ids, model["cell"]
    )
    for variable, value in zip(network.variables, values[: len(network.variables)], strict=True):
        variable.assign(value)
    return network


if __name__ == "__main__":
    given = arguments()
    model = load(given.folder, given.batch, {"translation": EagerTranslation})
    serve(make_app(model.answer), given.port)
