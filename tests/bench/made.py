"""The models that the benchmark runs: real versions, exported and certified, but made at once, untrained.

`python -m tests.bench.made FOLDER` writes them; `tests.bench` calls that once and keeps the folder. The
translation model is the shipped architecture at the shipped size, with random weights, so each step costs
what it does; but where random weights would never end, these end where a caption's translation would. Unit 0
of the backward encoder counts source pieces, unit 0 of the decoder counts them down, and the end of the
sentence wins exactly when the count is used up.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

if TYPE_CHECKING:
    from seqserve.models.networks.translation import Translator

CAPTION_WORDS = {4: 1, 5: 2, 6: 23, 7: 55, 8: 93, 9: 101, 10: 129, 11: 106, 12: 105, 13: 87, 14: 80, 15: 67}
CAPTION_WORDS |= {16: 57, 17: 31, 18: 22, 19: 12, 20: 19, 21: 2, 22: 8, 23: 4, 24: 4, 25: 2, 26: 2, 27: 2}
"""Multi30k's English validation captions: how many have so many words."""
WORDS, SHORT_WORDS, RANKED_FROM = 9_000, 1_000, 6
"""Words of the made language; how many have a syllable or two; and where their ranks start in Zipf's law."""
PAIRS, HELD_OUT, TEXTS, SEQUENCES = 6_000, 200, 2_048, 2_048
TRANSLATION: dict[str, Any] = {
    "name": "captions",
    "task": "translation",
    "data": {"kind": "parallel"},
    "model": {"vocabulary_size": 6000, "embedding": 256, "units": 256, "dropout": 0.0},
    "training": {"epochs": 1, "batch_size": 80},
    "serving": {"buckets": [8, 16, 32, 64], "output_length": 80},
}
EVENTS: dict[str, Any] = {
    "name": "shop",
    "task": "events",
    "data": {"kind": "journeys", "event": "event", "elapsed": "minutes", "unit": "minutes"},
    "model": {"embedding": 32, "units": 128, "dropout": 0.0},
    "training": {"epochs": 1, "batch_size": 64},
    "serving": {"buckets": [4, 8, 16, 32]},
}
SHIPPED, PLAIN = "shipped", "plain"
"""Model roots: as we ship them, and with finished rows computed to the end of their batch."""


@dataclass(frozen=True, slots=True)
class Counter:
    """How long an output gets: about `ratio` times its source, scattered by the pieces it is made of.

    The encoder's unit goes to 1 by a share `rate` of what is left at each piece; that share is log-normal
    over the pieces, nearly. Through the bridge it becomes the decoder's, which falls towards -1 by a share of
    what is left at each step, until it is below the threshold.
    """

    rate: float = 0.01
    scatter: float = 0.55  # deviation of log rate over pieces: 0.15 of a caption's length
    ratio: float = 1.085  # rounding and the pieces' scatter make it 1.05
    slope: float = 3.0  # of the bridge
    offset: float = -2.0
    anchors: tuple[int, int] = (8, 20)  # source lengths whose outputs are exact on average

    def _start(self, pieces: int) -> float:
        """Return log(1 + the decoder's first state) after so many pieces."""
        mean = self.rate * np.exp(self.scatter**2 / 2)
        return float(np.log1p(np.tanh(self.slope * -np.expm1(pieces * np.log1p(-mean)) + self.offset)))

    @property
    def fall(self) -> float:
        """Return what log(1 + state) loses at each step of the decoder."""
        short, long = self.anchors
        return (self._start(long) - self._start(short)) / (self.ratio * (long - short))

    @property
    def threshold(self) -> float:
        """Return the state at which the sentence ends; half a step early, as the count is rounded up."""
        short = self.anchors[0]
        return float(np.expm1(self._start(short) - self.fall * (self.ratio * short - 0.5)))


def sentences(count: int, seed: int) -> list[str]:
    """Return sentences of a made language, as long as captions are."""
    random = np.random.default_rng(seed)
    words, lengths = _words(), random.choice(list(CAPTION_WORDS), count, p=_shares(CAPTION_WORDS.values()))
    by_rank = _shares(1.0 / np.arange(RANKED_FROM, RANKED_FROM + len(words)))
    drawn = iter(random.choice(len(words), lengths.sum(), p=by_rank).tolist())
    return [" ".join(words[next(drawn)] for _ in range(length)) for length in lengths]


