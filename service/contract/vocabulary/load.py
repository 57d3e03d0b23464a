"""From a file in `assets/` to the vocabulary that it holds."""

from collections.abc import Mapping

from seqserve.service.contract.manifest import Tokens
from seqserve.service.contract.vocabulary.base import Vocabulary
from seqserve.service.contract.vocabulary.edits import Edits
from seqserve.service.contract.vocabulary.file import (
    CharactersFile,
    TextVectorizationFile,
    VocabularyFile,
    WordIndexFile,
    read_file,
)
from seqserve.service.contract.vocabulary.listed import (
    Cut,
    Lexicon,
    ListedVocabulary,
    ascii_words,
    between,
    characters,
    whole,
)
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.errors import ManifestInvalid, UnknownCategory

JSON_SUFFIX = ".json"
DOES = {"map": "gives an id to", "drop": "drops", "reject": "rejects"}


def read_vocabulary(field: str, spec: Tokens, files: Mapping[str, bytes]) -> Vocabulary:
    """Return the vocabulary that a field of the manifest names, out of a version's contract files.

    Raises:
        ManifestInvalid: there is no such file, or `load_vocabulary` refuses it; the message names the field.
    """
    if spec.tokenizer not in files:
        raise ManifestInvalid(f"{field}: no file {spec.tokenizer!r}")
    try:
        return load_vocabulary(files[spec.tokenizer], spec)
    except ManifestInvalid as error:
        raise ManifestInvalid(f"{field}: {error.message}") from error


def load_vocabulary(data: bytes, spec: Tokens) -> Vocabulary:
    """Return the vocabulary in a file's bytes: JSON where `spec.tokenizer` says so, else SentencePiece's.

    Raises:
        ManifestInvalid: no vocabulary, or one that `spec.special_ids` do not fit; the message names the
            file or the special id.
    """
    if not spec.tokenizer.endswith(JSON_SUFFIX):
        return SentencePieces(data, spec)
    file = read_file(data, spec.tokenizer)
    lexicon = _lexicon(file, spec)
    _check_special_ids(lexicon, spec)
    if isinstance(file, WordIndexFile):
        _check_oov_token(file, spec)
    try:
        return ListedVocabulary(Edits(tuple(file.edits())), _cut(file), lexicon, spec)
    except UnknownCategory as error:
        raise ManifestInvalid(f"{spec.tokenizer}: steps: of what they add, {error.message}") from error


def _cut(file: VocabularyFile) -> Cut:
    match file:
        case TextVectorizationFile(split="whitespace"):
            return ascii_words
        case TextVectorizationFile(split=None):
            return whole
        case WordIndexFile(char_level=False):
            return between(file.split)
    return characters


def _lexicon(file: VocabularyFile, spec: Tokens) -> Lexicon:
    match file:
        case TextVectorizationFile():
            return _words_by_place(file, spec)
        case WordIndexFile():
            return _words_by_index(file, spec)
        case CharactersFile():
            return _characters(file, spec)


def _words_by_place(file: TextVectorizationFile, spec: Tokens) -> Lexicon:
    special = spec.special_ids
    return Lexicon(
        ids={word: place for place, word in enumerate(file.vocabulary)},
        entries=dict(enumerate(file.vocabulary)),
        gap="",
        size=len(file.vocabulary),
        unknown="map",
        silent=frozenset((special.pad, special.start, special.end)),
        joint="" if file.split == "character" else " ",
    )


def _words_by_index(file: WordIndexFile, spec: Tokens) -> Lexicon:
    special = spec.special_ids
    size = file.num_words or max(file.word_index.values()) + 1
    ids = {word: number for word, number in file.word_index.items() if number < size}
    return Lexicon(
        ids=ids,
        entries={number: word for word, number in ids.items()},
        gap=file.oov_token or "",
        size=size,
        unknown="drop" if file.oov_token is None else "map",
        silent=frozenset((special.pad, special.start, special.end)),
        joint="" if file.char_level else " ",
    )


def _characters(file: CharactersFile, spec: Tokens) -> Lexicon:
    special = spec.special_ids
    return Lexicon(
        ids={character: place for place, character in enumerate(file.characters) if character},
        entries=dict(enumerate(file.characters)),
        gap="",
        size=len(file.characters),
        unknown=file.unknown,
        silent=frozenset((special.start, special.end)),  # the pad may be a character of the text: the space
        joint="",
    )


def _check_special_ids(lexicon: Lexicon, spec: Tokens) -> None:
    special, name = spec.special_ids, spec.tokenizer
    if (special.unknown is not None) != (lexicon.unknown == "map"):
        given = "null" if special.unknown is None else special.unknown
        raise ManifestInvalid(
            f"special_ids.unknown: {given}, but {name!r} {DOES[lexicon.unknown]} unknown pieces"
        )
    if not 0 <= special.pad < lexicon.size:
        raise ManifestInvalid(f"special_ids.pad: {special.pad} is none of the {lexicon.size} ids of {name!r}")
    for field in ("unknown", "start", "end"):
        number = getattr(special, field)
        if number is not None and number not in lexicon.entries:
            raise ManifestInvalid(f"special_ids.{field}: {name!r} has no entry with id {number}")


def _check_oov_token(file: WordIndexFile, spec: Tokens) -> None:
    unknown = spec.special_ids.unknown
    if file.oov_token is not None and unknown != file.word_index[file.oov_token]:
        raise ManifestInvalid(
            f"special_ids.unknown: {unknown}, but oov_token {file.oov_token[:60]!r} of {spec.tokenizer!r} "
            f"has id {file.word_index[file.oov_token]}"
        )
