"""A user's sequence model served answers as their own code does: compared, and a difference explained."""

from collections.abc import Sequence
from typing import Any

from seqserve.models.bring.answers import mismatch
from seqserve.models.bring.causes import Alone, explanation, unusual_scales
from seqserve.models.bring.expected import Expected
from seqserve.models.bring.translation.proof import SHOWN, TRIED, AnswersDiffer
from seqserve.models.check.padding import PaddingLeak
from seqserve.models.check.pipeline import Pipeline
from seqserve.models.check.served import served_sequences
from seqserve.service.errors import SeqserveError

TOLERANCE, OF_HALVES = 1e-4, 1e-2
"""Absolute and relative, of an answer: as golden examples are held to, and where layers compute in halves."""


async def compare(
    loaded: Pipeline, expected: Sequence[Expected], alone: Alone, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Answer every sequence through the served path, in batches, and compare.

    Args:
        alone: finds what explains a difference.

    Returns:
        How many were compared, and how many are equal.

    Raises:
        AnswersDiffer: naming the first answers that differ, and what would make them equal.
        PaddingLeak: a sequence that is asked alone is answered as expected, and beside others it is not.
    """
    wrong = _wrong(expected, await served_sequences(loaded, [e.sent for e in expected]), alone, tolerance)
    if wrong and loaded.served.manifest.batching == "shared":
        asked = [one for one, _ in wrong[:TRIED]]
        singly = [(await served_sequences(loaded, [one.sent]))[0] for one in asked]
        if not _wrong(asked, singly, alone, tolerance):
            raise PaddingLeak(f"{wrong[0][1]} beside longer sequences, and as expected where it is alone")
    if wrong:
        raise AnswersDiffer(_message(wrong, expected, alone, tolerance))
    return {"compared": len(expected), "equal": len(expected)}


def _wrong(
    expected: Sequence[Expected],
    served: Sequence[dict[str, Any] | SeqserveError],
    alone: Alone,
    tolerance: float,
) -> list[tuple[Expected, str]]:
    """Return what is not answered as expected, each with its first difference."""
    wrong: list[tuple[Expected, str]] = []
    for one, got in zip(expected, served, strict=True):
        if isinstance(got, SeqserveError):
            raise AnswersDiffer(f"{one.field}: it is refused: {got.message}")
        for name, wanted in one.heads.items():
            why = mismatch(alone.manifest.heads[name], wanted, got["heads"][name], tolerance)
            if why is not None:
                wrong.append((one, f"{one.field}: heads.{name}: {why}"))
                break
    return wrong


def _message(
    wrong: Sequence[tuple[Expected, str]], expected: Sequence[Expected], alone: Alone, tolerance: float
) -> str:
    lines = [f"{len(wrong)} of {len(expected)} answers are not those of your own code"]
    lines += [why for _, why in wrong[:SHOWN]]
    failed = [one for one, _ in wrong]
    right = [one for one in expected if all(one is not other for other in failed)]
    why = explanation(alone, [*failed[:TRIED], *right[:TRIED]], tolerance)
    tried = "padding, first_id, order of labels, scaling, elapsed time, logits"
    if why is None:
        lines += [f"None of the usual causes explains it ({tried})", *unusual_scales(alone.manifest, failed)]
        return ". ".join(lines)
    return ". ".join([*lines, f"They are equal with {why}"])
