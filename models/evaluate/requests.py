"""Requests to a version that is being measured, in chunks to bound memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

from seqserve.models.check.pipeline import SECONDS, Pipeline
from seqserve.service import errors
from seqserve.service.contract.items import Body
from seqserve.service.core.types import Outcome
from seqserve.service.errors import SeqserveError

CHUNK = 512


async def run(loaded: Pipeline, body: Body) -> list[Outcome]:
    """Answer a body. An item that the model refuses is answered by its error; any other fault is raised."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    outcomes = await loaded.runner.run(loaded.served, body, deadline)
    for outcome in outcomes:
        if isinstance(outcome, SeqserveError) and not isinstance(outcome, errors.InvalidArgument):
            raise outcome
    return outcomes


def chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    """Cut a long list into requests."""
    return [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
