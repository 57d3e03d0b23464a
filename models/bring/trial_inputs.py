"""Made-up sequences to try a user's model with: drawn from the contract alone, the same ones each time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqserve.models.config import ConfigInvalid
from seqserve.service import errors
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    Categories,
    Elapsed,
    Feature,
    Manifest,
    Numbers,
    Tokens,
    has_steps,
)
from seqserve.service.contract.padding import Row
from seqserve.service.contract.texts import Text

CANDIDATES = 32
REDRAWN = 1000
Sent = dict[str, Any]
"""A sequence as a caller would send it: values by feature."""
Words = Mapping[str, Sequence[str]]
"""By feature of text, the words that texts are made up of."""


def words_of(manifest: Manifest, encoder: SequenceEncoder, examples: Sequence[Sent]) -> dict[str, list[str]]:
    """Return the words of the examples' texts that are pieces, each once, by feature of text or of tokens."""
    texts = [name for name, feature in manifest.features.items() if isinstance(feature, Text | Tokens)]
    said = {name: [one[name] for one in examples] for name in texts}
    return {
        name: sorted(
            {
                word
                for text in values
                for word in (text if isinstance(text, str) else text[0]).split()
                if encoder.pieces(name, word)
            }
        )
        for name, values in said.items()
    }


def made_up(
    manifest: Manifest, encoder: SequenceEncoder, length: int, random: np.random.Generator, words: Words
) -> Iterator[tuple[Sent, Row]]:
    """Yield `CANDIDATES` sequences of a length, and each as a row; none has a step that looks like padding.

    Raises:
        ConfigInvalid: every value that is drawn looks like padding.
    """
    for number in range(CANDIDATES):
        sent: Sent = {
            name: _text(encoder, name, _drawn(words[name], _length(manifest, name, length, number), random))
            if name in words
            else _given(feature, _length(manifest, name, length, number), number, random)
            for name, feature in manifest.features.items()
        }
        yield sent, _encoded(manifest, encoder, sent, random)


def _length(manifest: Manifest, name: str, length: int, number: int) -> int:
    """Return the steps of a feature: of several streams all but one in turn are shorter."""
    streams = manifest.groups
    if len(streams) < 2 or name in streams[number % len(streams)] or name not in manifest.stepped:
        return length
    return max(manifest.limits.sequence_least or 1, length // 2)


def _drawn(words: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    drawn: list[str] = random.choice(list(words), count).tolist()
    return drawn


def _text(encoder: SequenceEncoder, name: str, words: Sequence[str]) -> str:
    """Return as many of the words as there may be pieces; of a single word that has more, its beginning."""
    kept = list(words)
    while len(kept) > 1 and encoder.pieces(name, " ".join(kept)) > len(words):
        kept.pop()
    text = kept[0] if len(kept) == 1 else " ".join(kept)
    while len(text) > 1 and encoder.pieces(name, text) > len(words) and encoder.pieces(name, text[:-1]):
        text = text[:-1]
    return str(text)


def _given(feature: Feature, length: int, number: int, random: np.random.Generator) -> Any:
    return (
        _values(feature, length, number, random)
        if has_steps(feature)
        else _values(feature, 1, number, random)[0]
    )


def _encoded(manifest: Manifest, encoder: SequenceEncoder, sent: Sent, random: np.random.Generator) -> Row:
    """Encode a sequence; a step that looks like padding is drawn again, in place."""
    for _ in range(REDRAWN):
        try:
            return encoder.encode(sent).row
        except errors.PadCollision as collision:
            name, step = str(collision.path[0]), int(collision.path[-1])
            # the last of two: the first step's time since the previous one is always 0
            sent[name][step] = _values(manifest.features[name], 2, 0, random)[-1]
    raise ConfigInvalid(
        f"features.{name}: all that is drawn encodes to the pad value: is mean, scale or pad_value wrong?"
    )


def _values(feature: Feature, length: int, number: int, random: np.random.Generator) -> list[Any]:
    match feature:
        case Categories():
            # every label comes up in the candidates: the model may have no id for one of them
            places = random.permutation(len(feature.labels) * -(-length // len(feature.labels)))[:length]
            return [feature.labels[int(place) % len(feature.labels)] for place in places + number]
        case Numbers():
            normal = random.normal(size=(length, feature.width)).round(3)  # rounded, to be short when shown
            rows = (np.array(feature.mean) + np.array(feature.scale) * normal).tolist()
            return rows if feature.width > 1 else [value for (value,) in rows]
        case Elapsed():
            scaled = random.exponential(feature.scale, length)
            times = np.expm1(scaled) if feature.transform == "log1p" else scaled
            if feature.origin == "previous":
                times[0] = 0.0
            return [float(f"{value:.4g}") for value in times.tolist()]
    raise AssertionError(feature)  # a contract has no other kind
