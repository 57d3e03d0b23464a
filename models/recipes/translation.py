"""Translation models: parallel texts to a shared tokenizer, a `Translator`, and its decoding signatures."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from seqserve.models.config import ConfigInvalid, TranslationConfig, TranslationData
from seqserve.models.data.batches import pad_right
from seqserve.models.data.partners import commonest, partners
from seqserve.models.data.phrases import Split, phrase_pairs
from seqserve.models.data.segmentations import Segmentations
from seqserve.models.data.texts import Pair, read_pairs
from seqserve.models.data.tokenizer import train_tokenizer
from seqserve.models.draft import Draft
from seqserve.models.manifest import Identity
from seqserve.models.networks import shortlist
from seqserve.models.networks.folded import Folded
from seqserve.models.networks.translation import SmoothedCrossEntropy, Translator
from seqserve.models.recipes.profile import length_percentiles
from seqserve.models.train import Batch, Rows, Task, schedule
from seqserve.models.translator import Plan, Searches, clear_rows
from seqserve.service.contract.manifest import Languages, SpecialIds, Tokens
from seqserve.service.contract.shortlist import Shortlist
from seqserve.service.contract.vocabulary.base import Vocabulary
from seqserve.service.contract.vocabulary.familiar import letters_per_piece
from seqserve.service.contract.vocabulary.pieces import SentencePieces

TOKENIZER = "tokenizer.model"
SPECIAL = SpecialIds()
TOKENS = Tokens(tokenizer=TOKENIZER, special_ids=SPECIAL)
PHRASE_SPLITS: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
TRAINING_PHRASES = 38_000
HELD_OUT_PHRASES = 1_500
CANDIDATES = 24
"""Texts to choose examples from."""


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
        model = config.model
        self._tokenizer = train_tokenizer(
            texts, model.vocabulary_size, SPECIAL, model.character_coverage, model.longest_piece
        )
        self._codec = SentencePieces(self._tokenizer, TOKENS)
        self._pairs = [pair for pair in train if self._encode([pair])]
        self._rows = self._encode(self._pairs)
        self._held_out = held_out
        if not self._rows:
            raise ConfigInvalid("no training text is within serving.buckets and the limits")
        self._examples_kept = self._examples()  # before training, so that a fault costs nothing
        self._profile = _profile(self._codec, self._pairs, self._rows)
        self._network = self._build()

    @cached_property
    def _segmentations(self) -> tuple[Segmentations, Segmentations] | None:
        """The segmentations of sources and of targets, where training varies them."""
        serving, smoothness = self._config.serving, self._config.model.subword_smoothness
        if smoothness is None:
            return None
        sources, targets = zip(*((pair.source, pair.target) for pair in self._pairs), strict=True)
        return (
            Segmentations(self._codec, sources, serving.buckets[-1], smoothness),
            Segmentations(self._codec, targets, serving.output_length, smoothness),
        )

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
            draw=self._draw,
            validation=batches,
            signature=((ids, ids), ids, tf.TensorSpec([None, None], tf.float32)),
        )

    def _draw(self, random: np.random.Generator) -> Rows:
        rows = self._rows
        if self._segmentations is not None:
            source, target = self._segmentations
            rows = list(zip(source.draw(random), target.draw(random), strict=True))
        # sorted by output first, whose steps cost the most, then by input
        lengths = [len(target) + len(source) / 1000 for source, target in rows]
        return Rows(lengths, lambda indices: _batch([rows[i] for i in indices]))

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Leave the scores as they are: hypotheses are ranked by log p, and no probability is shown."""
        return {}

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the decoding signatures, the manifest and the tokenizer."""
        serving, (searches, told) = self._config.serving, self._searches()
        plan = Plan(
            source=TOKENS,
            special=SPECIAL,
            pieces=self._codec.size,
            text_characters=serving.text_characters,
            output_length=serving.output_length,
            most_beams=serving.max_beams,
            shortlist=told,
        )
        functions = searches.functions(plan.kinds)
        identity = Identity(self._config.name, version, serving.buckets, card, self._profile)
        languages = Languages(source=self._config.data.source, target=self._config.data.target)
        manifest = plan.manifest(identity, languages=languages)
        texts = [pair.source for pair in self._clearest(searches, plan)]
        return Draft(self._network, functions, manifest, {TOKENIZER: self._tokenizer}, plan.requests(texts))

    def _searches(self) -> tuple[Searches, Shortlist | None]:
        """Return the loops, and what the manifest says of their candidates where the configuration asks."""
        how, pieces = self._config.model.shortlist, self._codec.size
        if how is None:
            folded = Folded(self._network)
            return Searches(folded.encode, folded.advance, SPECIAL), None
        common = commonest(self._rows, pieces, how.common)
        told = Shortlist(common=len(common), partners=how.partners)
        if how.partners == 0:
            written = np.union1d(common, [number for _, number in SPECIAL]).astype(np.int32)
            folded = Folded(self._network, written)
            return Searches(folded.encode, folded.advance, SPECIAL, written=written), told
        likely = partners(self._rows, pieces, how.partners, SPECIAL.pad)
        listed, folded = shortlist.Shortlist(likely, common, SPECIAL, pieces), Folded(self._network)
        searches = Searches(
            folded.encode,
            folded.advance,
            listed.special,
            candidates=listed.candidates,
            within=folded.within,
        )
        return searches, told

    def _build(self) -> Translator:
        model, training = self._config.model, self._config.training
        network = Translator(
            self._codec.size,
            model.embedding,
            model.units,
            model.dropout,
            SPECIAL.model_dump(),
            model.cell,
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
        """Return held-out texts that the model takes, of all lengths, from which examples are chosen."""
        longest = self._config.serving.text_characters
        taken = [p for p in self._held_out if len(p.source) <= longest and self._encode([p])]
        if not taken:
            raise ConfigInvalid("no validation text is within serving.buckets and the limits")
        taken.sort(key=lambda pair: (len(pair.source), pair.source))
        return taken[:: -(-len(taken) // CANDIDATES)]

    def _clearest(self, searches: Searches, plan: Plan) -> list[Pair]:
        """Choose three of them, whose best hypotheses the trained network scores far apart."""
        source = pad_right([source for source, _ in self._encode(self._examples_kept)], SPECIAL.pad)
        return [self._examples_kept[place] for place in clear_rows(searches, plan, source)]


def _batch(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    source = pad_right([row[0] for row in rows], SPECIAL.pad)  # (batch, source)
    target = pad_right([row[1] for row in rows], SPECIAL.pad)  # (batch, time)
    shifted = np.roll(target, 1, axis=1)
    shifted[:, 0] = SPECIAL.start
    return (source, shifted), target, (target != SPECIAL.pad).astype(np.float32)


def _profile(
    vocabulary: Vocabulary, pairs: Sequence[Pair], rows: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """Describe the training texts, for live traffic to be measured against."""
    lengths = np.array([len(source) for source, _ in rows])
    words = sum(len(pair.source.split()) for pair in pairs)
    letters = [letters_per_piece(vocabulary, pair.source) for pair in pairs]
    long = [value for value in letters if value is not None]
    return {
        "texts": len(rows),
        "source_pieces": length_percentiles(lengths),
        "pieces_per_word": round(float(lengths.sum()) / max(1, words), 3),
        "pieces_out_per_piece": round(float(np.median([len(out) / len(source) for source, out in rows])), 3),
        **({"letters_per_piece": {"p1": round(float(np.percentile(long, 1)), 3)}} if long else {}),
    }
