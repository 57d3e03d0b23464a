"""How a version is taken from event to event: events to inputs of `step`, its outputs to answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from seqserve.service import errors
from seqserve.service.contract.events import (
    Events,
    count,
    features_of,
    has_timestamps,
    joined,
    part,
    plain_events,
)
from seqserve.service.contract.features import OUT_OF_RANGE, UNSEEN_EVENT_TYPE, Encoded, SequenceEncoder
from seqserve.service.contract.items import PredictBody, Prediction, WarningDetail
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    STEP_SIGNATURE,
    Categories,
    Elapsed,
    Manifest,
    Numbers,
    Signature,
)
from seqserve.service.contract.padding import Row
from seqserve.service.contract.texts import TextHead
from seqserve.service.contract.values import MOST_DETAILS
from seqserve.service.core.predict import PredictCodec, PredictPlan
from seqserve.service.core.types import Encoded as EncodedItem, Outputs, Served

MOST_PLANS = 64
"""Plans that are kept of one version: callers choose the options."""
WARNINGS = (UNSEEN_EVENT_TYPE, OUT_OF_RANGE)
"""In the order in which `SequenceEncoder.encode` has them."""
Details = tuple[WarningDetail, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What an answer is to have, as `PredictBody` has it."""

    top_k: int = 1
    heads: tuple[str, ...] | None = None

    def body(self, sequences: list[dict[str, Any]]) -> PredictBody:
        """Return a body that asks for it."""
        heads = None if self.heads is None else list(self.heads)
        return PredictBody.model_construct(sequences=sequences, top_k=self.top_k, heads=heads, seed=None)


@dataclass(frozen=True, slots=True)
class Steps:
    """Some events as a version reads them.

    Args:
        rows: the inputs of each but for the state.
        details: where warnings come from, by the events' numbers in the session.
    """

    rows: Sequence[Row]
    details: Details


class Stepper:
    """Steps one version."""

    def __init__(self, served: Served) -> None:
        """Raises StepUnsupported, with why the version cannot be stepped."""
        manifest, codec = served.manifest, served.codec
        why = next(_hindrances(manifest), None)
        if why is not None or not isinstance(codec, PredictCodec):
            who = f"model {served.model!r} version {served.version}"
            raise errors.StepUnsupported(f"{who} has no sessions: {why or 'it does not predict'}")
        self._manifest = manifest
        self._codec = codec
        self._encoder = SequenceEncoder(manifest, PREDICT_SIGNATURE)
        self._plans: dict[Options, PredictPlan] = {}
        self._signature = manifest.signatures[STEP_SIGNATURE]
        self._longest = manifest.limits.sequence_steps or manifest.buckets[-1]

    def start(self) -> Outputs:
        """Return the state before any event: zeros, (units) each."""
        shapes = self._signature.state or {}
        return {name: np.zeros(shape[-1], np.float32) for name, shape in shapes.items()}

    def plan(self, options: Options) -> PredictPlan:
        """Check what an answer is to have; raises InvalidArgument with a path inside the body."""
        if options not in self._plans:
            if len(self._plans) == MOST_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[options] = self._codec.plan(options.body([]))
        return self._plans[options]

    def read(self, features: Mapping[str, Any]) -> tuple[Events, Encoded]:
        """Return a caller's events in their plain form, and encoded as if there were none before.

        Raises:
            InvalidArgument, with a path inside them.
        """
        encoded = self._encoder.encode(features)
        return plain_events(features, self._manifest), encoded

    def steps(self, before: Events, events: Events, encoded: Encoded | None = None) -> Steps:
        """Encode events that follow others.

        Args:
            encoded: what `read` has made of them.

        Raises:
            InvalidArgument, with a path inside `events`; SequenceTooLong: they and those before are too many.
        """
        first, added = count(before), count(events)
        if first + added > self._longest:
            message = f"{first} events and {added} more are more than the model's limit of {self._longest}"
            raise errors.SequenceTooLong(message)
        encoded, skipped = encoded or self._encoder.encode(features_of(events)), 0
        if first and has_timestamps(events):  # what the first of them becomes depends on the one before
            encoded, skipped = self._after(joined(part(before, first - 1), events)), 1
        details = tuple(_at(detail, first - skipped) for detail in encoded.details)
        rows = [self._row(encoded, place) for place in range(skipped, encoded.row.length)]
        return Steps(rows, tuple(detail for detail in details if (detail.step or 0) >= first))

    def decode(self, plan: PredictPlan, details: Details, outputs: Outputs) -> Prediction:
        """Return the answer after the last event; raises BackendFailed."""
        shown: list[WarningDetail] = []
        for warning in WARNINGS if details else ():
            shown += [detail for detail in details if detail.warning == warning][:MOST_DETAILS]
        source = Encoded(Row({}, 1), tuple(shown))
        return plan.decode(EncodedItem(source.row, source, source.warnings), outputs)

    def merged(self, details: Details) -> Details:
        """Return the first steps of each warning and feature, ordered as those of a whole sequence."""
        if not details:
            return ()
        names, kept = list(self._manifest.features), dict[tuple[int, int], list[WarningDetail]]()
        for detail in details:
            place = WARNINGS.index(detail.warning), names.index(detail.feature)
            kept.setdefault(place, []).append(detail)
        return tuple(detail for place in sorted(kept) for detail in kept[place][:MOST_DETAILS])

    def kept(self, outputs: Outputs) -> Outputs:
        """Return what a session keeps of a step's outputs, free of the batch that they are a part of."""
        names = {*self._manifest.heads, *(self._signature.state or ())}
        return {name: np.array(value) for name, value in outputs.items() if name in names}

    def _after(self, events: Events) -> Encoded:
        """Encode events of which the first has been taken before."""
        try:
            return self._encoder.encode(features_of(events))
        except errors.InvalidArgument as error:
            path = tuple(max(0, part - 1) if isinstance(part, int) else part for part in error.path)
            raise type(error)(error.message, path=path) from error

    def _row(self, encoded: Encoded, place: int) -> Row:
        return Row({name: values[place] for name, values in encoded.row.inputs.items()}, 1)


