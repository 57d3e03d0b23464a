"""Classifiers: `.ts` files to rows, a `Classifier`, its temperature and its signature."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from seqserve.models.config import LENGTHS, ClassifierConfig, ClassifierData, ConfigInvalid
from seqserve.models.data.batches import scale_of
from seqserve.models.data.series import Series, read_series, stratified
from seqserve.models.draft import Draft, clearest, margin
from seqserve.models.manifest import Identity, build_manifest, predict_signatures, row_tensor
from seqserve.models.networks.classifier import Classifier
from seqserve.models.recipes.calibration import Calibration, calibrate, probabilities
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
from seqserve.models.recipes.profile import column_ranges, length_percentiles
from seqserve.models.train import Rows, Task, fit, make_reproducible, schedule
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.manifest import (
    PREDICT_SIGNATURE,
    Feature,
    Head,
    Manifest,
    MaskInput,
    Numbers,
    Softmax,
)
from seqserve.service.contract.padding import Array

VALIDATION_PARTS = 10
SPLIT_SEED = 0  # the split is the data's, whatever the training's seed
JUDGING_PARTS = 5


def read_split(path: Path | None, split: str) -> list[Series]:
    """Return the sequences of a split, `train` or `val`: `val` is a tenth of every class of a file.

    Raises:
        ConfigInvalid: no path was given, or the file cannot be read.
    """
    if path is None:
        raise ConfigInvalid("data.kind is series: give --data FILE.ts")
    series = read_series(path)
    parts = stratified([one.label for one in series], VALIDATION_PARTS, SPLIT_SEED)
    return [one for one, part in zip(series, parts, strict=True) if (part == 0) == (split == "val")]


def feature_of(series: Series, data: ClassifierData) -> dict[str, list[Any]]:
    """Return a sequence as a caller would send it."""
    return {data.feature: series.values.tolist()}


class ClassifierRecipe:
    """One configuration, its sequences encoded, and the network to train on them."""

    def __init__(self, config: ClassifierConfig, train: Sequence[Series], held_out: Sequence[Series]) -> None:
        self._config = config
        self._train = train
        self._labels = _ordered_labels(config.data, train)
        self._held_out = held_out
        self._check()
        self._numbers = _measured(train, config.data.columns)
        self._temperature: float | None = None
        self._encoder = SequenceEncoder(self._manifest(1, {}), PREDICT_SIGNATURE)
        self._rows, self._held_rows = ([self._encode(one) for one in part] for part in self._parts)
        self._network = self._build()

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the network's outputs."""
        return self._labels

    @property
    def task(self) -> Task:
        """The network, and batches of ((values, lengths), class, weight), one entry a row."""
        return Task(
            network=self._network,
            draw=lambda _: Rows(
                unsorted(self._rows), lambda indices: batch_of([self._rows[i] for i in indices])
            ),
            validation=validation_batches(self._held_rows, self._config.training.batch_size),
            signature=batch_signature(self._numbers.width, per_step=False),
        )

    def held_out_logits(self) -> Array:
        """Return the network's logits of the held-out sequences, (rows, labels)."""
        return np.stack(logits_of(self._network, self._held_rows))

    def calibrate(self, console: Console) -> dict[str, Any]:
        """Fit the temperature on answers to sequences that the network which gave them was not trained on.

        With `calibration_folds`, networks are trained for it, one a fold; else the held-out sequences serve.
        """
        calibration = self._calibration(console)
        self._temperature = calibration.temperature
        console.print(str(calibration), highlight=False, soft_wrap=True)
        return {"calibration": calibration.as_card()}

    def draft(self, version: int, card: dict[str, Any]) -> Draft:
        """Return the signature, and the manifest with the temperature, if it was fitted."""
        data = self._config.data
        manifest = self._manifest(version, card)

        def predict(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {data.head: self._network((inputs[data.feature], inputs[LENGTHS]), training=False)}

        examples = [self._held_out[place] for place in self._clearest()]
        requests = [{"sequences": [feature_of(one, data)], "top_k": 3} for one in examples]
        return Draft(self._network, {PREDICT_SIGNATURE: predict}, manifest, {}, requests)

    @property
    def _parts(self) -> tuple[Sequence[Series], Sequence[Series]]:
        return self._train, self._held_out

    def _check(self) -> None:
        """Refuse what would fail after the training, or be silently cut."""
        missing = sorted({one.label for one in self._held_out} - set(self._labels))
        if missing:
            raise ConfigInvalid(f"class {missing[0]!r} has no sequence to train on: its only one is held out")
        if not self._held_out:
            raise ConfigInvalid("no sequence is held out: at least two of a class are needed")
        longest = max(len(one.values) for part in self._parts for one in part)
        if longest > self._config.serving.buckets[-1]:
            last = self._config.serving.buckets[-1]
            raise ConfigInvalid(f"serving.buckets: a sequence has {longest} steps, the last bucket {last}")
        width, columns = self._train[0].values.shape[1], self._config.data.columns
        if columns and len(columns) != width:
            raise ConfigInvalid(f"data.columns: {len(columns)} names for {width} dimensions")
        if self._config.model.calibration_folds:
            _check_folds([*self._train, *self._held_out], self._config.model.calibration_folds)

    def _encode(self, series: Series) -> LabelledRow:
        row = self._encoder.encode({self._config.data.feature: series.values}).row
        values = row.inputs[self._config.data.feature]  # (time, width)
        return LabelledRow(values, np.array(self._labels.index(series.label), np.int32))

    def _build(self) -> Classifier:
        model, training = self._config.model, self._config.training
        shape = model.model_dump(exclude={"calibration_folds"})
        network = Classifier(self._numbers.width, len(self._labels), **shape)
        optimizer = keras.optimizers.Adam(schedule(training, len(self._rows)), clipnorm=1.0)
        accuracy = RealAccuracy(name="accuracy")
        network.compile(optimizer, sparse_cross_entropy(), weighted_metrics=[accuracy])
        return network

    def _calibration(self, console: Console) -> Calibration:
        folds = self._config.model.calibration_folds
        if folds:
            console.print(f"calibration: {folds} networks, each of all folds but one", highlight=False)
            answers = cross_fitted(self._config, [*self._train, *self._held_out], folds, console)
            return calibrate(answers.logits, answers.truth, answers.parts)
        truth = np.array([row.target for row in self._held_rows])
        parts = stratified([one.label for one in self._held_out], JUDGING_PARTS, SPLIT_SEED)
        return calibrate(self.held_out_logits(), truth, parts)

    def _clearest(self) -> list[int]:
        table = probabilities(self.held_out_logits(), self._temperature)  # (rows, labels)
        return clearest([len(row.values) for row in self._held_rows], [margin(row) for row in table])

    def _manifest(self, version: int, card: dict[str, Any]) -> Manifest:
        config, data = self._config, self._config.data
        features: dict[str, Feature] = {data.feature: self._numbers}
        heads: dict[str, Head] = {
            data.head: Softmax(labels=self._labels, scores="logits", temperature=self._temperature)
        }
        identity = Identity(config.name, version, config.serving.buckets, card, _profile(self._train, data))
        return build_manifest(
            identity,
            predict_signatures(features, heads, {LENGTHS: row_tensor("int32")}),
            features=features,
            heads=heads,
            mask=MaskInput(input=LENGTHS),
        )


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """For every sequence the logits (rows, labels) of a network that never saw it, its class, its fold."""

    logits: Array
    truth: Array
    parts: Array
    labels: tuple[str, ...]


def cross_fitted(
    config: ClassifierConfig, series: Sequence[Series], folds: int, console: Console
) -> CrossFitted:
    """Train a network for each stratified fold on all the others, and let it answer that fold.

    Args:
        console: where a bar shows how many folds are done.

    Raises:
        ConfigInvalid: a fold would be empty, or a class be in one fold alone.
    """
    _check_folds(series, folds)
    labels = _ordered_labels(config.data, series)
    parts = stratified([one.label for one in series], folds, SPLIT_SEED)
    logits = np.zeros((len(series), len(labels)))
    for fold in track(range(folds), "a network for each fold", console=console, transient=True):
        train = [one for one, part in zip(series, parts, strict=True) if part != fold]
        held_out = [one for one, part in zip(series, parts, strict=True) if part == fold]
        logits[parts == fold] = _trained_logits(config, train, held_out)
    truth = np.array([labels.index(one.label) for one in series])
    return CrossFitted(logits, truth, parts, labels)


def _check_folds(series: Sequence[Series], folds: int) -> None:
    if len(series) < folds:
        raise ConfigInvalid(f"folds: {folds} is more than there are sequences, {len(series)}")
    counts = Counter(one.label for one in series)
    rarest = min(counts, key=lambda label: counts[label])
    if counts[rarest] < 2:
        raise ConfigInvalid(f"folds: class {rarest!r} has {counts[rarest]} sequence, at least 2 are needed")


def _trained_logits(config: ClassifierConfig, train: Sequence[Series], held_out: Sequence[Series]) -> Array:
    make_reproducible(config.training.seed)  # a fold's network is the same, whatever was trained before
    uncalibrated = {"model": config.model.model_copy(update={"calibration_folds": 0})}
    config = config.model_copy(update=uncalibrated)
    recipe = ClassifierRecipe(config, train, held_out)
    with tempfile.TemporaryDirectory() as work:
        fit(recipe.task, config, Path(work), Console(quiet=True), resume=False)
    return recipe.held_out_logits()


def _ordered_labels(data: ClassifierData, series: Sequence[Series]) -> tuple[str, ...]:
    """Return the classes in the order of the outputs: the configuration's, or sorted.

    Raises:
        ConfigInvalid: the configuration's are not the data's.
    """
    present = sorted({one.label for one in series})
    if data.labels and sorted(data.labels) != present:
        raise ConfigInvalid(f"data.labels: {', '.join(data.labels)}; the sequences have {', '.join(present)}")
    return data.labels or tuple(present)


def _measured(series: Sequence[Series], columns: tuple[str, ...]) -> Numbers:
    """Return the feature, standardized over the steps of the sequences; a constant column is only shifted."""
    steps = np.concatenate([one.values for one in series])  # (steps, width)
    mean, scale = (tuple(numbers.tolist()) for numbers in (steps.mean(axis=0), scale_of(steps)))
    return Numbers(width=steps.shape[1], mean=mean, scale=scale, columns=columns)


def _profile(series: Sequence[Series], data: ClassifierData) -> dict[str, Any]:
    """Describe the training sequences, for live traffic to be measured against."""
    lengths, labels = [len(one.values) for one in series], [one.label for one in series]
    steps = np.concatenate([one.values for one in series])
    shares = {f"p{q}": np.percentile(steps, q, axis=0).round(6).tolist() for q in (0, 1, 50, 99, 100)}
    return {
        "sequences": len(series),
        "steps": length_percentiles(lengths),
        "labels": {data.head: {label: labels.count(label) for label in sorted(set(labels))}},
        "numbers": {data.feature: shares},
        "ranges": {data.feature: column_ranges(steps)},
    }
