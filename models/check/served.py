"""A version's answers to texts, through the very path that will serve them, many of them at once."""

import asyncio
from collections.abc import Sequence

from seqserve.models.check.pipeline import SECONDS, Pipeline
from seqserve.service.contract.items import answers_as_json
from seqserve.service.core.golden import body_of
from seqserve.service.errors import SeqserveError

BATCH = 64


async def served_texts(loaded: Pipeline, texts: Sequence[str]) -> list[str | SeqserveError]:
    """Return each text's translation, or why it has none."""
    answered: list[str | SeqserveError] = []
    for begin in range(0, len(texts), BATCH):
        body = body_of(loaded.served, {"texts": list(texts[begin : begin + BATCH])})
        deadline = asyncio.get_running_loop().time() + SECONDS
        for outcome in await loaded.runner.run(loaded.served, body, deadline):
            if isinstance(outcome, SeqserveError):
                answered.append(outcome)
            else:
                answered.append(str(answers_as_json([outcome])[0]["text"]))
    return answered
