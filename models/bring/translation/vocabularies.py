"""The vocabularies of a user's translator: their files read as people write them, and made contract files."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import sentencepiece

from seqserve.models.bring.translation.contract import Source, Target
from seqserve.models.bring.words import Piece, TextWords, Words, beside
from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.base import Vocabulary
from seqserve.service.contract.vocabulary.load import load_vocabulary
from seqserve.service.errors import ManifestInvalid

MARKS = (
    ("[START]", "[END]"),
    ("[start]", "[end]"),
    ("<start>", "<end>"),
    ("<START>", "<END>"),
    ("<s>", "</s>"),
    ("<sos>", "<eos>"),
    ("<bos>", "<eos>"),
    ("<go>", "<eos>"),
    ("[SOS]", "[EOS]"),
    ("[BOS]", "[EOS]"),
    ("<SOS>", "<EOS>"),
    ("<BOS>", "<EOS>"),
    ("<GO>", "<EOS>"),
    ("sos", "eos"),
    ("bos", "eos"),
    ("startseq", "endseq"),
    ("START_", "_END"),
    ("start_", "_end"),
    ("_START_", "_END_"),
    ("_start_", "_end_"),
    ("\t", "\n"),
)
"""How the start and the end of a target are usually written."""
UNBRACKETED = ("start", "end")
"""What a Keras Tokenizer makes of `<start>` and `<end>`: its usual filters take the brackets off."""
PICKLE = b"\x80"
"""What a pickle begins with, and no text in UTF-8."""
KERAS_SPECIAL = ["", "[UNK]"]
"""What the vocabulary of a TextVectorization begins with: padding, and whatever it does not know."""


@dataclass(frozen=True, slots=True)
class Read:
    """One side's vocabulary, its file for `assets/`, and what the manifest says of it."""

    name: str
    data: bytes
    tokens: Tokens
    vocabulary: Vocabulary
    table: Mapping[str, Any]  # the file's own fields; empty for SentencePiece

    entries: Mapping[int, str]  # by id

    @property
    def special(self) -> SpecialIds:
        """The ids that are no text."""
        return self.tokens.special_ids

    def entry(self, piece: int | None) -> str:
        """Return how the file writes an id."""
        return self.entries.get(-1 if piece is None else piece, "")


def read_source(source: Source, model: Path) -> Read:
    """Read the vocabulary of the text that goes in.

    Raises:
        ConfigInvalid: naming the field.
    """
    return read_text("source", "source", source, model)


def read_target(target: Target, model: Path) -> Read:
    """Read the vocabulary of the text that comes out, and find its start and end marks.

    Raises:
        ConfigInvalid: naming the field.
    """
    entries = _Entries("target", target, model, "target")
    start, end = target.start, target.end
    if start is None or end is None:
        usual = entries.marks()
        start, end = (usual[0] if start is None else start), (usual[1] if end is None else end)
    ids = entries.id_of("start", start), entries.id_of("end", end)
    return entries.read(*ids, add_start=False, add_end=False)


def read_text(field: str, name: str, words: TextWords, model: Path) -> Read:
    """Read the vocabulary of a text that goes in; `name` is that of its file for `assets/`, without a suffix.

    Raises:
        ConfigInvalid: naming the field.
    """
    entries = _Entries(field, words, model, name)
    start, end = (entries.optional(f, getattr(words, f)) for f in ("start", "end"))
    return entries.read(start, end, add_start=words.add_start, add_end=words.add_end)


