"""Event sequences to rows: labels to ids, numbers standardized, elapsed time transformed, all checked.

Training data and requests are encoded by the same functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.items import WarningDetail
from seqserve.service.contract.late import Late, made
from seqserve.service.contract.manifest import Elapsed, Manifest, Numbers, Tokens, has_steps
from seqserve.service.contract.padding import Array, Row
from seqserve.service.contract.texts import Text, one_text, text_input, words_in
from seqserve.service.contract.values import (
    LONGEST_SHOWN,
    MOST_DETAILS,
    Places,
    cast,
    natural_values,
    shown,
    standardized,
    value_encoder,
    wrong_width,
)
from seqserve.service.contract.vocabulary.base import Vocabulary, Words
from seqserve.service.contract.vocabulary.load import read_vocabulary

UNSEEN_EVENT_TYPE, OUT_OF_RANGE = "UNSEEN_EVENT_TYPE", "OUT_OF_RANGE"


Files = Mapping[str, bytes]
"""Contract files, by name."""
NO_FILES: Files = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row, and what is worth warning the caller about: the first steps at which it was seen.

    `words`: of a text whose pieces are the steps that a head answers.
    `texts`: of each feature of tokens, and how many pieces each has.
    """

    row: Row
    details: tuple[WarningDetail, ...] = ()
    words: Words | None = None
    texts: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each warning once."""
        return tuple(dict.fromkeys(detail.warning for detail in self.details))


class SequenceEncoder:
    """Encodes sequences as one manifest says."""

    def __init__(self, manifest: Manifest, signature: str, files: Files = NO_FILES) -> None:
        """Read what the encoding needs.

        Args:
            files: the version's contract files, by name: the vocabularies of features of tokens.

        Raises:
            ManifestInvalid: a vocabulary is missing or none, or a feature is not one of a sequence model.
        """
        self._manifest = manifest
        self._inputs = manifest.signatures[signature].inputs
        self._longest = manifest.limits.sequence_steps or max(manifest.buckets, default=0)
        self._least = manifest.limits.sequence_least or 1
        self._texts = [name for name, feature in manifest.features.items() if isinstance(feature, Text)]
        self._encoders = {
            name: value_encoder(feature)
            for name, feature in manifest.features.items()
            if not isinstance(feature, Text | Tokens)
        }
        self._vocabularies = {
            name: read_vocabulary(f"features.{name}.tokenizer", feature, files)
            for name, feature in manifest.features.items()
            if isinstance(feature, Tokens)
        }
        self._streams = [group for group in manifest.groups if not self._vocabularies.keys() & set(group)]
        self._per_word = any(head.per == "step" for head in manifest.heads.values())
        self._usual = {name: self._bounds(name, ranges) for name, ranges in _ranges(manifest).items()}

    def encode(self, features: Mapping[str, Any]) -> Encoded:
        """Encode one sequence.

        Args:
            features: by name, one entry a step: a list of labels (str or whole numbers), numbers or rows of
                numbers; an array (time) or (time, width) of numbers; or for elapsed time `{"timestamps": …}`,
                a list of RFC 3339 strings or an array of seconds since 1970. Of kind text or tokens, or per
                sequence: one value, or a list or an array of it. Any list or array may be `Late`.

        Raises:
            InvalidArgument: the class and its path say which feature, which step, and why.
        """
        self._check_names(features)
        lengths = [self._checked_length(stream, features) for stream in self._streams]
        inputs = {name: text_input(self._text(name, features), None) for name in self._texts}
        said = {name: self._text(name, features) for name in self._vocabularies}
        pieces = {name: self._ids(name, text) for name, text in said.items()}
        lengths += map(len, pieces.values())
        length = max(lengths) if lengths else sum(map(words_in, inputs.values())) or 1
        inputs |= pieces
        seen: dict[str, list[WarningDetail]] = {UNSEEN_EVENT_TYPE: [], OUT_OF_RANGE: []}
        for name, encode in self._encoders.items():
            try:
                values, unseen = encode(self._made(name, features[name]))
                inputs[name] = cast(values, self._inputs[name])
            except errors.InvalidArgument as error:
                raise error.at(name) from None
            for warning, places in ((UNSEEN_EVENT_TYPE, unseen), (OUT_OF_RANGE, self._outside(name, values))):
                if places:
                    seen[warning] += [WarningDetail(warning, name, *place) for place in places]
        self._check_collision(inputs)
        details = [detail for each in seen.values() for detail in each[:MOST_DETAILS]]
        texts = {name: (text, len(pieces[name])) for name, text in said.items()}
        return Encoded(Row(inputs, length), tuple(details), self._words(said, pieces), texts)

    @property
    def vocabularies(self) -> Mapping[str, Vocabulary]:
        """The vocabulary of each feature of tokens."""
        return self._vocabularies

    def pieces(self, name: str, text: str) -> int:
        """Return how many pieces a text has, none where one of them is refused; of raw text, its words."""
        vocabulary = self._vocabularies.get(name)
        if vocabulary is None:
            return len(text.split())
        try:
            return len(vocabulary.encode(text))
        except errors.UnknownCategory:
            return 0

    def _made(self, name: str, given: Any) -> Any:
        """Return a feature's values; raises UnequalLengths before too many of one a sequence are made."""
        feature = self._manifest.features[name]
        if isinstance(given, Late) and not has_steps(feature):
            columns = feature.width if isinstance(feature, Numbers) else 1
            if len(given) > columns > 1:
                raise wrong_width(None, len(given), columns)
            if len(given) > columns:
                raise errors.UnequalLengths(f"{len(given)} values are given; the feature has one a sequence")
        return made(given)

    def _text(self, name: str, features: Mapping[str, Any]) -> str:
        try:
            return one_text(features[name], self._manifest.limits.text_characters)
        except errors.InvalidArgument as error:
            raise error.at(name) from None

    def _ids(self, name: str, text: str) -> Array:
        """Return the ids of a text's pieces, (pieces)."""
        longest = self._manifest.limits.text_pieces or self._manifest.buckets[-1]
        try:
            ids = self._vocabularies[name].encode(text)
        except errors.InvalidArgument as error:
            raise error.at(name) from None
        if not ids:
            raise errors.EmptyText("nothing is left of the text once it is standardized", path=(name,))
        if len(ids) > longest:
            message = f"the text has {len(ids)} pieces, more than the limit of {longest}"
            raise errors.TextTooLong(message, path=(name,))
        return np.array(ids, self._inputs[name].dtype)

    def _words(self, texts: Mapping[str, str], ids: Mapping[str, Array]) -> Words | None:
        """Return the words of the text, where its pieces are the steps that a head answers.

        A piece that is but the space before a word is in none: the word begins with its first letter.
        """
        if not (self._per_word and self._vocabularies):
            return None
        ((name, vocabulary),) = self._vocabularies.items()  # several would have no steps in common
        words, pieces = vocabulary.source_words(texts[name]), ids[name].tolist()
        known = set(pieces) - {vocabulary.special_ids.unknown}
        spaces = {piece for piece in known if not vocabulary.decode([piece]).strip()}
        named = zip(words.word_of_piece, pieces, strict=True)
        return Words(words.words, tuple(-1 if piece in spaces else word for word, piece in named))

    def _bounds(self, name: str, ranges: Array) -> Array:
        """Return the bounds of usual encoded values, (2, columns): the training range, three times as wide.

        Args:
            ranges: lowest and highest of each column in training, (columns, 2), in the feature's own unit.
        """
        low, high = ranges.T  # (columns)
        bounds = np.stack([low - (high - low), high + (high - low)])  # (2, columns)
        feature = self._manifest.features[name]
        if isinstance(feature, Numbers):
            encoded = standardized(bounds, feature.model_copy(update={"per": "step"}))
        else:
            encoded, _ = self._encoders[name](np.maximum(bounds, 0))
        return np.sort(encoded.reshape(2, -1), axis=0)

    def _outside(self, name: str, values: Array) -> Places:
        """Return the first steps with a value outside the usual bounds, and that value in its own unit."""
        bounds = self._usual.get(name)
        if bounds is None:
            return ()
        low, high = bounds  # (columns) each
        if not np.count_nonzero((values < low) | (values > high)):
            return ()
        table = values.reshape(len(values), -1)  # (time, columns)
        outside = (table < low) | (table > high)
        steps = np.flatnonzero(outside.any(axis=1))[:MOST_DETAILS].tolist()
        natural = natural_values(self._manifest.features[name], table[steps])
        columns = outside[steps].argmax(axis=1).tolist()
        named = steps if has_steps(self._manifest.features[name]) else [None] * len(steps)
        return [(step, f"{row[at]:g}") for step, row, at in zip(named, natural, columns, strict=True)]

    def _checked_length(self, stream: Sequence[str], features: Mapping[str, Any]) -> int:
        """Check what costs nothing, before any value is looked at; returns the steps of a stream."""
        lengths = {name: self._steps(name, features[name]) for name in stream}
        longest = max(lengths, key=lambda name: lengths[name])
        steps = f"{longest!r} has {lengths[longest]} steps"
        if lengths[longest] > self._longest:
            message = f"{steps}, more than the limit of {self._longest}"
            raise errors.SequenceTooLong(message, path=(longest,))
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} {n}" for name, n in lengths.items())
            raise errors.UnequalLengths(f"features of unequal length in steps: {listed}", path=(longest,))
        if lengths[longest] == 0:
            raise errors.EmptySequence("the sequence has no steps", path=(longest,))
        if lengths[longest] < self._least:
            message = f"{steps}, fewer than the {self._least} that the model needs"
            raise errors.SequenceTooShort(message, path=(longest,))
        return lengths[longest]

    def _check_names(self, features: Mapping[str, Any]) -> None:
        for name in features:
            if name not in self._manifest.features:
                known = ", ".join(self._manifest.features)
                path = (
                    (name,) if len(name) <= LONGEST_SHOWN else ()
                )  # else the error is as long as the request
                raise errors.UnknownFeature(f"no feature {shown(name)}; the model has {known}", path=path)
        for name in self._manifest.features:
            if features.get(name) is None:
                raise errors.MissingFeature(f"feature {name!r} is missing", path=(name,))

    def _steps(self, name: str, values: Any) -> int:
        if isinstance(values, Mapping):
            if not isinstance(self._manifest.features[name], Elapsed):
                message = "a list of one value a step is wanted; timestamps are for elapsed time"
                raise errors.WrongType(f"{name!r}: {message}", path=(name,))
            if set(values) != {"timestamps"}:
                raise errors.WrongType(f'{name!r}: an object is {{"timestamps": [...]}}', path=(name,))
            values = values["timestamps"]
        if isinstance(values, list | Late) or (isinstance(values, np.ndarray) and values.ndim in (1, 2)):
            return len(values)
        raise errors.WrongType(f"{name!r}: a list of one value a step is wanted", path=(name,))

    def _check_collision(self, inputs: Mapping[str, Array]) -> None:
        pads = {name: self._inputs[name].pad_value for name in self._manifest.masking_inputs}
        is_joint, hits = self._manifest.mask_where == "all", {}
        for name, pad in pads.items():
            cells = inputs[name] == pad
            hits[name] = cells if cells.ndim == 1 else cells.reshape(len(cells), -1).all(axis=1)
            if is_joint and not np.count_nonzero(hits[name]):
                return  # no step is padding in all of them
        if is_joint:
            hits = dict.fromkeys(hits, np.logical_and.reduce(list(hits.values())))
        for name, pad in pads.items():
            hit = hits[name]
            if np.count_nonzero(hit):
                step = int(hit.argmax())
                message = f"step {step} encodes to the pad value {pad}: the model would drop it"
                raise errors.PadCollision(message, path=(name, step))


def _ranges(manifest: Manifest) -> dict[str, Array]:
    """Return the training range of each feature of numbers for which the profile has one, (columns, 2).

    Raises:
        ManifestInvalid: a range is not two numbers a column, or not of a feature of numbers.
    """
    ranges: dict[str, Array] = {}
    for name, given in ((manifest.profile or {}).get("ranges") or {}).items():
        feature = manifest.features.get(name)
        width = feature.width if isinstance(feature, Numbers) else 1
        try:
            ranges[name] = np.array(given, np.float64)
        except (TypeError, ValueError):
            ranges[name] = np.array(np.nan)
        is_numbers = isinstance(feature, Numbers | Elapsed)
        if not is_numbers or ranges[name].shape != (width, 2) or not np.isfinite(ranges[name]).all():
            raise errors.ManifestInvalid(f"profile.ranges.{name}: a feature's [lowest, highest] a column")
    return ranges
