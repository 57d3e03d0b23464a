"""Which features a model masks by, found by trial: a step of padding put in changes no other answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from seqserve.models.bring.contract import Contract
from seqserve.models.bring.trial import Function, run
from seqserve.models.bring.trial_inputs import made_up, words_of
from seqserve.models.config import ConfigInvalid
from seqserve.service.contract.features import NO_FILES, Files, SequenceEncoder
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Manifest
from seqserve.service.contract.padding import Array, Row, bucket_of, real_steps

MOST_COMPANIONS = 3
"""Features beside the masked one that are tried to share its steps."""
Pads = Mapping[str, float]
"""By masked feature, its pad value."""


@dataclass(frozen=True, slots=True)
class Masks:
    """The masked features, and which features share their steps; nothing of it where no mask was found.

    `joint`: a step is dropped only where all of them have their pad value.
    """

    pads: Pads = field(default_factory=dict)
    streams: Sequence[tuple[str, ...]] = ()
    joint: bool = False


def masked_manifest(
    manifests: Sequence[Manifest], function: Function, contract: Contract, files: Files = NO_FILES
) -> Manifest:
    """Return the manifest that says what the model masks by; the last one where it masks by nothing.

    Args:
        manifests: the same but for their pad values, the likeliest first.

    Raises:
        ConfigInvalid: the contract says that it masks by several features, and it does not.
    """
    if len(contract.masks) == 1 and len(manifests) == 1:
        masks = Masks(_pads(manifests[0], contract.masks))
    else:
        masks = _found(manifests, function, contract, files)
    if len(contract.masks) > 1 and set(masks.pads) != set(contract.masks):
        found = ", ".join(masks.pads) or "none"
        raise ConfigInvalid(
            f"mask_from: {list(contract.masks)}, but the features whose pad values make the model drop a "
            f"step are: {found}; is a pad_value missing?"
        )
    if not masks.pads and not contract.masks:
        return manifests[-1]
    return _with(manifests[-1], masks if masks.pads else Masks(_pads(manifests[-1], contract.masks)))


def _pads(manifest: Manifest, names: Sequence[str]) -> Pads:
    tensors = manifest.signatures[PREDICT_SIGNATURE].inputs
    return {name: tensors[name].pad_value or 0 for name in names}


def _with(manifest: Manifest, masks: Masks) -> Manifest:
    signature = manifest.signatures[PREDICT_SIGNATURE]
    inputs = {
        name: tensor.model_copy(update={"pad_value": masks.pads[name]}) if name in masks.pads else tensor
        for name, tensor in signature.inputs.items()
    }
    called = signature.model_copy(update={"inputs": inputs})
    names = tuple(masks.pads)
    update = {
        "signatures": {**manifest.signatures, PREDICT_SIGNATURE: called},
        "mask": "derived",
        "mask_from": names if len(names) > 1 else names[0],
        "mask_where": "all" if masks.joint else None,
        "streams": tuple(masks.streams) if len(masks.streams) > 1 else None,
    }
    return manifest.model_copy(update=update)


def _found(manifests: Sequence[Manifest], function: Function, contract: Contract, files: Files) -> Masks:
    """Try each feature alone, then features with steps of their own, then features together."""
    limits = manifests[0].limits
    most = [limit - 1 for limit in (limits.sequence_steps, limits.text_pieces) if limit is not None]
    length = min([6, *most]) if most else 0
    if length < 2:
        return Masks()
    trials = [_Trial(manifest, function, contract, length, files) for manifest in manifests]
    stepped = contract.stepped
    pads = _maskers(trials, contract.masks or stepped, stepped)
    per_step = any(head.per == "step" for head in contract.heads.values())
    if pads or len(stepped) < 2 or len(contract.masks) == 1:
        return Masks(pads)
    streams = Masks() if per_step else _streams(trials, stepped)
    return streams if streams.pads else _together(trials, contract.masks or stepped, stepped)


def _together(trials: Sequence["_Trial"], names: Sequence[str], stepped: Sequence[str]) -> Masks:
    """Find features that must all have their pad value: Keras joins the masks of layers in this way."""
    for trial in trials:
        if not trial.drops(names, stepped):
            continue
        for name in names:
            fewer = [other for other in names if other != name]
            if len(fewer) > 1 and trial.drops(fewer, stepped):
                names = fewer
        return Masks(_pads(trial.manifest, names), joint=True)
    return Masks()


def _streams(trials: Sequence["_Trial"], stepped: Sequence[str]) -> Masks:
    """Find features that are masked without regard to others: a step of padding may be theirs alone."""
    left, pads, streams = list(stepped), dict[str, float](), list[tuple[str, ...]]()
    for name in stepped:
        if name not in left:
            continue
        for stream in _companies(name, left):
            if _maskers(trials, (name,), stream):
                pads |= _maskers(trials, stream, stream)
                streams.append(stream)
                left = [other for other in left if other not in stream]
                break
    return Masks(pads, [*streams, tuple(left)] if left else streams) if streams else Masks()


def _companies(name: str, left: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the feature alone, then with others, the fewest first."""
    others = [other for other in left if other != name]
    for count in range(min(len(others), MOST_COMPANIONS) + 1):
        for chosen in combinations(others, count):
            yield tuple(other for other in left if other == name or other in chosen)


