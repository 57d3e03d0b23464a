"""Certify a version before it ships: answers repeat, padding is invisible, goldens hold, ops run anywhere.

What leaks is measured, not guessed from layer names: a row's outputs must be the same alone, padded to any
bucket, and beside any neighbours.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqserve.models.check.eager import Function, check_eager
from seqserve.models.check.ops import check_ops
from seqserve.models.check.padding import check_padding
from seqserve.models.check.pipeline import SECONDS, Server, pipeline
from seqserve.models.check.repeat import check_repeats
from seqserve.models.check.steps import check_step
from seqserve.service.contract.digest import check_digests
from seqserve.service.contract.manifest import STEP_SIGNATURE
from seqserve.service.core.golden import run_examples


def check_version(
    folder: Path,
    server: Server | None = None,
    probes: Sequence[dict[str, Any]] = (),
    eager: Mapping[str, Function] | None = None,
) -> list[str]:
    """Certify a version directory; returns a line for each thing that was checked.

    Args:
        server: have its copy of the version compute instead of this process.
        probes: requests whose rows are compared beside those of the golden examples.
        eager: by signature, what the graph was traced from: its answers must be the same.

    Raises:
        FileChanged, ManifestInvalid, DeviceOnlyOp, UnsafeOp, AnswersVary, GraphDiffers, PaddingLeak,
            StepDiffers, GoldenFailed: what is wrong.
        VersionNotFound, BackendUnavailable: the server cannot be asked.
    """
    return asyncio.run(_check(folder, server, probes, eager or {}))


async def _check(
    folder: Path,
    server: Server | None,
    probes: Sequence[dict[str, Any]],
    eager: Mapping[str, Function],
) -> list[str]:
    check_digests(folder)
    check_ops(folder)
    device = server.device if server is not None else "cpu"
    where = [f"{server.address} has this very version, by its digest"] if server is not None else []
    async with pipeline(folder, server=server) as loaded:
        manifest = loaded.served.manifest
        for name in manifest.serving_signatures:  # first: answers that vary look like a leak, and are none
            await check_repeats(loaded, name, probes)
        same = [await check_eager(loaded, name, eager[name], probes) for name in eager]
        if manifest.batching == "single":
            padding = ["padding leaks: rows go alone, at their exact length (batching: single)"]
        else:  # before the goldens: a leak fails them too, and says more of the cause
            padding = [await check_padding(loaded, name, probes) for name in manifest.serving_signatures]
        steps = [await check_step(loaded)] if STEP_SIGNATURE in manifest.signatures else []
        deadline = asyncio.get_running_loop().time() + SECONDS
        await run_examples(loaded.served, loaded.runner, deadline, device)
    return [
        f"{len(manifest.files)} files are as exported",
        *where,
        "no op needs one kind of device, or files that are not the version's",
        "asked again, rows are answered the same",
        *same,
        *padding,
        *steps,
        f"{len(manifest.examples)} golden examples hold",
    ]
