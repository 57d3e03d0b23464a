"""The vocabularies of a translator, read as people write them, or refused with what to write instead."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from seqserve.models.bring.translation.contract import Source, Target
from seqserve.models.bring.translation.vocabularies import MARKS, Read, read_source, read_target
from seqserve.models.config import ConfigInvalid

LISTED = ["", "[UNK]", "[START]", "[END]", "ein", "hund"]
INDEX = {"<start>": 1, "<end>": 2, "ein": 3, "hund": 4}


def target(folder: Path, kind: str, text: str, name: str = "target.json", **fields: Any) -> Read:
    """Read a target's vocabulary of the text."""
    (folder / name).write_text(text, "utf-8")
    return read_target(Target.model_validate({"kind": kind, "file": name, **fields}), folder)


def source(folder: Path, kind: str, text: str, name: str = "source.json", **fields: Any) -> Read:
    """Read a source's vocabulary of the text."""
    (folder / name).write_text(text, "utf-8")
    return read_source(Source.model_validate({"kind": kind, "file": name, **fields}), folder)


def refused(call: Any, *given: Any, **fields: Any) -> str:
    """Return the message of what is refused."""
    with pytest.raises(ConfigInvalid) as caught:
        call(*given, **fields)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words.txt", "\n".join(LISTED)),
        ("words.txt", "\n".join(LISTED) + "\n"),
        ("words.txt", "\r\n".join(LISTED)),
        ("words.json", json.dumps(LISTED)),
        ("words.json", json.dumps({word: place for place, word in enumerate(LISTED)})),
    ],
)
def test_a_list_of_words(name: str, text: str, tmp_path: Path) -> None:
    """What `get_vocabulary()` gives, a line each or as JSON."""
    read = target(tmp_path, "text_vectorization", text, name)
    assert (read.special.start, read.special.end, read.vocabulary.size) == (2, 3, 6)
    assert read.vocabulary.decode([4, 5]) == "ein hund"


def test_a_list_without_its_first_entry_is_refused(tmp_path: Path) -> None:
    """Every id would be off by one."""
    message = refused(target, tmp_path, "text_vectorization", "\n".join(LISTED[1:]), "words.txt")
    assert "target.file" in message
    assert "begins with ['', '[UNK]'], words.txt with ['[UNK]', '[START]']" in message


def test_a_tokenizer_and_a_bare_index(tmp_path: Path) -> None:
    """`Tokenizer.to_json()` holds its index as JSON within JSON, and says what it does to a text."""
    config = {"word_index": json.dumps(INDEX), "lower": True, "filters": "!", "split": " ", "num_words": None}
    for text in (json.dumps({"class_name": "Tokenizer", "config": config}), json.dumps(INDEX)):
        read = target(tmp_path, "word_index", text)
        assert (read.special.start, read.special.end) == (1, 2)
        assert read.vocabulary.size == 5
    whole = source(tmp_path, "word_index", json.dumps({"class_name": "Tokenizer", "config": config}))
    assert whole.vocabulary.encode("EIN hund!") == [3, 4]


@pytest.mark.parametrize("first", [0, 1])
def test_characters_begin_at_0_or_at_1(first: int, tmp_path: Path) -> None:
    """Where they begin at 1, 0 is padding and stands for no character."""
    index = {character: place + first for place, character in enumerate("\t\nabc")}
    read = target(tmp_path, "characters", json.dumps(index))
    assert (read.special.start, read.special.end) == (first, first + 1)
    assert read.vocabulary.size == 5 + first
    assert read.vocabulary.decode([first + 2, first + 4]) == "ac"


@pytest.mark.parametrize("ids", [(0, 2), (2, 3), (0, 0), ("x", "y")])
def test_an_index_with_gaps_is_refused(ids: tuple[Any, Any], tmp_path: Path) -> None:
    """Two characters of one id, ids left out, or no ids at all."""
    message = refused(source, tmp_path, "characters", json.dumps(dict(zip("ab", ids, strict=True))))
    assert "0 to 1, or 1 to 2 where 0 is padding" in message


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    """It would run code; the message has the line that writes JSON instead."""
    for protocol in (2, 5):
        (tmp_path / "tokenizer.pickle").write_bytes(pickle.dumps(INDEX, protocol))
        words = Source.model_validate({"kind": "word_index", "file": "tokenizer.pickle"})
        message = refused(read_source, words, tmp_path)
        assert "source.file: tokenizer.pickle is a pickle, and reading one runs code" in message
        assert "open('source.json', 'w').write(tokenizer.to_json())" in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its whole path is shown, since files are named relative to MODEL."""
    words = Source.model_validate({"kind": "word_index", "file": "words.json"})
    message = refused(read_source, words, tmp_path / "model.keras")
    assert message == f"source.file: {tmp_path / 'words.json'} is not there"


@pytest.mark.parametrize("pair", MARKS)
def test_usual_marks_are_found(pair: tuple[str, str], tmp_path: Path) -> None:
    """Without a word in the contract."""
    read = target(tmp_path, "word_index", json.dumps({"start": 1, "end": 2, pair[0]: 3, pair[1]: 4}))
    assert (read.special.start, read.special.end) == (3, 4)


def test_marks_without_brackets_are_found_last(tmp_path: Path) -> None:
    """`start` and `end` are what a Tokenizer makes of `<start>` and `<end>`, but words as well."""
    read = target(tmp_path, "word_index", json.dumps({"start": 1, "end": 2, "hund": 3}))
    assert (read.special.start, read.special.end) == (1, 2)


@pytest.mark.parametrize(
    ("more", "shown"), [({}, "none of the usual pairs"), ({"<s>": 3, "</s>": 4, "sos": 5, "eos": 6}, " and ")]
)
def test_marks_must_be_one_pair(more: dict[str, int], shown: str, tmp_path: Path) -> None:
    """None, or two pairs: the message has the fields to give."""
    message = refused(target, tmp_path, "word_index", json.dumps({"ein": 1, "hund": 2, **more}))
    assert shown in message
    assert 'start = "[START]" and end = "[END]"' in message


@pytest.mark.parametrize("field", ["start", "end"])
def test_a_mark_that_is_not_there(field: str, tmp_path: Path) -> None:
    """What is like it is shown; an id must be one of the vocabulary too."""
    text = "\n".join(LISTED)
    message = refused(
        target, tmp_path, "text_vectorization", text, "words.txt", **{field: f"<{field.upper()}>"}
    )
    assert message.startswith(f"target.{field}: '<{field.upper()}>' is not in words.txt; like it: ")
    assert f"'[{field.upper()}]'" in message
    message = refused(target, tmp_path, "text_vectorization", text, "words.txt", **{field: 6})
    assert message == f"target.{field}: words.txt has no entry with the id 6"
