"""The codec of translation models: text to pieces, decoded ids to text, score, words and alignment."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.items import Alternative, Sampling, TranslateBody, Translation
from seqserve.service.contract.manifest import Decode, Manifest, Tokens
from seqserve.service.contract.padding import Array, Row
from seqserve.service.contract.vocabulary.base import Vocabulary, Words
from seqserve.service.contract.vocabulary.load import read_vocabulary
from seqserve.service.core.alignment import Attention, Table, align_words, replace_unknown
from seqserve.service.core.doubts import (
    HIGH_UNKNOWN,
    LOW_COVERAGE,
    REPETITION,
    goes_round,
    is_strange,
    leaves_out,
    may_leave_out,
    runs,
    says_twice,
)
from seqserve.service.core.hypotheses import ATTENTION, Hypotheses
from seqserve.service.core.options import Given, check_range, option_inputs
from seqserve.service.core.types import Batch, BatchOptions, Encoded, Outputs, RowOutputs

TRUNCATED = "TRUNCATED"

KNOWN_WAYS = 64
"""How many combinations of options a version remembers as checked."""

WordsAnswer = tuple[tuple[str, ...] | None, tuple[str, ...] | None, Table | None]


class TranslateCodec:
    """Encodes texts and decodes hypotheses as one manifest says."""

    def __init__(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        self._manifest = manifest
        self._source, spec = _only_text(manifest)
        self._text = read_vocabulary(f"features.{self._source}.tokenizer", spec, files)
        self._target = self._text
        decode = manifest.decode
        if decode is not None and decode.tokenizer is not None:
            named = Tokens(tokenizer=decode.tokenizer, special_ids=decode.special_ids, add_end=False)
            self._target = read_vocabulary("decode.tokenizer", named, files)
        self._ways: Callable[[_Asked], _Way] = lru_cache(KNOWN_WAYS)(
            partial(_way, manifest)
        )  # most requests ask for the same

    def plan(self, body: TranslateBody) -> "TranslatePlan":
        """Check the decoding options and choose the signature."""
        way = self._ways(_Asked._make(_OPTIONS(body)))
        return TranslatePlan(self._manifest, self._text, self._target, self._source, body, *way)


def _only_text(manifest: Manifest) -> tuple[str, Tokens]:
    texts = {name: spec for name, spec in manifest.features.items() if isinstance(spec, Tokens)}
    if len(texts) != 1 or len(manifest.features) != 1:
        raise errors.ManifestInvalid("features: a translation model has one, of kind tokens")
    return next(iter(texts.items()))


class _Asked(NamedTuple):
    """How a request wants to be decoded: these members of its body."""

    beam_size: int
    n_best: int
    length_penalty: float
    max_length: int | None
    sampling: Sampling | None
    alignment: bool


_OPTIONS = attrgetter(*_Asked._fields)


class _Way(NamedTuple):
    """The same, checked: the signature and its option inputs, a row's and a batch's."""

    signature: str
    row_options: Mapping[str, Array]
    batch_options: BatchOptions


def _way(manifest: Manifest, asked: _Asked) -> _Way:
    decode = manifest.decode
    assert decode is not None  # a translation manifest without it does not load
    signature = _signature(asked, decode)
    if asked.alignment and ATTENTION not in manifest.signatures[signature].outputs:
        raise errors.OptionOutOfRange(
            "alignment is true, but this model returns no attention; leave it out", path=("alignment",)
        )
    return _Way(signature, *option_inputs(manifest, signature, _given(asked)))


def _signature(asked: _Asked, decode: Decode) -> str:
    check_range("beam_size", asked.beam_size, 1, decode.max_beams)
    check_range("n_best", asked.n_best, 1, asked.beam_size)
    if asked.sampling is not None and asked.beam_size > 1:
        raise errors.OptionOutOfRange("sampling does not go with beam_size above 1", path=("sampling",))
    kind = "sample" if asked.sampling is not None else "beam" if asked.beam_size > 1 else "greedy"
    if kind not in decode.signatures:
        known = ", ".join(sorted(decode.signatures))
        raise errors.OptionOutOfRange(
            f"this model does not decode by {kind}; it has {known}",
            path=("sampling" if kind == "sample" else "beam_size",),
        )
    return decode.signatures[kind]


NEUTRAL, NEUTRAL_SAMPLING = TranslateBody(texts=[]), Sampling()


def _given(asked: _Asked) -> dict[str, Given]:
    sampling = asked.sampling or NEUTRAL_SAMPLING
    return {
        # neutral whatever it is: it has chosen the signature, and one without the input uses one beam
        "beam_size": Given(asked.beam_size, ("beam_size",), asked.beam_size),
        **{
            name: Given(getattr(asked, name), (name,), getattr(NEUTRAL, name))
            for name in ("length_penalty", "max_length")
        },
        # neutral whatever it is: a model without the input returns its attention always, or never
        "alignment": Given(int(asked.alignment), ("alignment",), int(asked.alignment)),
        **{
            name: Given(getattr(sampling, name), ("sampling", name), getattr(NEUTRAL_SAMPLING, name))
            for name in ("temperature", "top_k", "seed")
        },
    }


class TranslatePlan(NamedTuple):
    """A checked request to a translation model."""

    manifest: Manifest
    text: Vocabulary
    target: Vocabulary
    source: str
    body: TranslateBody
    signature: str
    row_options: Mapping[str, Array]
    batch_options: BatchOptions

    @property
    def items(self) -> Sequence[str]:
        """The texts, in order."""
        return self.body.texts

    def encode(self, item: str) -> Encoded:
        """Return a text's row: characters are limited before tokenizing, pieces right after.

        Raises:
            EmptyText, TextTooLong.
        """
        limits = self.manifest.limits
        if limits.text_characters is not None and len(item) > limits.text_characters:
            raise _too_long(len(item), limits.text_characters, "characters")
        ids = self.text.encode(item)
        if not ids:
            nothing = "nothing is left of the text once it is standardized"
            raise errors.EmptyText(nothing if item.strip() else "the text is empty")
        longest = limits.text_pieces or self.manifest.buckets[-1]
        if len(ids) > longest:
            raise _too_long(len(ids), longest, "pieces")
        dtype = self.manifest.signatures[self.signature].inputs[self.source].dtype
        inputs = {self.source: np.array(ids, dtype), **self.row_options}
        return Encoded(Row(inputs, len(ids)), item, self._source_warnings(item, len(ids)))

    def decode(self, encoded: Encoded, outputs: Outputs) -> Translation:
        """Return the best hypothesis, with what else was asked for."""
        batch, row = (
            (outputs.batch, outputs.row)
            if isinstance(outputs, RowOutputs)
            else (_alone(outputs, encoded.row.length), 0)
        )
        try:
            if batch.known is None:
                given = self.manifest.signatures[self.signature].outputs
                batch.known = Hypotheses(batch, given)
            known: Hypotheses = batch.known
            score, *scores = all_scores = known.scores(row)
            if not all(map(math.isfinite, all_scores)):
                raise ValueError("a score is not finite")
            best, *others = [self._hypothesis(encoded, known, row, beam) for beam in range(self.body.n_best)]
            pairs = zip((other.text for other in others), scores[: len(others)], strict=True)
            alternatives = tuple(Alternative(*pair) for pair in pairs)
            words = self._words(encoded, best)
            warnings = (*encoded.warnings, *self._warnings(encoded, best, known.low(row)))
        except (ValueError, IndexError) as error:
            raise errors.BackendFailed(f"the model's answer breaks its manifest: {error}") from error
        return Translation(best.text, score, warnings, alternatives or None, *words)

    def _source_warnings(self, text: str, pieces: int) -> tuple[str, ...]:
        return (HIGH_UNKNOWN,) if is_strange(self.text, text, pieces, self.manifest.profile or {}) else ()

    def _hypothesis(self, encoded: Encoded, known: Hypotheses, row: int, beam: int) -> "_Hypothesis":
        """Return a hypothesis cut to its length, unknown words replaced.

        Raises:
            ValueError: a length outside the ids' time axis, or attention that is not finite.
            IndexError: there is no such beam.
        """
        ids = known.ids(row, beam)
        attention = partial(known.attention, row, beam, encoded.row.length, len(ids), self.body.alignment)
        if known.low(row) is None:
            attention()  # which says what is wrong with it, whether or not it is looked at
        if self.target.special_ids.unknown not in ids or (seen := attention()) is None:
            return _Hypothesis(ids, self.target.decode(ids), attention)
        unknown = [i == self.target.special_ids.unknown for i in ids]
        text, words = self.target.decode_words(ids)
        source = self.text.source_words(encoded.source)
        replaced = replace_unknown(seen.weights, source, words, unknown)
        following = iter(replaced)
        text = re.sub(r"\S+", lambda _: next(following), text)
        return _Hypothesis(ids, text, attention, Words(replaced, words.word_of_piece))

    def _warnings(self, encoded: Encoded, best: "_Hypothesis", low: int | None) -> tuple[str, ...]:
        """Return the warnings about the output; words are worked out only where one is possible.

        Args:
            low: source pieces that are hardly attended to; None: not known.
        """
        warned = []
        if self.target.special_ids.end not in (None, best.ids[-1]):
            warned.append(TRUNCATED)
        if goes_round(encoded.row.inputs[self.source].tolist, best.ids) or (
            any(runs(best.text.split()))
            and (seen := best.attention()) is not None
            and says_twice(seen.weights, self._target(best))
        ):
            warned.append(REPETITION)
        if (low is None or may_leave_out(encoded.source, low)) and (seen := best.attention()) is not None:
            words, profile = partial(self.text.source_words, encoded.source), self.manifest.profile or {}
            if leaves_out(encoded.source, words, seen.coverage, len(best.ids), profile):
                warned.append(LOW_COVERAGE)
        return tuple(warned)

    def _words(self, encoded: Encoded, best: "_Hypothesis") -> WordsAnswer:
        """Return source words, target words and alignment; None for what was not asked for."""
        if not (self.body.alignment or self.body.tokens):
            return None, None, None
        source, target = self.text.source_words(encoded.source), self._target(best)
        seen = best.attention() if self.body.alignment else None
        if seen is None or seen.matrix is None:
            return source.words, target.words, None
        return source.words, target.words, align_words(seen.matrix, source, target)

    def _target(self, best: "_Hypothesis") -> Words:
        return best.replaced or self.target.decode_words(best.ids)[1]


class _Hypothesis(NamedTuple):
    """One decoded output; unknown words are replaced already."""

    ids: list[int]
    text: str
    attention: Callable[[], Attention | None]
    replaced: Words | None = None  # the words, where there were unknown ones


def _alone(outputs: Outputs, length: int) -> Batch:
    """Return a row's outputs as a batch of that row."""
    return Batch({name: value[None] for name, value in outputs.items()}, (length,))


def _too_long(length: int, limit: int, unit: str) -> errors.TextTooLong:
    return errors.TextTooLong(f"the text has {length} {unit}, more than the limit of {limit}")