def _maskers(trials: Sequence["_Trial"], names: Sequence[str], stream: Sequence[str]) -> dict[str, float]:
    """Return those of the features whose pad value alone makes the model drop a step of the stream."""
    found: dict[str, float] = {}
    tried = set()
    for trial in trials:
        for name, pad in _pads(trial.manifest, names).items():
            if name not in found and (name, pad) not in tried and trial.drops((name,), stream):
                found[name] = pad
            tried.add((name, pad))
    return found


class _Trial:
    """Made-up rows of one manifest, and what the model answers for them with a step of padding put in."""

    def __init__(
        self, manifest: Manifest, function: Function, contract: Contract, length: int, files: Files
    ) -> None:
        self.manifest = manifest
        self._function = function
        random, encoder = np.random.default_rng(1), SequenceEncoder(manifest, PREDICT_SIGNATURE, files)
        words = words_of(manifest, encoder, contract.examples)
        self._rows = [row for _, row in made_up(manifest, encoder, length, random, words)][:5]
        self._before: dict[int, dict[str, Array]] = {}  # by padded length

    def drops(self, names: Sequence[str], stream: Sequence[str]) -> bool:
        """Tell whether a step of the features' pad values, put into the stream, changes no other answer."""
        manifest = self.manifest
        cases = [(number, at) for number in range(len(self._rows)) for at in (0.0, 0.5, 1.0)]
        wider = [self._wider(self._rows[number], names, stream, at) for number, at in cases]
        length = bucket_of(max(row.length for row in wider), manifest.buckets)
        if length not in self._before:
            self._before[length] = run(manifest, self._function, self._rows, length)
        after = run(manifest, self._function, wider, length)
        return all(
            self._same(head, number, at, self._before[length][head][number], after[head][place])
            for place, (number, at) in enumerate(cases)
            for head in after
        )

    def _same(self, head: str, number: int, at: float, one: Any, other: Any) -> bool:
        """Compare a row's output with that of the row that has one step more."""
        manifest, steps = self.manifest, self._rows[number].length
        if manifest.heads[head].per == "step":
            one = real_steps(one, steps, manifest.padding)
            other = np.delete(real_steps(other, steps + 1, manifest.padding), int(at * steps), axis=0)
        return bool(one == other if isinstance(one, bytes) else np.allclose(one, other, rtol=1e-5, atol=1e-5))

    def _wider(self, row: Row, names: Sequence[str], stream: Sequence[str], at: float) -> Row:
        inputs = {n: _with_one_more(v, at) if n in stream else v for n, v in row.inputs.items()}
        for name, pad in _pads(self.manifest, names).items():
            inputs[name][int(at * (len(inputs[name]) - 1))] = pad
        return Row(inputs, row.length + 1)


def _with_one_more(values: Array, at: float) -> Array:
    """Return (time, …) values with the one at a place, 0 to 1 of the whole, put in twice."""
    place = int(at * len(values))
    return np.insert(values, place, values[place - 1], axis=0)
