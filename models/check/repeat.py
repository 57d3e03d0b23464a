"""Asked again, a row is answered the same: nothing is random, and no state is kept between calls."""

from collections.abc import Sequence
from typing import Any

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.check.rows import Call, amount, answered_alone, apart, example_rows
from seqserve.service.errors import FailedPrecondition


class AnswersVary(FailedPrecondition):
    """An output of the model changes when the same row is asked again; the message names it."""

    reason = "ANSWERS_VARY"


async def check_repeats(loaded: Pipeline, name: str, probes: Sequence[dict[str, Any]] = ()) -> None:
    """Ask each row again, after all of them were asked once.

    Raises:
        AnswersVary: naming the output and by how much.
    """
    for options, rows in example_rows(loaded.served, name, probes).items():
        call = Call(name, options)
        first = [await answered_alone(loaded, call, row) for row in rows]
        for row, wanted in zip(rows, first, strict=True):
            changed = apart(loaded, name, row, wanted, await answered_alone(loaded, call, row))
            if changed is not None:
                output, off = changed
                raise AnswersVary(
                    f"output {output!r} of {name!r} changes {amount(off)} when the same row is asked "
                    "again: a layer draws at random (as training=True in its call) or keeps state between "
                    "calls; answers may depend on nothing but the request"
                )
