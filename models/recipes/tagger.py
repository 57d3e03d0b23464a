"""Tags of a case's steps: which activity each event was, predicted from the times of the events alone.

Why this task: some records keep when something happened but not what (a door, a machine's counter, a column
lost in a migration). Every step's label comes from the log, so nothing is labelled by hand. Most of what is
known of a step lies in its neighbours on both sides, which is what a tagger is for; a tag that follows from
the next step alone would not need one. So waits are not the tags: from the activities, the wait after one is
predicted no better by the whole sequence than by two neighbours (measured on bpi_12_w).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from seqserve.models.config import LENGTHS, ConfigInvalid, TaggerConfig, TaggerData
from seqserve.models.data.batches import scale_of
from seqserve.models.data.cases import Case
from seqserve.models.draft import Draft, clearest, margin
from seqserve.models.manifest import Identity, build_manifest, predict_signatures, row_tensor
from seqserve.models.networks.tagger import Tagger
from seqserve.models.recipes.calibration import calibrate, probabilities
from seqserve.models.recipes.labelled import (
    LabelledRow,
    RealAccuracy,
    batch_of,
    batch_signature,
    logits_of,
    sparse_cross_entropy,
    unsorted,
    validation_batches,
)
from seqserve.models.recipes.profile import length_percentiles
from seqserve.models.train import Rows, Task, schedule
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Elapsed,
    Feature,
    Head,
    Manifest,
    MaskInput,
    Softmax,
)
from seqserve.service.contract.padding import Array
from seqserve.service.contract.values import UNIT_SECONDS

BANDS = 8
JUDGING_PARTS = 5
NOTHING = -1


def times_of(case: Case, data: TaggerData) -> dict[str, list[float]]:
    """Return a case as a caller would send it: the time since the previous event, 0 for the first."""
    return {data.elapsed: (np.diff(case.seconds, prepend=0.0) / UNIT_SECONDS[data.unit]).tolist()}


class TaggerRecipe:
    """One configuration, its cases encoded, and the network to train on them."""

    def __init__(self, config: TaggerConfig, train: Sequence[Case], held_out: Sequence[Case]) -> None:
        self._config = config
        self._longest = config.serving.buckets[-1]
        self._train = [self._cut(case) for case in train]
        self._labels = tuple(sorted({event for case in self._train for event in case.events}))
        self._held_out = [c for c in map(self._cut, held_out) if set(c.events) <= set(self._labels)]
        if not self._train or not self._held_out:
            raise ConfigInvalid("no validation case has only activities that training cases have")
        if len(self._labels) < 2:
            raise ConfigInvalid(f"every event is {self._labels[0]!r}: there is nothing to tell apart")
        self._scale = self._measured_scale()
        self._temperature: float | None = None
        self._encoder = SequenceEncoder(self._manifest(1, {}), PREDICT_SIGNATURE)
        self._rows = [self._encode(case) for case in self._train]
        self._held_rows = [self._encode(case) for case in self._held_out]
        self._network = self._build()

    @property
    def task(self) -> Task:
        """The network, and batches of ((elapsed, lengths), tags, weights), one tag a step."""
        return Task(
            network=self._network,
            draw=lambda _: Rows(
                unsorted(self._rows), lambda indices: batch_of([self._rows[i] for i in indices])
            ),
            validation=validation_batches(self._held_rows, self._config.training.batch_size),
            signature=batch_signature(1, per_step=True),
        )

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Fit the temperature on the validation steps; whole cases judge it."""
        logits = logits_of(self._network, self._held_rows)
        truth = np.concatenate([row.target for row in self._held_rows])
        parts = np.repeat(np.arange(len(logits)) % JUDGING_PARTS, [len(row) for row in logits])
        calibration = calibrate(np.concatenate(logits), truth, parts)
        self._temperature = calibration.temperature
        console.print(str(calibration), highlight=False, soft_wrap=True)
        return {"calibration": calibration.as_card()}

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the signature, and the manifest with the temperature, if it was fitted."""
        data = self._config.data
        manifest = self._manifest(version, {**card, "baseline": baseline(self._train, self._held_out)})

        def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            values = inputs[data.elapsed][:, :, None]  # (batch, time, 1)
            return {data.head: self._network((values, inputs[LENGTHS]), training=False)}

        logits = logits_of(self._network, self._held_rows)
        margins = [margin(probabilities(row, self._temperature)) for row in logits]
        examples = [self._held_out[at] for at in clearest([len(row) for row in logits], margins)]
        requests = [{"sequences": [times_of(case, data)]} for case in examples]
        return Draft(self._network, {PREDICT_SIGNATURE: predict}, manifest, {}, requests)

    def _cut(self, case: Case) -> Case:
        return Case(case.events[: self._longest], case.seconds[: self._longest])

    def _measured_scale(self) -> float:
        """Return the deviation of log1p of the times between events, in the unit, over the training cases."""
        steps = np.concatenate([np.diff(case.seconds) for case in self._train])
        logs = np.log1p(steps / UNIT_SECONDS[self._config.data.unit])
        return float(scale_of(logs)) if len(logs) else 1.0

    def _encode(self, case: Case) -> LabelledRow:
        elapsed = self._encoder.encode(times_of(case, self._config.data)).row.inputs[
            self._config.data.elapsed
        ]
        tags = np.array([self._labels.index(event) for event in case.events], np.int32)  # (time)
        return LabelledRow(elapsed[:, None], tags)

    def _build(self) -> Tagger:
        training = self._config.training
        network = Tagger(1, len(self._labels), **self._config.model.model_dump())
        optimizer = keras.optimizers.Adam(schedule(training, len(self._rows)), clipnorm=1.0)
        accuracy = RealAccuracy(name="accuracy")
        network.compile(optimizer, sparse_cross_entropy(), weighted_metrics=[accuracy])
        return network

    def _manifest(self, version: int, card: dict[str, Any]) -> Manifest:
        config, data = self._config, self._config.data
        elapsed = Elapsed(unit=data.unit, transform="log1p", scale=self._scale)
        tags = Softmax(labels=self._labels, scores="logits", temperature=self._temperature, per="step")
        features: dict[str, Feature] = {data.elapsed: elapsed}
        heads: dict[str, Head] = {data.head: tags}
        return build_manifest(
            Identity(config.name, version, config.serving.buckets, card, self._profile()),
            predict_signatures(features, heads, {LENGTHS: row_tensor("int32")}),
            features=features,
            heads=heads,
            mask=MaskInput(input=LENGTHS),  # 0 is a real value: two events within one second
        )

    def _profile(self) -> dict[str, Any]:
        """Describe the training cases, for live traffic to be measured against."""
        data = self._config.data
        longest = max(max(times_of(case, data)[data.elapsed]) for case in self._train)
        lengths = [len(case.events) for case in self._train]
        events = [event for case in self._train for event in case.events]
        return {
            "sequences": len(self._train),
            "steps": length_percentiles(lengths),
            "labels": {self._config.data.head: {label: events.count(label) for label in self._labels}},
            "ranges": {data.elapsed: [[0.0, longest]]},
        }


def baseline(train: Sequence[Case], held_out: Sequence[Case]) -> dict[str, Any]:
    """Score what a tagger must beat: the commonest activity for the times before and after an event.

    The times fall into `BANDS` bands, each of which holds equally many of the training cases' times.
    """
    steps = np.concatenate([np.diff(case.seconds) for case in train])
    edges = np.unique(np.quantile(steps, np.arange(1, BANDS) / BANDS)) if len(steps) else steps
    seen: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for key, activity in _between(train, edges):
        seen[key][activity] += 1
    commonest = Counter(event for case in train for event in case.events).most_common(1)[0][0]
    best = {key: counts.most_common(1)[0][0] for key, counts in seen.items()}
    pairs = [(activity, best.get(key, commonest)) for key, activity in _between(held_out, edges)]
    labels = sorted({truth for truth, _ in pairs})
    f1 = np.mean([_f1(pairs, label) for label in labels])
    accuracy = np.mean([truth == said for truth, said in pairs])
    return {"steps": len(pairs), "accuracy": round(float(accuracy), 4), "macro_f1": round(float(f1), 4)}


def _between(cases: Sequence[Case], edges: Array) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield each event with the bands of the times before and after it; `NOTHING` at a case's ends."""
    for case in cases:
        bands = [NOTHING, *np.searchsorted(edges, np.diff(case.seconds), side="right").tolist(), NOTHING]
        yield from zip(pairwise(bands), case.events, strict=True)


def _f1(pairs: Sequence[tuple[str, str]], label: str) -> float:
    right = sum(truth == said == label for truth, said in pairs)
    return 2 * right / sum((truth == label) + (said == label) for truth, said in pairs)
