"""The pieces of a SentencePiece model: Kudo and Richardson, 2018, https://arxiv.org/abs/1808.06226."""

import itertools
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

import sentencepiece

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Words, check_ids, closing_ids, group, well_formed
from seqserve.service.contract.wire import fields
from seqserve.service.errors import ManifestInvalid

LENGTHS = 512
"""Of so many lengths the places of a text's characters are kept: most texts are known, and short."""


class SentencePieces:
    """One SentencePiece model, with the special ids that the manifest names."""

    def __init__(self, model: bytes, spec: Tokens) -> None:
        """Load the tokenizer from its file's bytes.

        Raises:
            ManifestInvalid: the bytes are not a SentencePiece model, or one that normalizes by another rule.
        """
        self._processor = _load(model, spec.tokenizer)
        _check_normalization(model, spec)
        self._spec = spec
        self._ids: Callable[[str], list[int]] = lru_cache(1)(self._processor.encode)  # a text is asked twice
        special = spec.special_ids
        self._unknown, self._silent = special.unknown, frozenset({special.pad, special.start, special.end})
        self._starts, self._ends = closing_ids(spec)
        self._size = int(self._processor.get_piece_size())

    @property
    def special_ids(self) -> SpecialIds:
        """The ids that are not text."""
        return self._spec.special_ids

    @property
    def size(self) -> int:
        """How many pieces there are, special ones included."""
        return self._size

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text's pieces, closed by the end id where the manifest says so.

        A text of white space alone has no pieces and no end id.
        """
        return self._closed(self._ids(well_formed(text)))

    def _closed(self, ids: list[int]) -> list[int]:
        return [*self._starts, *ids, *self._ends] if ids else ids

    def segmentations(self, text: str, count: int) -> list[list[int]]:
        """Return up to `count` ways to cut the text into pieces, the likeliest (`encode`'s) first."""
        cut: list[list[int]] = self._processor.nbest_encode(well_formed(text), nbest_size=count)
        return [self._closed(ids) for ids in cut]

    def log_probability(self, ids: Sequence[int]) -> float:
        """Return log p of a segmentation by the tokenizer's unigram model; the end id counts for nothing."""
        return float(sum(self._processor.get_score(i) for i in self._plain(ids)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the ids; pad, start and end ids add nothing to it, unknown ones a ⁇.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        plain = self._plain(ids)
        if self._unknown in plain:
            return self.decode_words(ids)[0]
        text: str = self._processor.decode(plain)
        return text

    def source_words(self, text: str) -> Words:
        """Split as `encode` does and say which word each piece (the end id: none) belongs to."""
        text = well_formed(text)
        mapping = self._processor.encode(text, out_type="offset_mapping")
        words, owners = group(text, [begin for begin, _ in mapping["offsets"]])
        if owners:
            owners = [*[-1] * len(self._starts), *owners, *[-1] * len(self._ends)]
        return Words(words, tuple(owners))

    def decode_words(self, ids: Sequence[int]) -> tuple[str, Words]:
        """Return the text of the ids, and which word of it each id belongs to.

        Pad, start and end ids belong to none. The ⁇ of an unknown id stands without spaces of its own, so a
        word in which a piece is unknown is still one word.

        Raises:
            ValueError: an id is outside the vocabulary.
        """
        plain = self._plain(ids)
        mapping = self._processor.decode(plain, out_type="offset_mapping")
        text, begins = mapping["text"], [begin for begin, _ in mapping["offsets"]]
        if self._unknown in plain:
            text, begins = self._joined(plain, mapping)
        words, owners = group(text, begins)
        following, kept = iter(owners), set(plain)
        return text, Words(words, tuple(next(following) if i in kept else -1 for i in ids))

    def known_places(self, text: str) -> Set[int]:
        """Return the places of the text's characters in pieces that have an id of their own."""
        text, unknown = well_formed(text), self._processor.unk_id()
        if unknown not in self._ids(text):
            return _places(len(text))
        mapping = self._processor.encode(text, out_type="offset_mapping")
        pieces = zip(mapping["ids"], mapping["offsets"], strict=True)
        return {place for i, (begin, end) in pieces if i != unknown for place in range(begin, end)}

    def _joined(self, plain: Sequence[int], mapping: Mapping[str, Any]) -> tuple[str, list[int]]:
        """Return the text and where each piece begins in it, with no spaces around what is unknown."""
        surfaces = [
            mapping["text"][begin:end].strip() if i == self._unknown else mapping["text"][begin:end]
            for i, (begin, end) in zip(plain, mapping["offsets"], strict=True)
        ]
        begins = [0, *itertools.accumulate(map(len, surfaces))]
        return "".join(surfaces), begins[:-1]

    def _plain(self, ids: Sequence[int]) -> list[int]:
        plain = [int(i) for i in ids if i not in self._silent]
        check_ids(plain, self._size)
        return plain


@lru_cache(LENGTHS)
def _places(length: int) -> frozenset[int]:
    return frozenset(range(length))


def _load(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    try:
        processor = sentencepiece.SentencePieceProcessor()
        processor.load_from_serialized_proto(model)
    except RuntimeError as error:
        raise ManifestInvalid(f"{name!r} is no SentencePiece model") from error
    return processor


def _check_normalization(model: bytes, spec: Tokens) -> None:
    """Refuse a rule that the manifest gives and the tokenizer, which does the work, does not follow."""
    # as unknown fields: SentencePiece's own message classes clash with other copies of them in a process
    rule = _field(_field(model, 3), 1).decode(errors="replace")  # normalizer_spec.name of a ModelProto
    if "normalization" in spec.model_fields_set and rule != spec.normalization:
        message = f"normalization is {spec.normalization!r}, but {spec.tokenizer!r} normalizes by {rule!r}"
        raise ManifestInvalid(f"features: {message}")


def _field(message: bytes, number: int) -> bytes:
    """Return the bytes of a message's field, empty where it has none."""
    contents = (content for at, content in fields(message) if at == number)
    return next((content for content in contents if isinstance(content, bytes)), b"")
