"""Asked again, a row is answered the same: nothing is drawn at random, no state is kept between calls.

Part of the certification.
"""

from collections.abc import Sequence
from typing import Any

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.check.rows import Call, answered_alone, apart, example_rows
from seqserve.service.errors import FailedPrecondition


class AnswersVary(FailedPrecondition):
    """An output of the model is another when the same row is asked again; the message names it."""

    reason = "ANSWERS_VARY"


async def check_repeats(loaded: Pipeline, name: str, probes: Sequence[dict[str, Any]] = ()) -> None:
    """Ask each row again, after all were asked once.

    Raises:
        AnswersVary: naming the output and by how much.
    """
    for options, rows in example_rows(loaded.served, name, probes).items():
        call = Call(name, options)
        first = [await answered_alone(loaded, call, row) for row in rows]
        for row, wanted in zip(rows, first, strict=True):
            found = apart(loaded, name, row, wanted, await answered_alone(loaded, call, row))
            if found is not None:
                raise AnswersVary(
                    f"output {found[0]!r} of {name!r} changes by {found[1]:.3g} when the same row is asked "
                    "again: a layer draws at random (as training=True in its call) or keeps state between "
                    "calls; answers may depend on nothing but the request"
                )
