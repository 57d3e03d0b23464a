"""Rows to certify a version with, its golden examples and pieces of them, and how answers are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqserve.models.check.pipeline import Pipeline, predict
from seqserve.service import errors
from seqserve.service.contract.manifest import Manifest, Signature, Tensor
from seqserve.service.contract.padding import Array, Row, pad_batch, real_steps
from seqserve.service.core.golden import body_of
from seqserve.service.core.types import BatchOptions, Outputs, Served


@dataclass(frozen=True, slots=True)
class Call:
    """What rows of one batch have in common."""

    signature: str
    options: BatchOptions


async def answered_alone(loaded: Pipeline, call: Call, row: Row) -> Outputs:
    """Return a row's outputs at its own length, or at the bucket where there is only one."""
    buckets = loaded.served.manifest.buckets
    length = buckets[0] if len(buckets) == 1 else row.length
    return (await answered(loaded, call, [row], length))[0]


async def answered(
    loaded: Pipeline, call: Call, rows: Sequence[Row], length: int, garbage: bool = False
) -> list[Outputs]:
    """Return each row's outputs, padded to a length, with garbage in the first row's padding or without."""
    manifest = loaded.served.manifest
    signature = manifest.signatures[call.signature]
    inputs = pad_batch(rows, length, signature, manifest, call.options)
    if garbage:
        _spoil(inputs, rows[0], signature, manifest)
    return await predict(loaded, call.signature, inputs, len(rows))


def _spoil(inputs: dict[str, Array], row: Row, signature: Signature, manifest: Manifest) -> None:
    """Put values of the row itself where there is padding: legal ids in the wrong place."""
    for name, tensor in signature.inputs.items():
        if "time" in tensor.axes and name != manifest.mask_input:
            cells = inputs[name][0]
            gap = slice(0, len(cells) - row.length) if manifest.padding == "left" else slice(row.length, None)
            cells[gap] = np.resize(row.inputs[name][::-1], cells[gap].shape)


def example_rows(
    served: Served, name: str, probes: Sequence[dict[str, Any]] = ()
) -> dict[BatchOptions, list[Row]]:
    """Encode the golden examples and other requests, and cut the longest short: rows of several lengths.

    They are grouped by the options that rows of one batch share.
    """
    groups: dict[BatchOptions, list[Row]] = {}
    for request in (*(example.request for example in served.manifest.examples), *probes):
        plan = served.codec.plan(body_of(served, request))
        if plan.signature == name:
            rows = [plan.encode(item).row for item in plan.items]
            groups.setdefault(plan.batch_options, []).extend(rows)
    if not groups:
        raise errors.GoldenFailed(f"examples: none calls signature {name!r}")
    inputs = served.manifest.signatures[name].inputs
    least = served.manifest.limits.sequence_least or 1
    for rows in groups.values():
        longest = max(rows, key=lambda row: row.length)
        rows += [_cut(longest, n, inputs) for n in {1, longest.length // 2} if least <= n < longest.length]
    return groups


def _cut(row: Row, length: int, tensors: Mapping[str, Tensor]) -> Row:
    """Return a row's first steps, and the first words of its texts."""
    values = {
        n: v[:length]
        if "time" in tensors[n].axes
        else _words(v, length)
        if tensors[n].dtype == "string"
        else v
        for n, v in row.inputs.items()
    }
    return Row(values, length)


def _words(text: Array, count: int) -> Array:
    return np.array(b" ".join(text.item().split()[:count]), np.object_)


def excess(wanted: Array, got: Array, tolerance: float) -> float | None:
    """Return the largest difference if any is above the tolerance, else None; infinite between texts."""
    if wanted.shape != got.shape:
        return float("inf")
    if wanted.dtype == np.object_:
        return None if np.array_equal(wanted, got) else float("inf")
    exact = wanted.astype(np.float64)
    off = np.abs(exact - got.astype(np.float64))
    allowed = tolerance + tolerance * np.abs(exact)
    return None if (off <= allowed).all() else float(off.max())


def amount(off: float) -> str:
    """Return a difference as a message shows it, behind `changes` or `is off`."""
    return f"by {off:.3g}" if np.isfinite(off) else "altogether"


def apart(loaded: Pipeline, name: str, row: Row, wanted: Outputs, got: Outputs) -> tuple[str, float] | None:
    """Return the first output of a row that is not as wanted, and by how much; None if there is none."""
    manifest = loaded.served.manifest
    unread = _unread(manifest, row)
    ids_differ = "ids" in wanted and manifest.decode is not None and not _same_ids(wanted, got)
    for output, tensor in manifest.signatures[name].outputs.items():
        if output in unread or (ids_differ and output != "scores"):
            continue  # a tie: two hypotheses whose scores are as close as the tolerance
        pair = [_real(manifest, outputs, output, tensor.axes[1:], row) for outputs in (wanted, got)]
        off = excess(pair[0], pair[1], loaded.tolerance)
        if off is not None:
            return output, off
    return None


def _unread(manifest: Manifest, row: Row) -> set[str]:
    """Return outputs of a translator that are no answer to the row, or are compared by another one.

    The attention, unless it is asked for. The most attended place may be one of two as good as equal; the
    weights that it is the largest of are in the coverage.
    """
    options = {option.option: name for name, option in manifest.options.items()}
    asks = options.get("alignment")
    return set() if asks is None else {"attended"} | (set() if row.inputs[asks] else {"attention"})


def _same_ids(wanted: Outputs, got: Outputs) -> bool:
    if not np.array_equal(wanted["lengths"], got["lengths"]):
        return False
    longest = int(wanted["lengths"].max())
    return np.array_equal(wanted["ids"][:, :longest], got["ids"][:, :longest])


def _real(manifest: Manifest, outputs: Outputs, name: str, axes: Sequence[str], row: Row) -> Array:
    """Cut an output to what is real: decoded steps, source steps, or a sequence's own steps."""
    value = outputs[name]
    if isinstance(value, bytes):  # NumPy's strings end at their last byte that is not 0
        value = np.array(value, np.object_)
    for place, axis in enumerate(axes):
        moved = np.moveaxis(value, place, 0)
        if axis == "time" and manifest.decode is not None:
            moved = moved[: int(outputs["lengths"].max())]
        elif axis in ("time", "source"):
            moved = real_steps(moved, row.length, manifest.padding)
        value = np.moveaxis(moved, 0, place)
    return value