class Steppers:
    """The stepper of each version that has been stepped and is still there."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Served, Stepper] = WeakKeyDictionary()

    def of(self, served: Served) -> Stepper:
        """Return a version's stepper; raises StepUnsupported."""
        stepper = self._known.get(served)
        if stepper is None:
            stepper = self._known[served] = Stepper(served)
        return stepper


def _at(detail: WarningDetail, first: int) -> WarningDetail:
    return WarningDetail(detail.warning, detail.feature, (detail.step or 0) + first, detail.value)


def _hindrances(manifest: Manifest) -> Iterator[str]:
    """Yield why a sequence model cannot be stepped."""
    signature = manifest.signatures.get(STEP_SIGNATURE)
    late = [n for n, f in manifest.features.items() if isinstance(f, Elapsed) and f.origin == "last"]
    if late:
        yield f"feature {late[0]!r} is the time up to the last event, which is not known before it"
    if signature is None or not signature.state:
        yield f"it has no signature {STEP_SIGNATURE!r} with a state"
        return
    yield from _hindrances_of_features(manifest, signature)
    for name, head in manifest.heads.items():
        is_numbers = not isinstance(head, TextHead)
        if head.per == "step" or not is_numbers or name not in signature.outputs:
            yield f"head {name!r} is not one that a step answers"
    if (manifest.limits.sequence_least or 1) > 1:
        yield f"it needs {manifest.limits.sequence_least} events before it answers"


def _hindrances_of_features(manifest: Manifest, signature: Signature) -> Iterator[str]:
    whole, state = manifest.signatures[PREDICT_SIGNATURE].inputs, signature.state or {}
    for name in signature.inputs:
        if name not in manifest.features and name not in state:
            yield f"input {name!r} of a step is no feature and no state"
    for name, feature in manifest.features.items():
        if not isinstance(feature, Categories | Numbers | Elapsed) or name not in manifest.stepped:
            yield f"feature {name!r} has no value an event"
        elif name not in signature.inputs:
            yield f"feature {name!r} is no input of a step"
        elif signature.inputs[name].axes != tuple(axis for axis in whole[name].axes if axis != "time"):
            yield f"feature {name!r} has other axes in a step"
