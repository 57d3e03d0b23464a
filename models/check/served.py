"""A version's answers to many items, through the very path that will serve them."""

import asyncio
from collections.abc import Sequence
from typing import Any

from seqserve.models.check.pipeline import SECONDS, Pipeline
from seqserve.service.contract.items import answers_as_json
from seqserve.service.core.golden import body_of
from seqserve.service.core.predict import MOST_LABELS
from seqserve.service.errors import SeqserveError

BATCH = 64


async def served_texts(loaded: Pipeline, texts: Sequence[str]) -> list[str | SeqserveError]:
    """Return each text's translation, or why it has none."""
    answered = await _served(loaded, "texts", texts, {})
    return [one if isinstance(one, SeqserveError) else str(one["text"]) for one in answered]


async def served_sequences(
    loaded: Pipeline, sequences: Sequence[dict[str, Any]]
) -> list[dict[str, Any] | SeqserveError]:
    """Return each sequence's answer in its JSON form, with all labels that may be asked, or why not."""
    return await _served(loaded, "sequences", sequences, {"top_k": MOST_LABELS})


async def _served(
    loaded: Pipeline, member: str, items: Sequence[Any], options: dict[str, Any]
) -> list[dict[str, Any] | SeqserveError]:
    answered: list[dict[str, Any] | SeqserveError] = []
    for begin in range(0, len(items), BATCH):
        body = body_of(loaded.served, {member: list(items[begin : begin + BATCH]), **options})
        deadline = asyncio.get_running_loop().time() + SECONDS
        for outcome in await loaded.runner.run(loaded.served, body, deadline):
            if isinstance(outcome, SeqserveError):
                answered.append(outcome)
            else:
                answered.append(answers_as_json([outcome])[0])
    return answered
