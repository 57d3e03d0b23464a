"""A vocabulary's file: what is read as one, and the faults that are named."""

import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from seqserve.service.contract.manifest import SpecialIds, Tokens
from seqserve.service.contract.vocabulary.file import (
    MOST_ENTRIES,
    MOST_STEPS,
    TextVectorizationFile,
    read_file,
)
from seqserve.service.contract.vocabulary.load import load_vocabulary
from seqserve.service.contract.vocabulary.pieces import SentencePieces
from seqserve.service.errors import ManifestInvalid

VECTORIZED: dict[str, Any] = {
    "kind": "text_vectorization",
    "vocabulary": ["", "[UNK]", "two", "dogs"],
    "standardize": "lower",
    "split": "whitespace",
}
INDEXED: dict[str, Any] = {"kind": "word_index", "word_index": {"two": 1, "dogs": 2, "<oov>": 3}}
LETTERS: dict[str, Any] = {"kind": "characters", "characters": [" ", "a", "b"], "unknown": "drop"}
TOKENIZER: dict[str, Any] = {
    "class_name": "Tokenizer",
    "config": {
        "num_words": None,
        "filters": "",
        "split": " ",
        "word_index": '{"two": 1}',
        "word_counts": "{}",
    },
}
REPLACE = {"step": "replace", "pattern": "a", "replacement": ""}
NO_SPECIAL = SpecialIds(unknown=None, start=None, end=None)
DROP = object()


def test_a_sentencepiece_model_stays_one(tokenizer: bytes) -> None:
    """Whatever does not end in .json is one."""
    assert isinstance(load_vocabulary(tokenizer, Tokens(tokenizer="en.model")), SentencePieces)
    with pytest.raises(ManifestInvalid, match=r"^'en.model' is no SentencePiece model"):
        load_vocabulary(orjson.dumps(VECTORIZED), Tokens(tokenizer="en.model"))


def test_fields_of_later_are_kept() -> None:
    file = read_file(orjson.dumps({**VECTORIZED, "ngrams": None, "note": {"by": "us"}}), "v.json")
    assert isinstance(file, TextVectorizationFile)
    assert file.vocabulary == ("", "[UNK]", "two", "dogs")
    assert file.model_extra == {"ngrams": None, "note": {"by": "us"}}
    assert read_file(file.model_dump_json().encode(), "v.json") == file


def test_the_documented_file() -> None:
    """The example in docs/manifest.md is a vocabulary, and does what it is said to do."""
    page = (Path(__file__).parents[3] / "docs" / "manifest.md").read_text("utf-8")
    (example,) = re.findall(r"```json\n(\{\"kind\".*?)```", page, re.DOTALL)
    spec = Tokens(tokenizer="v.json", special_ids=SpecialIds(start=2, end=3), add_end=False)
    vocabulary = load_vocabulary(example.encode(), spec)
    assert vocabulary.encode(" Two dógs.") == [2, 5, 6, 4, 3]
    assert vocabulary.decode([2, 5, 6, 4, 3, 0]) == "two dogs ."


def changed(file: dict[str, Any], path: tuple[str | int, ...], value: Any) -> bytes:
    plain: Any = json.loads(json.dumps(file))
    place = plain
    for step in path[:-1]:
        place = place[step]
    if value is DROP:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return orjson.dumps(plain)


FAULTS: list[tuple[dict[str, Any], tuple[str | int, ...], Any, str]] = [
    (VECTORIZED, ("kind",), "bag_of_words", "'bag_of_words' found using 'kind'"),
    (VECTORIZED, ("vocabulary",), DROP, "vocabulary: Field required"),
    (VECTORIZED, ("vocabulary",), [], "vocabulary"),
    (VECTORIZED, ("vocabulary",), "two dogs", "vocabulary"),
    (VECTORIZED, ("vocabulary", 2), 5, "vocabulary.2"),
    (VECTORIZED, ("vocabulary", 2), "dogs", "entry 3, 'dogs', is there twice"),
    (VECTORIZED, ("vocabulary", 2), "x" * 1001, "vocabulary.2"),
    (VECTORIZED, ("standardize",), DROP, "standardize: Field required"),
    (VECTORIZED, ("standardize",), "upper", "standardize"),
    (VECTORIZED, ("split",), DROP, "split: Field required"),
    (VECTORIZED, ("split",), "words", "split"),
    (VECTORIZED, ("steps",), [REPLACE] * (MOST_STEPS + 1), "steps: Tuple should have at most 32 items"),
    (VECTORIZED, ("steps",), [{"step": "reverse"}], "'reverse' found using 'step'"),
    (VECTORIZED, ("steps",), [{"step": "unicode", "form": "NFX"}], "steps.0.unicode.form"),
    (VECTORIZED, ("steps",), [{"step": "lower"}], "steps.0.lower.letters: Field required"),
    (VECTORIZED, ("steps",), [{"step": "strip", "spaces": "both"}], "steps.0.strip.spaces"),
    (
        VECTORIZED,
        ("steps",),
        [{**REPLACE, "pattern": "(?<=a)b"}],
        "steps.0.replace: Value error, RE2 does not know",
    ),
    (VECTORIZED, ("steps",), [{**REPLACE, "pattern": "a" * 1001}], "steps.0.replace.pattern"),
    (VECTORIZED, ("steps",), [{**REPLACE, "replacement": r"\1"}], r"replacement '\\1': \1 is none of"),
    (VECTORIZED, ("steps",), [{**REPLACE, "replacement": "a" * 101}], "steps.0.replace.replacement"),
    (VECTORIZED, ("steps",), [{"step": "prefix", "text": 1}], "steps.0.prefix.text"),
    (VECTORIZED, ("steps",), [{"step": "suffix"}], "steps.0.suffix.text: Field required"),
    (INDEXED, ("word_index",), {}, "word_index"),
    (INDEXED, ("word_index", "two"), -1, "word_index.two"),
    (INDEXED, ("word_index", "two"), 1.5, "word_index.two"),
    (INDEXED, ("word_index", "two"), "1", "word_index.two"),
    (INDEXED, ("word_index", "two"), 2**31, "word_index.two"),
    (INDEXED, ("word_index", "two"), 2, "'two' and 'dogs' have the same id, 2"),
    (INDEXED, ("num_words",), 0, "num_words"),
    (INDEXED, ("split",), "", "split"),
    (INDEXED, ("lower",), "yes", "lower"),
    (INDEXED, ("oov_token",), "[UNK]", "oov_token: '[UNK]' is not in word_index"),
    (LETTERS, ("characters", 1), "ab", "entry 1, 'ab', is not one character"),
    (LETTERS, ("characters", 1), "b", "entry 2, 'b', is there twice"),
    (LETTERS, ("unknown",), DROP, "unknown: Field required"),
    (TOKENIZER, ("config", "word_index"), '{"two": "1"}', "word_index.two"),
    (TOKENIZER, ("config", "word_index"), "{", "not JSON"),
    (TOKENIZER, ("config", "word_index"), DROP, "word_index.word_index"),
    (TOKENIZER, ("config", "split"), None, "word_index.split"),
]