def _words() -> list[str]:
    """Return the words, the commonest (and shortest) first."""
    random = np.random.default_rng(7)
    onsets, codas = [*"bdfgklmnprstvz", "sh", "tr", "st"], ["", "", "n", "r", "s"]
    syllables = [onset + vowel + coda for onset in onsets for vowel in "aeiou" for coda in codas]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        count = random.integers(1, 3) + (len(words) > SHORT_WORDS)
        words["".join(syllables[i] for i in random.integers(len(syllables), size=count))] = None
    return list(words)


def _shares(counts: Iterable[float]) -> np.ndarray:
    numbers = np.array(list(counts), float)
    return numbers / numbers.sum()


def set_weights(network: "Translator", counter: Counter) -> None:
    """Give a translator random weights of clear choices, and the counter of its length."""
    special, units = network.special_ids, network.units
    random = np.random.default_rng(3)
    table = random.normal(0.0, 0.25, network.embedding.embeddings.shape).astype(np.float32)
    table[:, 0], table[special.end, 0] = 0.0, 30.0  # dimension 0 says "end" and nothing else
    network.embedding.embeddings.assign(table)
    bias = np.zeros(network.bias.shape, np.float32)
    bias[special.unknown] = -30.0
    network.bias.assign(bias)
    for cell in (network.encoder.forward_layer.cell, network.encoder.backward_layer.cell, network.cell):
        with _edited(cell.kernel) as kernel:
            kernel[0] = 0.0
    _count(network.encoder.backward_layer.cell, units, counter.rate, 1.0, counter.scatter / 0.25)
    _count(network.cell, units, -np.expm1(-counter.fall), -1.0)
    with _edited(network.bridge.kernel) as kernel, _edited(network.bridge.bias) as bias:
        kernel[:, 0], kernel[0, 0], bias[0] = 0.0, counter.slope, counter.offset
    steep = 15.0 / (counter.fall * (1.0 + counter.threshold))
    with _edited(network.readout.kernel) as kernel, _edited(network.readout.bias) as bias:
        kernel[3 * units] = 0.0  # the last piece's dimension 0
        kernel[:, 0], kernel[0, 0], bias[0] = 0.0, -steep, steep * counter.threshold


def _count(cell: Any, units: int, rate: float, target: float, scatter: float = 0.0) -> None:
    """Make unit 0 of a GRU cell go towards a target by a share of what is left at each step.

    Args:
        scatter: how much the log of the share grows with the input's dimension 1.
    """
    with (
        _edited(cell.kernel) as kernel,
        _edited(cell.recurrent_kernel) as recurrent,
        _edited(cell.bias) as bias,
    ):
        for column in (0, 2 * units):  # of the update gate, of the candidate
            kernel[:, column] = recurrent[:, column] = bias[:, column] = 0.0
        kernel[1, 0] = -scatter
        bias[0, 0] = np.log(1.0 / rate - 1.0)
        bias[0, 2 * units] = 20.0 * target


@contextmanager
def _edited(variable: Any) -> Iterator[np.ndarray]:
    value = np.array(variable.numpy())
    yield value
    variable.assign(value)


def make(folder: Path) -> None:
    """Write each model's roots, and the items that callers send it."""
    import keras

    from seqserve.models.config import read_config
    from seqserve.models.data.journeys import journeys
    from seqserve.models.data.texts import Pair
    from seqserve.models.export import export_version
    from seqserve.models.networks import dropping
    from seqserve.models.recipes.events import EventsRecipe, features_of
    from seqserve.models.recipes.translation import TranslationRecipe

    keras.utils.set_random_seed(1)
    config = read_config(TRANSLATION, "tests.bench")
    pairs = [Pair(*both) for both in zip(sentences(PAIRS, 1), sentences(PAIRS, 2), strict=True)]
    held_out = [Pair(text, text) for text in sentences(HELD_OUT, 3)]
    translation = TranslationRecipe(config, pairs, held_out)
    set_weights(translation.task.network, Counter())
    draft = translation.draft(1, {"config": config.model_dump(mode="json")})
    export_version(draft, folder / "translation" / SHIPPED)
    with patch.object(dropping, "DROP_AT", 1.0):  # finished rows are computed to the end
        export_version(draft, folder / "translation" / PLAIN)
    (folder / "translation/items.json").write_text(json.dumps(sentences(TEXTS, 4)))
    config = read_config(EVENTS, "tests.bench")
    events = EventsRecipe(config, journeys(2_000, 1), journeys(300, 2))
    export_version(events.draft(1, {}), folder / "sequence" / SHIPPED)
    sequences = [features_of(case, config.data) for case in journeys(SEQUENCES, 4)]
    (folder / "sequence/items.json").write_text(json.dumps(sequences))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
