"""API keys: a file of hashes, read again when it changes, and kept in force where an edit breaks it."""

import json
import logging
import re
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge import keys
from seqserve.service.edge.key_file import read_keys
from seqserve.service.edge.keys import Keys, digest_of, new_key
from seqserve.service.followed import LOOK_SECONDS, Followed
from tests.core.fakes import Clock
from tests.edge.fakes import key_line

OTHER = new_key()


def test_keys_are_random_enough() -> None:
    """At least 128 bits, that no two share: each of the bytes after the prefix takes many values."""
    keys = [new_key() for _ in range(500)]
    assert len(set(keys)) == 500
    assert {len(key) for key in keys} == {len("seqserve-") + 43}  # 43 x 6 bits hold 256
    for place in range(len("seqserve-"), len(keys[0]) - 1):
        assert len(Counter(key[place] for key in keys)) > 50


def test_a_name_may_have_several_keys_of_different_scopes() -> None:
    """Rotation: both are good; what each may do stands on its own line."""
    old, new = new_key(), new_key()
    keys = Keys([key_line("shop", old), key_line("shop", new, "predict:*", "translate:en-de")])
    assert keys.bearer(old) == Principal("shop", frozenset({("*", "*")}))
    wanted = frozenset({("predict", "*"), ("translate", "en-de")})
    assert keys.bearer(new) == Principal("shop", wanted)
    for stranger in (OTHER, old[:-1], old + "x", digest_of(old), "", "certificate shop", "\udc80", "é"):
        assert keys.bearer(stranger) is None


def test_a_hash_that_begins_like_another_is_not_it() -> None:
    """The whole hash decides, not the part by which it is found."""
    key = new_key()
    line = key_line("shop", key)
    assert line.sha256 is not None
    forged = line.model_copy(update={"sha256": line.sha256[:-1] + ("0" if line.sha256[-1] != "0" else "1")})
    assert Keys([line]).bearer(key) is not None
    assert Keys([forged]).bearer(key) is None


def test_an_expired_key_says_so() -> None:
    """And names itself by the beginning of its hash, never by the key."""
    key = new_key()
    line = key_line("shop", key).model_copy(update={"expires": datetime(2026, 5, 1, tzinfo=UTC)})
    file = Keys([line])
    for _ in range(2):
        with pytest.raises(errors.Unauthenticated, match=r"expired at 2026-05-01T00:00:00Z") as caught:
            file.bearer(key)
        assert key not in str(caught.value)
        assert line.id in str(caught.value)


def test_a_key_is_hashed_once_and_a_wrong_one_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def counted(key: str) -> str:
        hashed.append(key)
        return digest_of(key)

    key, wrong = new_key(), new_key()
    file = Keys([key_line("shop", key)])
    monkeypatch.setattr(keys, "digest_of", counted)
    for _ in range(3):
        assert file.bearer(key) == Principal("shop", frozenset({("*", "*")}))
        assert file.bearer(wrong) is None
    assert hashed == [key, wrong, wrong, wrong]


def good(**changes: Any) -> str:
    """Return a line of the file; None leaves a member out."""
    table = {"name": "shop", "sha256": "0" * 64, "scopes": ["*:*"], **changes}
    return json.dumps({name: value for name, value in table.items() if value is not None})


SECRET = "seqserve-abcdefghijklmnop"
BROKEN = {
    "": "is empty",
    "\n\n": "is empty",
    "nonsense": "line 1: JSON",
    good() + "\n" + good()[:-9]: "line 2: JSON",
    good(sha256=SECRET): "line 1: sha256",
    good(sha256="A" * 64): "line 1: sha256",
    good(scopes=None): "line 1: scopes",
    good(scopes="*:*"): "line 1: scopes",
    good(scopes=["translate"]): "line 1: scopes.0",
    good(scopes=["translate:"]): "line 1: scopes.0",
    good(name=None): "line 1: name",
    good(name="a b"): "line 1: name",
    good(name="x" * 129): "line 1: name",
    good(expires="2026-05-01T00:00:00"): "line 1: expires",
    good(expire="2026-05-01T00:00:00Z"): "line 1: expire",
    good() + "\n" + good(name="other"): "is there twice",
    good(sha256=None) + "\n" + good(sha256=None): "certificate of shop is there twice",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_cannot_be_used_is_named(content: str, tmp_path: Path) -> None:
    """With the line and the member; what stands there is not repeated: it may be a key."""
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(BROKEN[content])) as caught:
        read_keys(path)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(ValueError, match="absent cannot be read"):
        read_keys(tmp_path / "absent")


def test_changes_are_taken_within_a_second_and_broken_ones_never(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Replaced, edited in place, broken, removed, back: the last good are in force, each fault told once."""
    path, clock, first, second = tmp_path / "keys", Clock(), new_key(), new_key()
    path.write_text(f"# a comment\n\n{key_line('one', first).model_dump_json()}\n")
    keys = Followed("the API keys", [path], partial(read_keys, path), clock)
    caplog.set_level(logging.INFO)

    def known() -> list[bool]:
        clock.now += LOOK_SECONDS
        return [keys.value().bearer(key) is not None for key in (first, second)]

    assert known() == [True, False]
    aside = tmp_path / "aside"
    aside.write_text(key_line("two", second).model_dump_json() + "\n")
    aside.replace(path)
    assert keys.value().bearer(first) is not None  # looked at less than a second ago
    assert known() == [False, True]
    path.write_text("")
    assert [known() for _ in range(3)] == [[False, True]] * 3
    path.unlink()
    assert [known() for _ in range(3)] == [[False, True]] * 3
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 2
    path.write_text(key_line("one", first).model_dump_json())
    assert known() == [True, False]
    assert not any(key in caplog.text for key in (first, second))
