"""Parallel texts, read line by line."""

from pathlib import Path

from seqserve.models.data.texts import read_pairs


def test_a_line_is_what_ends_in_a_newline(tmp_path: Path) -> None:
    """Characters that only look like line ends do not tear a text from its translation."""
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_text("one\u2028still one\x85\ntwo\n")
    pairs = read_pairs(tmp_path, "train", "en", "de")
    assert [pair.source for pair in pairs] == ["one\u2028still one", "two"]