class _Entries:
    """A vocabulary's file, and the ids of its pieces."""

    def __init__(self, side: str, words: Words, model: Path, name: str) -> None:
        self._side, self._words, self._name = side, words, name
        self._path = beside(model, str(words.file))
        if not self._path.is_file():
            raise ConfigInvalid(f"{side}.file: {self._path} is not there")
        self._data = self._path.read_bytes()
        if self._data.startswith(PICKLE):
            raise ConfigInvalid(
                f"{side}.file: {self._path.name} is a pickle, and reading one runs code: write what it "
                f"holds as JSON, open('{name}.json', 'w').write(tokenizer.to_json()) of a Tokenizer, or "
                f"json.dump(words, open('{name}.json', 'w')) of an index or a list of words"
            )
        self._processor: Any = None
        self._table: dict[str, Any] = {}
        if words.kind == "sentencepiece":
            self._processor = sentencepiece.SentencePieceProcessor()
            try:
                self._processor.load_from_serialized_proto(self._data)
            except RuntimeError as error:
                raise ConfigInvalid(f"{side}.file: {self._path} is no SentencePiece model") from error
        else:
            self._table = self._listed()
        self._ids = dict(self._numbered())

    def _listed(self) -> dict[str, Any]:
        words = self._words
        match words.kind:
            case "word_index":
                table = self._word_index()
            case "text_vectorization":
                table = self._text_vectorization()
            case _:
                table = {"characters": self._list("characters"), "unknown": words.unknown}
                if words.pad == "":
                    table["characters"].append("")
        steps = [step.model_dump() for step in words.steps]
        return {"kind": words.kind, **table, **({"steps": steps} if steps else {})}

    def _word_index(self) -> dict[str, Any]:
        plain = self._json()
        if not isinstance(plain, dict):
            raise ConfigInvalid(f"{self._side}.file: {self._path} is not a word index or Tokenizer.to_json()")
        fields = ("num_words", "filters", "lower", "split", "char_level", "oov_token")
        own: dict[str, Any] = {}
        if plain.get("class_name") == "Tokenizer" and isinstance(plain.get("config"), dict):
            config = plain["config"]
            index = config.get("word_index")
            own = {field: config[field] for field in fields if field in config}
            plain = orjson.loads(index) if isinstance(index, str) else index
        given = {field: value for field in fields if (value := getattr(self._words, field)) is not None}
        table = {**own, **given, "word_index": plain}
        if self._words.size is not None:
            table["num_words"] = self._words.size
        return table

    def _text_vectorization(self) -> dict[str, Any]:
        words, field = self._words, f"{self._side}.file"
        entries = self._list("vocabulary")
        if entries[:2] != KERAS_SPECIAL:
            raise ConfigInvalid(
                f"{field}: what get_vocabulary() gives begins with {KERAS_SPECIAL}, {self._path.name} with "
                f"{entries[:2]}: write all of it, the empty first one too, a line each or as a JSON list"
            )
        entries += [""] * ((words.size or 0) - len(entries))
        usual = None if words.steps else "lower_and_strip_punctuation"
        return {
            "vocabulary": entries,
            "standardize": words.standardize or usual,
            "split": words.split or "whitespace",
        }

    def _list(self, what: str) -> list[str]:
        """Return the entries of a file in id order: a JSON list or index, or a line each."""
        if self._path.suffix != ".json":
            lines = self._text().split("\n")
            return lines[:-1] if lines[-1] == "" else lines
        plain = self._json()
        if isinstance(plain, dict):
            return self._in_order(plain, what)
        if not isinstance(plain, list) or not all(isinstance(entry, str) for entry in plain):
            raise ConfigInvalid(f"{self._side}.file: {self._path.name} is not a list of {what}, nor an index")
        return plain

    def _in_order(self, index: dict[str, Any], what: str) -> list[str]:
        """Return the entries of an index; one that begins at 1 leaves 0 for padding."""
        entries = {number: entry for entry, number in index.items()}
        first = min((number for number in entries if isinstance(number, int)), default=0)
        if first not in (0, 1) or set(entries) != set(range(first, first + len(index))):
            raise ConfigInvalid(
                f"{self._side}.file: {self._path.name} is not an index of {what}: each has an id of its own, "
                f"0 to {len(index) - 1}, or 1 to {len(index)} where 0 is padding"
            )
        return [""] * first + [entries[number] for number in sorted(entries)]

    def _text(self) -> str:
        try:
            return self._data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise ConfigInvalid(f"{self._side}.file: {self._path} is not UTF-8: {error}") from error

    def _json(self) -> Any:
        try:
            return orjson.loads(self._text())
        except orjson.JSONDecodeError as error:
            raise ConfigInvalid(f"{self._side}.file: {self._path} is not JSON: {error}") from error

    def _numbered(self) -> Iterator[tuple[str, int]]:
        if self._processor is not None:
            pieces = range(self._processor.get_piece_size())
            yield from ((self._processor.id_to_piece(i), i) for i in pieces)
        elif self._words.kind == "word_index":
            yield from self._table["word_index"].items()
        else:
            entries = self._table.get("vocabulary") or self._table["characters"]
            # from the end, so that of several empty entries the first one counts
            yield from ((entry, place) for place, entry in reversed(list(enumerate(entries))))

    def id_of(self, field: str, piece: Piece) -> int:
        """Return the id of a piece that the contract names.

        Raises:
            ConfigInvalid: the vocabulary lacks it; the message names what is like it.
        """
        if isinstance(piece, int):
            if piece not in self._ids.values() and not (field == "pad" and piece == 0):
                raise ConfigInvalid(
                    f"{self._side}.{field}: {self._path.name} has no entry with the id {piece}"
                )
            return piece
        if piece not in self._ids:
            like = difflib.get_close_matches(piece, list(self._ids), 3, 0.5)
            hint = f"; like it: {', '.join(map(repr, like))}" if like else ""
            raise ConfigInvalid(f"{self._side}.{field}: {piece!r} is not in {self._path.name}{hint}")
        return self._ids[piece]

    def optional(self, field: str, piece: Piece | None) -> int | None:
        """Return the id of a piece, None where it is not given."""
        if piece is not None:
            return self.id_of(field, piece)
        if self._processor is None:
            return None
        number = self._processor.bos_id() if field == "start" else self._processor.eos_id()
        return number if number >= 0 else None

    def marks(self) -> tuple[Piece, Piece]:
        """Return the start and the end of a target as they are usually written.

        Raises:
            ConfigInvalid: none of the usual pairs is there, or several are.
        """
        if self._processor is not None:
            pair = (self._processor.bos_id(), self._processor.eos_id())
            if min(pair) >= 0:
                return pair
        found = [pair for pair in MARKS if set(pair) <= self._ids.keys()]
        if not found and set(UNBRACKETED) <= self._ids.keys():
            found = [UNBRACKETED]
        if len(found) != 1:
            shown = " and ".join(map(str, found)) or "none of the usual pairs"
            raise ConfigInvalid(
                f"target.start, target.end: which pieces begin and end a translation? {self._path.name} has "
                f'{shown}; give them, as start = "[START]" and end = "[END]"'
            )
        return found[0]

    def read(self, start: int | None, end: int | None, add_start: bool, add_end: bool) -> Read:
        """Put the vocabulary together."""
        special = SpecialIds(
            pad=self.id_of("pad", self._words.pad), unknown=self._unknown(), start=start, end=end
        )
        suffix = ".model" if self._processor is not None else ".json"
        name = f"{self._name}{suffix}"
        data = self._data if self._processor is not None else orjson.dumps(self._table)
        try:
            tokens = Tokens(tokenizer=name, special_ids=special, add_start=add_start, add_end=add_end)
            entries = {number: piece for piece, number in self._ids.items()}
            return Read(name, data, tokens, load_vocabulary(data, tokens), self._table, entries)
        except (ManifestInvalid, ValueError) as error:
            reason = error.message if isinstance(error, ManifestInvalid) else str(error)
            raise ConfigInvalid(f"{self._side}: {reason}") from error

    def _unknown(self) -> int | None:
        if self._processor is not None:
            return int(self._processor.unk_id())
        if self._words.kind == "text_vectorization":
            return 1
        unknown = self._table.get("oov_token")
        return self._ids.get(unknown) if unknown else None