@pytest.mark.parametrize(("file", "path", "value", "named"), FAULTS)
def test_faults_are_named(file: dict[str, Any], path: tuple[str | int, ...], value: Any, named: str) -> None:
    """A file that is wrong in one place is refused with its name and that place in the message."""
    with pytest.raises(ManifestInvalid, match=r"^assets/v\.json: ") as caught:
        read_file(changed(file, path, value), "assets/v.json")
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'["two", "dogs"]', b'{"two": NaN}', b"[" * 5000]
)
def test_not_a_vocabulary(data: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"^v\.json: "):
        read_file(data, "v.json")


def test_more_entries_than_a_vocabulary_has() -> None:
    data = b'{"kind": "characters", "unknown": "drop", "characters": [%s""]}' % (b'"",' * MOST_ENTRIES)
    with pytest.raises(ManifestInvalid, match=f"at most {MOST_ENTRIES} items"):
        read_file(data, "v.json")


SPECIAL: list[tuple[dict[str, Any], SpecialIds, str]] = [
    (
        VECTORIZED,
        SpecialIds(unknown=None, start=2, end=3),
        "special_ids.unknown: null, but 'v.json' gives an id to unknown pieces",
    ),
    (VECTORIZED, SpecialIds(start=2, end=4), "special_ids.end: 'v.json' has no entry with id 4"),
    (VECTORIZED, SpecialIds(start=-1, end=3), "special_ids.start: 'v.json' has no entry with id -1"),
    (VECTORIZED, SpecialIds(pad=4, start=2, end=3), "special_ids.pad: 4 is none of the 4 ids of 'v.json'"),
    (
        INDEXED,
        SpecialIds(start=1, end=2),
        "special_ids.unknown: 1, but 'v.json' drops unknown pieces",
    ),
    (INDEXED, SpecialIds(unknown=None, start=0, end=2), "special_ids.start: 'v.json' has no entry with id 0"),
    (
        {**INDEXED, "num_words": 2},
        SpecialIds(unknown=None, start=None, end=2),
        "special_ids.end: 'v.json' has no entry with id 2",
    ),
    (
        {**INDEXED, "oov_token": "<oov>"},
        SpecialIds(start=None, end=None),
        "special_ids.unknown: 1, but oov_token '<oov>' of 'v.json' has id 3",
    ),
    (
        LETTERS,
        SpecialIds(start=1, end=2),
        "special_ids.unknown: 1, but 'v.json' drops unknown pieces",
    ),
    ({**LETTERS, "unknown": "map"}, NO_SPECIAL, "special_ids.unknown: null"),
    (
        {**LETTERS, "unknown": "reject", "steps": [{"step": "prefix", "text": "\t"}]},
        NO_SPECIAL,
        r"v.json: steps: of what they add, the model's vocabulary has no '\t'",
    ),
]


@pytest.mark.parametrize(("file", "special", "named"), SPECIAL)
def test_special_ids_that_do_not_fit(file: dict[str, Any], special: SpecialIds, named: str) -> None:
    """An id that the vocabulary lacks, or one for unknown pieces where it treats those otherwise."""
    spec = Tokens(tokenizer="v.json", special_ids=special, add_end=False)
    with pytest.raises(ManifestInvalid) as caught:
        load_vocabulary(orjson.dumps(file), spec)
    assert named in str(caught.value)
