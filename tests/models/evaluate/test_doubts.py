"""How warnings are measured: faults that are planted are the faults that are said."""

import random
from pathlib import Path

import numpy as np
import pytest

from seqserve.models.check.pipeline import pipeline
from seqserve.models.data.texts import Pair, read_pairs
from seqserve.models.evaluate.doubts import fate, in_script, measure_doubts, with_loop


def test_a_loop_is_a_stretch_that_stands_three_times_or_more_before_the_end() -> None:
    ids = np.array([[5, 6, 7, 8, 3, 0, 0], [9, 9, 9, 9, 9, 9, 3]], np.int32)
    outputs = {
        "ids": ids,
        "attention": np.arange(2 * 7 * 4, dtype=np.float32).reshape(2, 7, 4),
        "lengths": np.array([5, 7]),
        "scores": np.array([-1.0, -2.0]),
    }
    for seed in range(50):
        planted = with_loop(outputs, random.Random(seed))
        (row,), (length,) = planted["ids"].tolist(), planted["lengths"].tolist()
        assert len(row) == length == planted["attention"].shape[1]
        assert row[-1] == 3
        assert set(row) == {5, 6, 7, 8, 3}
        assert any(
            row[at : at + n] == row[at + n : at + 2 * n] == row[at + 2 * n : at + 3 * n]
            for n in range(1, 5)
            for at in range(length)
            if row[at + 2 * n : at + 3 * n]
        )
        for place, piece in enumerate(row):
            assert (
                planted["attention"][0, place].tolist()
                == outputs["attention"][0, piece - 5 if piece > 3 else 4].tolist()
            )


def test_a_text_in_another_script_keeps_all_but_its_letters() -> None:
    assert in_script("Ab z, 12 ä", 0x430) == "аб щ, 12 ä"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ein hund läuft und eine katze sitzt", "both there"),
        ("ein hund läuft", "one left out"),
        ("eine katze sitzt", "one left out"),
        ("ein hund läuft und eine maus liegt da", None),  # long enough, and yet not both
    ],
)
def test_what_became_of_two_texts(text: str, wanted: str | None) -> None:
    assert fate(text, ["ein hund läuft", "eine katze sitzt"]) == wanted


async def test_a_version_is_measured(root: Path, text_data: Path) -> None:
    """Texts in an unknown script are all found, and every figure is there, however poor the model."""
    pairs: list[Pair] = read_pairs(text_data, "val", "en", "de")[:12]
    async with pipeline(root / "en-de/1") as loaded:
        shares = await measure_doubts(loaded, pairs, 1)
    assert all(shares[f"HIGH_UNKNOWN in {script}"] == 1 for script in ("Cyrillic", "Greek", "Han"))
    assert {name.partition(" ")[0].rstrip(",") for name in shares} == {
        "HIGH_UNKNOWN",
        "REPETITION",
        "LOW_COVERAGE",
        "texts",
    }
    assert shares["REPETITION of planted loops"] > shares["REPETITION on held-out texts"]
