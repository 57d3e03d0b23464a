"""What comes of a user's own model: a version to be written, and what its user should see."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.draft import Draft


@dataclass(frozen=True, slots=True)
class Brought:
    """A version to be written, and what its user should see.

    `table`: what was matched, as rows of the model's part, its shape, and the contract's part.
    `proof`: compares what is served with the answers that the user expects, where there are any; what it
    returns is kept in the card.
    `leak_advice`: what helps where padding changes its answers.
    """

    draft: Draft
    table: list[tuple[str, str, str]]
    notes: list[str]
    warnings: list[str]
    proof: Callable[[Pipeline], Awaitable[dict[str, Any]]] | None = None
    leak_advice: str = ""
