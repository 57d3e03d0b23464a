"""Event by event a sequence is answered as the whole of it is: the certification of a `step` signature."""

from collections.abc import Sequence

import numpy as np

from seqserve.models.check.pipeline import Pipeline, predict
from seqserve.models.check.rows import Call, amount, answered_alone, example_rows, excess
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, STEP_SIGNATURE
from seqserve.service.contract.padding import Row
from seqserve.service.core.types import Outputs
from seqserve.service.errors import FailedPrecondition


class StepDiffers(FailedPrecondition):
    """Advanced event by event, a sequence gets another answer than whole; the message names the output."""

    reason = "STEP_DIFFERS"


async def check_step(loaded: Pipeline) -> str:
    """Compare each row advanced event by event, alone and beside other rows, with the whole row.

    Raises:
        StepDiffers: naming the output and by how much.
    """
    groups = example_rows(loaded.served, PREDICT_SIGNATURE)
    for options, rows in groups.items():
        whole = [await answered_alone(loaded, Call(PREDICT_SIGNATURE, options), row) for row in rows]
        for places in ([*range(len(rows))], *([place] for place in range(len(rows)))):
            advanced = await _advance(loaded, [rows[place] for place in places])
            for place, got in zip(places, advanced, strict=True):
                how = f"after {rows[place].length} events, in a batch of {len(places)}"
                _compare_step(loaded, whole[place], got, how)
    count = sum(map(len, groups.values()))
    return f"signature {STEP_SIGNATURE!r}: event by event equals the whole for {count} rows"


async def _advance(loaded: Pipeline, rows: Sequence[Row]) -> list[Outputs]:
    """Return each row's outputs after its last event; a row leaves the batch when it has no more."""
    signature = loaded.served.manifest.signatures[STEP_SIGNATURE]
    first = {name: np.zeros(shape[-1], np.float32) for name, shape in (signature.state or {}).items()}
    reached: list[Outputs] = [first] * len(rows)
    for step in range(max(row.length for row in rows)):
        going = [place for place, row in enumerate(rows) if row.length > step]
        inputs = {
            name: np.stack([reached[n][name] if name in first else rows[n].inputs[name][step] for n in going])
            for name in signature.inputs
        }
        outputs = await predict(loaded, STEP_SIGNATURE, inputs, len(going))
        for place, got in zip(going, outputs, strict=True):
            reached[place] = got
    return reached


def _compare_step(loaded: Pipeline, whole: Outputs, got: Outputs, how: str) -> None:
    for head in loaded.served.manifest.heads:
        off = excess(whole[head], got[head], loaded.tolerance) if head in got else float("inf")
        if off is not None:
            raise StepDiffers(f"output {head!r} of {STEP_SIGNATURE!r} is off {amount(off)} {how}")
