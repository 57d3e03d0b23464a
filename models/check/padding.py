"""Padding is invisible: a row's outputs are the same alone, in any bucket, and beside any neighbours."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seqserve.models.check.pipeline import TOLERANCE, Pipeline
from seqserve.models.check.rows import Call, amount, answered, answered_alone, apart, example_rows
from seqserve.service.contract.manifest import Manifest
from seqserve.service.contract.padding import Row
from seqserve.service.core.types import Outputs
from seqserve.service.errors import FailedPrecondition


class PaddingLeak(FailedPrecondition):
    """An output of the model depends on padding or on neighbours; the message names it."""

    reason = "PADDING_LEAK"


async def check_padding(loaded: Pipeline, name: str, probes: Sequence[dict[str, Any]] = ()) -> str:
    """Compare each row alone and unpadded with itself padded, among neighbours, and beside garbage.

    With one bucket, a fixed time axis, even a row alone is padded: then neighbours and garbage are tested.

    Raises:
        PaddingLeak: naming the output, the case and by how much.
    """
    kinds: Counter[str] = Counter()
    groups = example_rows(loaded.served, name, probes)
    for options, rows in groups.items():
        kinds += await _check_rows(loaded, Call(name, options), rows)
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    count = sum(map(len, groups.values()))
    held = f", held to the GPU's tolerance of {loaded.tolerance:g}" if loaded.tolerance != TOLERANCE else ""
    buckets = loaded.served.manifest.buckets
    if not buckets:
        return f"signature {name!r}: neighbours change nothing for {count} texts ({shown} times{held})"
    if len(buckets) == 1:
        return (
            f"signature {name!r}: neighbours change nothing for {count} rows ({shown} times{held}); "
            f"every row has the one length {buckets[0]}, so it is not compared with itself unpadded"
        )
    return f"signature {name!r}: padding is invisible for {count} rows ({shown} times{held})"


async def _check_rows(loaded: Pipeline, call: Call, rows: Sequence[Row]) -> Counter[str]:
    """Check rows that may share a batch; returns how often each kind of case was tried."""
    manifest = loaded.served.manifest
    alone = [await answered_alone(loaded, call, row) for row in rows]
    kinds: Counter[str] = Counter()
    for case in _cases(rows, manifest):
        batch = [rows[place] for place in case.places]
        outputs = await answered(loaded, call, batch, case.length, case.garbage)
        for place, got in zip(case.places, outputs, strict=True):
            how = f"{case.kind} at length {case.length}"
            _compare(loaded, call.signature, rows[place], alone[place], got, how)
            kinds[case.kind] += 1
    return kinds


@dataclass(frozen=True, slots=True)
class Case:
    """One way to send rows, given by their places: its name, the padded length, with garbage or not."""

    kind: str
    places: tuple[int, ...]
    length: int
    garbage: bool = False


def _cases(rows: Sequence[Row], manifest: Manifest) -> Iterator[Case]:
    """Yield every case that is tested; among neighbours each row is first, last and in between."""
    for bucket in manifest.buckets or (max(row.length for row in rows),):
        fitting = tuple(place for place, row in enumerate(rows) if row.length <= bucket)
        for place in fitting:
            if len(manifest.buckets) > 1:
                yield Case("padded", (place,), bucket)
            if manifest.mask_input is not None:
                yield Case("with garbage in the padding", (place,), bucket, garbage=True)
        for turn in range(len(fitting)) if len(fitting) > 1 else ():
            yield Case("among neighbours", (*fitting[turn:], *fitting[:turn]), bucket)


def _compare(loaded: Pipeline, name: str, row: Row, alone: Outputs, got: Outputs, how: str) -> None:
    changed = apart(loaded, name, row, alone, got)
    if changed is not None:
        output, off = changed
        raise PaddingLeak(f"output {output!r} of {name!r} changes {amount(off)} when a row is {how}")
