"""The graph answers as the model does when its layers are called one by one: for models built elsewhere.

Traced with open axes, a layer may take another path than the one that its author saw.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.check.rows import Call, amount, answered_alone, apart, example_rows
from seqserve.service.contract.padding import pad_batch
from seqserve.service.errors import FailedPrecondition

Function = Callable[..., Mapping[str, Any]]


class GraphDiffers(FailedPrecondition):
    """An output of the graph is not what the model gives when called eagerly; the message names it."""

    reason = "GRAPH_DIFFERS"


async def check_eager(
    loaded: Pipeline, name: str, function: Function, probes: Sequence[dict[str, Any]] = ()
) -> str:
    """Compare each row, alone and unpadded, with what `function` gives for it.

    A graph is optimized as a whole, so the tolerance is the one between devices.

    Raises:
        GraphDiffers: naming the output and by how much.
    """
    manifest = loaded.served.manifest
    loose = replace(loaded, tolerance=manifest.tolerance.gpu)
    groups = example_rows(loaded.served, name, probes)
    for options, rows in groups.items():
        for row in rows:
            length = manifest.buckets[0] if len(manifest.buckets) == 1 else row.length
            inputs = pad_batch([row], length, manifest.signatures[name], manifest, options)
            wanted = {output: np.asarray(value)[0] for output, value in function(**inputs).items()}
            changed = apart(loose, name, row, wanted, await answered_alone(loaded, Call(name, options), row))
            if changed is not None:
                output, off = changed
                raise GraphDiffers(
                    f"output {output!r} of {name!r} is off {amount(off)} from what the model gives when "
                    f"it is called as it is, for a row of {row.length} steps: a part of it does not work "
                    "when it is traced with open axes"
                )
    count = sum(map(len, groups.values()))
    return f"signature {name!r}: the graph answers {count} rows as the model does when it is called"
