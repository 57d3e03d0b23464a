"""A user's translator run outside the served path: to choose examples, and to explain a difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.bring.translation.narrow import Narrow
from seqserve.models.bring.translation.steps import Reading, Steps, loops
from seqserve.models.bring.translation.vocabularies import Read
from seqserve.models.config import ConfigInvalid
from seqserve.models.networks.decoding import RowAdvance, beamless
from seqserve.models.translator import SOURCE_SPEC, Encode, Searches, specs
from seqserve.service.contract.manifest import SpecialIds
from seqserve.service.contract.padding import Array


class Written(NamedTuple):
    """A greedy translation: its text, and its ids without the end."""

    text: str
    ids: list[int]


@dataclass(frozen=True)
class Alone:
    """The translator as one contract reads it."""

    contract: TranslationContract
    steps: Steps
    reading: Reading
    source: Read
    target: Read
    narrowed: Narrow | None = None  # to candidates; None: every piece is one

    @property
    def searches(self) -> Searches:
        """The loops around its steps."""
        return _searches(self._steps, self.reading, self.target.special, self.narrowed)

    @property
    def _steps(self) -> Steps:
        return self.steps.for_length(self.contract.source.length)

    def row(self, text: str) -> Array:
        """Return a text's ids as they are sent alone: unpadded, unless the contract gives a length."""
        ids = np.array(self.source.vocabulary.encode(text), np.int32)
        length = self.contract.source.length or len(ids)
        pads = np.full(max(0, length - len(ids)), self.source.special.pad, np.int32)
        return np.concatenate([pads, ids] if self.contract.source.padding == "left" else [ids, pads])

    def translate(self, texts: Sequence[str]) -> list[Written]:
        """Translate greedily, each text alone."""
        return [self._written(text) for text in texts]

    def _written(self, text: str) -> Written:
        greedy = _greedy(self._steps, self.reading, self.target.special, self.narrowed)
        decoded = greedy(self.row(text)[None], [self.contract.target.length], [1.0])
        ids = np.asarray(decoded["ids"])[0, 0].tolist()
        end = self.target.special.end
        kept = ids[: ids.index(end)] if end in ids else ids
        return Written(self.target.vocabulary.decode(kept), kept)

    def loops(self) -> tuple[Encode, RowAdvance]:
        """Return its encoder and its step, over every piece."""
        return loops(self._steps, self.reading)

    def log_p(self, text: str, words: Sequence[int]) -> Array:
        """Return log p of every piece after `words`, (pieces)."""
        encode, advance = self.loops()
        state, memory = encode(tf.constant(self.row(text)[None]))
        for word in (self.target.special.start or 0, *words):
            logits, state, _ = advance(tf.constant([word], tf.int32), state, memory)
        return np.asarray(tf.nn.log_softmax(logits)[0])


def _searches(steps: Steps, reading: Reading, special: SpecialIds, narrowed: Narrow | None) -> Searches:
    encode, advance = loops(steps, reading)
    searches = Searches(encode, beamless(advance), special, reading.weights is not None, shares_memory=False)
    if narrowed is None:
        return searches
    shortlist, within = narrowed.shortlist, narrowed.within(advance)
    return replace(searches, special=shortlist.special, candidates=shortlist.candidates, within=within)


@lru_cache(maxsize=4)
def _greedy(steps: Steps, reading: Reading, special: SpecialIds, narrowed: Narrow | None) -> Any:
    """Return greedy decoding traced, once for all the lengths that an explanation tries."""
    search = _searches(steps, reading, special, narrowed).greedy
    return tf.function(search, input_signature=[SOURCE_SPEC, *specs("greedy")])


def check_traceable(alone: Alone) -> None:
    """Refuse code that can be called and not traced.

    Raises:
        ConfigInvalid: with the reason that TensorFlow gives.
    """
    try:
        tf.function(alone.searches.greedy).get_concrete_function(SOURCE_SPEC, *specs("greedy"))
    except ConfigInvalid:
        raise
    except Exception as error:  # whatever the user's own code raises
        reason = " ".join(str(error).split())[-300:]
        raise ConfigInvalid(
            "function: TensorFlow cannot trace encode and advance, though they can be called. Call the model "
            f"itself, model(x), not model.predict(x) or x.numpy(): {type(error).__name__}: {reason}"
        ) from error
