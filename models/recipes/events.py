"""Event sequences: cases to rows, an `EventModel` trained on every step, and its signature.

A training row is a case. Where elapsed time runs up to the last event it is a prefix of one, because the
times in a prefix are not those in the whole case.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from seqserve.models.config import STATE, ConfigInvalid, EventsConfig, EventsData, TaggerData
from seqserve.models.data.batches import pad_right, scale_of
from seqserve.models.data.cases import END, Case, read_log
from seqserve.models.data.journeys import EVENTS, journeys
from seqserve.models.draft import Draft, clearest, margin
from seqserve.models.manifest import Identity, build_manifest, predict_signatures, row_tensor
from seqserve.models.networks.events import PAD, EventModel
from seqserve.models.recipes.profile import length_percentiles
from seqserve.models.train import Batch, Rows, Task, schedule
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    STEP_SIGNATURE,
    Categories,
    Elapsed,
    Feature,
    Head,
    Manifest,
    Numeric,
    Signature,
    Softmax,
    Tensor,
)
from seqserve.service.contract.values import UNIT_SECONDS

TRAINING_JOURNEYS = 12_000
HELD_OUT_JOURNEYS = 1_500
VALIDATION_SHARE = 0.1
CANDIDATES = 300
"""Held-out cases that examples are chosen from."""


def read_cases(data: EventsData | TaggerData, path: Path | None, split: str) -> list[Case]:
    """Return the cases of a split, `train` or `val`; a log's last tenth is `val`.

    Raises:
        ConfigInvalid: the data lies in a file and no path was given, or it cannot be read.
    """
    if data.kind == "journeys":
        return journeys(*((TRAINING_JOURNEYS, 1) if split == "train" else (HELD_OUT_JOURNEYS, 2)))
    if path is None:
        raise ConfigInvalid("data.kind is log: give --data FILE.csv")
    cases = read_log(path, data.file)
    first = int(len(cases) * (1 - VALIDATION_SHARE))
    return cases[:first] if split == "train" else cases[first:]


def features_of(case: Case, data: EventsData) -> dict[str, list[Any]]:
    """Return a case as a caller would send it: labels, and time since the previous event or to the last."""
    seconds = np.asarray(case.seconds)
    elapsed = np.diff(seconds, prepend=0.0) if data.origin == "previous" else seconds[-1] - seconds
    return {data.event: list(case.events), data.elapsed: (elapsed / UNIT_SECONDS[data.unit]).tolist()}


class EventsRecipe:
    """One configuration, its cases encoded, and the network to train on them."""

    def __init__(self, config: EventsConfig, train: Sequence[Case], held_out: Sequence[Case]) -> None:
        self._config = config
        self._cases, self._held_out = train, held_out
        if len(self._cases) < 2 or not self._held_out:
            raise ConfigInvalid(f"{len(self._cases)} training cases are too few: at least ten are needed")
        self._labels = self._known_labels()
        if END in self._labels:
            raise ConfigInvalid(f"an activity is named {END}, which is the answer for the end of a case")
        self._answers = {label: place for place, label in enumerate((*self._labels, END))}
        self._examples_kept = self._examples()  # before training, so that a fault costs nothing
        self._scales = self._measured_scales()
        self._encoder = SequenceEncoder(self._manifest(1, {}), PREDICT_SIGNATURE)
        self._rows = self._rows_of(self._cases)
        self._network = self._build()

    @property
    def task(self) -> Task:
        """The network, and batches of ((events, elapsed), targets, weights), one entry a step.

        Rows are encoded when their batch is: all prefixes of all cases would not fit in memory.
        """
        size = self._config.training.batch_size
        held_out = self._rows_of([case for case in self._held_out if self._is_known(case)])
        ids, reals = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        heads = {"next_event": ids, "to_next": reals, "to_end": reals}
        return Task(
            network=self._network,
            draw=lambda _: Rows(
                [steps for _, steps in self._rows],
                lambda indices: self._batch([self._rows[i] for i in indices]),
            ),
            validation=[self._batch(held_out[at : at + size]) for at in range(0, len(held_out), size)],
            signature=((ids, reals), heads, dict.fromkeys(heads, reals)),
        )

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Leave the scores as they are: no head of these has a temperature or an interval."""
        return {}

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the signatures, and the manifest.

        One answers at the last real step. The other advances by one event, and exists where elapsed time is
        since the previous event: the time up to a later event is not known yet.
        """
        manifest = self._manifest(version, card)
        names = dict(zip(("next_event", "to_next", "to_end"), manifest.heads, strict=True))
        data = self._config.data

        def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            answers = self._network.last(inputs[data.event], inputs[data.elapsed])
            return {names[head]: value for head, value in answers.items()}

        def step(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            given = [inputs[name] for name in STATE]
            answers, states = self._network.step(inputs[data.event], inputs[data.elapsed], given)
            outputs = {names[head]: value for head, value in answers.items()}
            return outputs | dict(zip(STATE, states, strict=True))

        functions = {PREDICT_SIGNATURE: predict, STEP_SIGNATURE: step}
        offered = {name: function for name, function in functions.items() if name in manifest.signatures}
        requests = [{"sequences": [sequence]} for sequence in self._clearest()]
        return Draft(self._network, offered, manifest, {}, requests)

    def _known_labels(self) -> tuple[str, ...]:
        if self._config.data.kind == "journeys":
            return EVENTS
        return tuple(sorted({event for case in self._cases for event in case.events}))

    def _is_known(self, case: Case) -> bool:
        return set(case.events) <= set(self._labels)

    def _measured_scales(self) -> dict[str, tuple[float, float]]:
        """Return mean and deviation of log1p of each time, in the unit, over the training cases."""
        unit = UNIT_SECONDS[self._config.data.unit]
        steps = np.concatenate([np.diff(case.seconds) for case in self._cases]) / unit
        to_end = np.concatenate([case.seconds[-1] - np.asarray(case.seconds) for case in self._cases]) / unit
        logs = {"to_next": np.log1p(steps), "to_end": np.log1p(to_end)}
        if not len(steps):
            raise ConfigInvalid("every training case has one event: there is nothing to predict")
        return {name: (float(x.mean()), float(scale_of(x))) for name, x in logs.items()}

    def _rows_of(self, cases: Sequence[Case]) -> list[tuple[Case, int]]:
        """Return (case, steps) of each row, cut at the longest bucket; see the module's docstring."""
        longest = self._config.serving.buckets[-1]
        steps = [(case, min(len(case.events), longest)) for case in cases]
        if self._config.data.origin == "previous":
            return steps
        return [(case, n) for case, most in steps for n in range(1, most + 1)]

    def _batch(self, rows: Sequence[tuple[Case, int]]) -> Batch:
        encoded = [self._encode(case, steps) for case, steps in rows]
        padded = {name: pad_right([row[name] for row in encoded], 0) for name in encoded[0]}  # (batch, time)
        targets = {name: padded[name] for name in ("next_event", "to_next", "to_end")}
        weights = {"next_event": padded["asked"], "to_next": padded["followed"], "to_end": padded["asked"]}
        return (padded["events"], padded["elapsed"]), targets, weights

    def _encode(self, case: Case, steps: int) -> dict[str, np.ndarray]:
        """Return inputs, targets and weights of a case's first steps, one entry a step."""
        data = self._config.data
        cut = Case(case.events[:steps], case.seconds[:steps])
        inputs = self._encoder.encode(features_of(cut, data)).row.inputs
        following = [*case.events[1 : steps + 1], END][:steps]
        asked = np.ones(steps) if data.origin == "previous" else np.arange(steps) == steps - 1
        followed = asked * (np.arange(steps) < len(case.events) - 1)
        return {
            "events": inputs[data.event],
            "elapsed": inputs[data.elapsed],
            "next_event": np.array([self._answers[event] for event in following], np.int32),
            **self._times(case, steps),
            "asked": asked.astype(np.float32),
            "followed": followed.astype(np.float32),
        }

    def _times(self, case: Case, steps: int) -> dict[str, np.ndarray]:
        seconds = np.asarray(case.seconds)
        to_next = np.append(np.diff(seconds), 0.0)[:steps]  # nothing follows the last event
        to_end = (seconds[-1] - seconds)[:steps]
        return {"to_next": self._scaled("to_next", to_next), "to_end": self._scaled("to_end", to_end)}

    def _scaled(self, head: str, seconds: np.ndarray) -> np.ndarray:
        mean, scale = self._scales[head]
        logs = np.log1p(seconds / UNIT_SECONDS[self._config.data.unit])
        return ((logs - mean) / scale).astype(np.float32)

    def _build(self) -> EventModel:
        model, training = self._config.model, self._config.training
        widths = (len(self._labels), model.embedding, model.units, model.dropout)
        unit = UNIT_SECONDS[self._config.data.unit]
        network = EventModel(*widths, model.time, self._elapsed().scale, unit, model.daily, model.unseen)
        # a batch has rows of similar length: with means over batches, steps of short rows would count more
        summed = {"reduction": "sum"}
        share = 1 / (training.batch_size * self._steps_asked())
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **summed)
        # absolute error: the answer is a median, and a median survives the inverse transform
        loss = {
            "next_event": cross_entropy,
            "to_next": AbsoluteError(**summed),
            "to_end": AbsoluteError(**summed),
        }
        heads = {"next_event": 1.0, "to_next": model.time_weight, "to_end": model.auxiliary_weight}
        weights = {name: weight * share for name, weight in heads.items()}
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        optimizer = keras.optimizers.Adam(schedule(training, len(self._rows)), clipnorm=1.0)
        network.compile(optimizer, loss, loss_weights=weights, weighted_metrics={"next_event": [accuracy]})
        return network

    def _steps_asked(self) -> float:
        """Return how many steps of a row are asked on average: all, or only the last one."""
        if self._config.data.origin == "last":
            return 1.0
        return float(np.mean([steps for _, steps in self._rows]))

    def _examples(self) -> list[Case]:
        """Return the prefixes that may become examples: of held-out cases, all but the last event."""
        longest = self._config.serving.buckets[-1]
        known = [case for case in self._held_out if self._is_known(case)]
        if not known:
            raise ConfigInvalid("no validation case has only activities that training cases have")
        lengths = [max(1, min(longest, len(case.events) - 1)) for case in known]
        return [Case(c.events[:n], c.seconds[:n]) for c, n in zip(known, lengths, strict=True)][:CANDIDATES]

    def _clearest(self) -> list[dict[str, list[Any]]]:
        """Choose three of them, by how far the trained network's best next event is above the second."""
        candidates = [features_of(case, self._config.data) for case in self._examples_kept]
        rows = [self._encoder.encode(sequence).row.inputs.values() for sequence in candidates]
        events, elapsed = (pad_right(column, 0) for column in zip(*rows, strict=True))
        table = tf.nn.softmax(self._network.last(events, elapsed)["next_event"]).numpy()
        places = clearest([len(case.events) for case in self._examples_kept], [margin(row) for row in table])
        return [candidates[place] for place in places]

    def _manifest(self, version: int, card: dict[str, Any]) -> Manifest:
        config, data = self._config, self._config.data
        features: dict[str, Feature] = {data.event: self._kinds(), data.elapsed: self._elapsed()}
        heads: dict[str, Head] = {
            f"next_{data.event}": Softmax(labels=(*self._labels, END), scores="logits"),
            f"{data.unit}_to_next": self._time_head("to_next"),
            f"{data.unit}_to_end": self._time_head("to_end"),
        }
        signatures = predict_signatures(features, heads, {})
        if data.origin == "previous":
            signatures[STEP_SIGNATURE] = self._step(signatures[PREDICT_SIGNATURE])
        return build_manifest(
            Identity(config.name, version, config.serving.buckets, card, self._profile()),
            signatures,
            features=features,
            heads=heads,
            mask_from=data.event,
        )

    def _step(self, whole: Signature) -> Signature:
        """Return the signature that takes one event, from the one that takes whole sequences."""
        one = {name: row_tensor(tensor.dtype) for name, tensor in whole.inputs.items()}
        state = dict.fromkeys(STATE, Tensor(dtype="float32", axes=("batch", "unit")))
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(STATE, (self._config.model.units,))
        return Signature(inputs=one | state, outputs=whole.outputs | state, state=shapes)

    def _kinds(self) -> Categories:
        known = Categories(labels=self._labels, first_id=PAD + 1)
        if not self._config.model.unseen:
            return known
        return known.model_copy(update={"unknown": "map", "unknown_id": PAD + 1 + len(self._labels)})

    def _elapsed(self) -> Elapsed:
        data = self._config.data
        spread = self._scales["to_next" if data.origin == "previous" else "to_end"][1]
        return Elapsed(unit=data.unit, origin=data.origin, transform="log1p", scale=spread)

    def _time_head(self, name: str) -> Numeric:
        mean, scale = self._scales[name]
        return Numeric(
            unit=self._config.data.unit, inverse="expm1", mean=(mean,), scale=(scale,), minimum=0.0
        )

    def _profile(self) -> dict[str, Any]:
        """Describe the training cases, for live traffic to be measured against."""
        lengths = [len(case.events) for case in self._cases]
        events = [event for case in self._cases for event in case.events]
        return {
            "sequences": len(self._cases),
            "steps": length_percentiles(lengths),
            "categories": {self._config.data.event: {label: events.count(label) for label in self._labels}},
            "ranges": {self._config.data.elapsed: [[0.0, self._longest_elapsed()]]},
        }

    def _longest_elapsed(self) -> float:
        data = self._config.data
        return max(max(features_of(case, data)[data.elapsed]) for case in self._cases)


@keras.saving.register_keras_serializable("seqserve")
class AbsoluteError(keras.losses.Loss):
    """|y_true - y_pred| per step, (batch, time): Keras' own would average the time axis, masked or not."""

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return keras.ops.abs(y_true - y_pred)
