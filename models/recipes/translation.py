"""Translation: parallel texts to a shared tokenizer, a `Translator`, and its decoding signatures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.config import LONGEST_OUTPUT, ConfigInvalid, TranslationConfig, TranslationData
from models.data import Pair, pad_right, read_pairs, train_tokenizer
from models.decoding import greedy
from models.draft import MANIFEST_OUTPUTS, Draft
from models.phrases import Split, phrase_pairs
from models.train import Batch, Task, schedule
from models.translation import SmoothedCrossEntropy, Translator
from service.contract.manifest import (
    MANIFEST_SIGNATURE,
    Decode,
    Limits,
    Manifest,
    Option,
    Signature,
    SpecialIds,
    Tensor,
    Tokens,
)
from service.contract.text import TextCodec

TOKENIZER = "tokenizer.model"
SOURCE = "source_ids"
SPECIAL = SpecialIds()
PHRASE_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
TRAINING_PHRASES = 45_000
HELD_OUT_PHRASES = 1_500


def read_texts(data: TranslationData, path: Path | None, split: str) -> list[Pair]:
    """Return the pairs of a split, `train`, `val` or (generated phrases only) `test`.

    Raises:
        ConfigInvalid: the data lies in files and no path was given, or they cannot be read.
    """
    if data.kind == "phrases":
        count = TRAINING_PHRASES if split == "train" else HELD_OUT_PHRASES
        return phrase_pairs(PHRASE_SPLITS[split], count, seed=1)
    if path is None:
        raise ConfigInvalid("data.kind is parallel: give --data FOLDER")
    return read_pairs(path, split, data.source, data.target)


class TranslationRecipe:
    """One configuration, its texts encoded, and the network to train on them."""

    def __init__(self, config: TranslationConfig, train: Sequence[Pair], held_out: Sequence[Pair]) -> None:
        self._config = config
        texts = [text for pair in train for text in (pair.source, pair.target)]
        self._tokenizer = train_tokenizer(texts, config.model.vocabulary_size, SPECIAL)
        self._codec = TextCodec(self._tokenizer, Tokens(tokenizer=TOKENIZER, special_ids=SPECIAL))
        self._rows = self._encode(train)
        self._held_out = held_out
        if not self._rows:
            raise ConfigInvalid("the training texts have none that the buckets and limits let in")
        self._examples_kept = self._examples()  # now: a fault found after training would be dear
        self._profile = _profile(train, self._rows)
        self._network = self._build()

    @property
    def task(self) -> Task:
        """The network, and batches of ((source, shifted target), target, mask)."""
        held_out = self._encode(self._held_out)
        order = sorted(range(len(held_out)), key=lambda i: len(held_out[i][0]))
        size = self._config.training.batch_size
        batches = [_batch([held_out[i] for i in order[at : at + size]]) for at in range(0, len(order), size)]
        ids = tf.TensorSpec([None, None], tf.int32)
        return Task(
            network=self._network,
            lengths=[len(source) + len(target) for source, target in self._rows],
            batch=lambda indices: _batch([self._rows[i] for i in indices]),
            validation=batches,
            signature=((ids, ids), ids, tf.TensorSpec([None, None], tf.float32)),
        )

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the greedy signature, the manifest and the tokenizer."""
        requests = [{"texts": [pair.source]} for pair in self._examples_kept]
        files = {TOKENIZER: self._tokenizer}
        functions = {"greedy": self._greedy}
        return Draft(self._network, functions, self._manifest(version, card), files, requests)

    def _greedy(
        self, source_ids: tf.Tensor, max_length: tf.Tensor, length_penalty: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        state, memory = self._network.encode(source_ids)

        def advance(ids: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            embedded = self._network.embedding(ids)  # (batch, embedding)
            state, context, attention = self._network.step(state, embedded, memory)
            return self._network.logits(state, context, embedded), state, attention

        return greedy(advance, state, source_ids, max_length, length_penalty, SPECIAL)._asdict()

    def _build(self) -> Translator:
        model, training = self._config.model, self._config.training
        network = Translator(
            self._codec.vocabulary_size, model.embedding, model.units, model.dropout, SPECIAL.model_dump()
        )
        optimizer = keras.optimizers.Adam(schedule(training, len(self._rows)), clipnorm=1.0)
        loss = SmoothedCrossEntropy(training.label_smoothing)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="piece_accuracy")
        network.compile(optimizer, loss, weighted_metrics=[accuracy])
        return network

    def _encode(self, pairs: Sequence[Pair]) -> list[tuple[np.ndarray, np.ndarray]]:
        serving = self._config.serving
        rows = (
            [np.array(self._codec.encode(text), np.int32) for text in (p.source, p.target)] for p in pairs
        )
        return [
            (source, target)
            for source, target in rows
            if 1 < len(source) <= serving.buckets[-1] and 1 < len(target) <= serving.output_length
        ]

    def _examples(self) -> list[Pair]:
        """Choose a short, a middling and a long held-out text among those that the model takes."""
        longest = self._config.serving.text_characters
        taken = [p for p in self._held_out if len(p.source) <= longest and self._encode([p])]
        if not taken:
            raise ConfigInvalid("the validation texts have none that the buckets and limits let in")
        taken.sort(key=lambda pair: (len(pair.source), pair.source))
        return [taken[len(taken) * share // 100] for share in (5, 50, 95)]

    def _manifest(self, version: int, card: dict[str, Any]) -> Manifest:
        serving = self._config.serving
        usual = serving.output_length
        default = Option(option="max_length", default=usual, minimum=1, maximum=LONGEST_OUTPUT)
        penalty = Option(option="length_penalty", default=1.0, minimum=0.0, maximum=5.0)
        return Manifest(
            task="translation",
            name=self._config.name,
            version=version,
            signatures={
                "greedy": Signature(inputs=GREEDY_INPUTS, outputs=GREEDY_OUTPUTS),
                MANIFEST_SIGNATURE: Signature(inputs={}, outputs=MANIFEST_OUTPUTS),
            },
            options={"max_length": default, "length_penalty": penalty},
            features={SOURCE: Tokens(tokenizer=TOKENIZER, special_ids=SPECIAL)},
            decode=Decode(
                signatures={"greedy": "greedy"},
                default_length=serving.output_length,
                max_length=LONGEST_OUTPUT,
                special_ids=SPECIAL,
            ),
            limits=Limits(text_characters=serving.text_characters, text_pieces=serving.buckets[-1]),
            buckets=serving.buckets,
            profile=self._profile,
            card=card,
        )


GREEDY_INPUTS = {
    SOURCE: Tensor(dtype="int32", axes=("batch", "time"), pad_value=SPECIAL.pad),
    "max_length": Tensor(dtype="int32", axes=("batch",)),
    "length_penalty": Tensor(dtype="float32", axes=("batch",)),
}
GREEDY_OUTPUTS = {
    "ids": Tensor(dtype="int32", axes=("batch", "beam", "time")),
    "lengths": Tensor(dtype="int32", axes=("batch", "beam")),
    "scores": Tensor(dtype="float32", axes=("batch", "beam")),
    "attention": Tensor(dtype="float32", axes=("batch", "beam", "time", "source")),
}


def _batch(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    source = pad_right([row[0] for row in rows], SPECIAL.pad)  # (batch, source)
    target = pad_right([row[1] for row in rows], SPECIAL.pad)  # (batch, time)
    shifted = np.roll(target, 1, axis=1)
    shifted[:, 0] = SPECIAL.start
    return (source, shifted), target, (target != SPECIAL.pad).astype(np.float32)


def _profile(pairs: Sequence[Pair], rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Describe the training texts: what live traffic can be measured against."""
    lengths = np.array([len(source) for source, _ in rows])
    words = sum(len(pair.source.split()) for pair in pairs)
    return {
        "texts": len(rows),
        "source_pieces": {f"p{q}": int(np.percentile(lengths, q)) for q in (5, 50, 95, 100)},
        "pieces_per_word": round(float(lengths.sum()) / max(1, words), 3),
    }
