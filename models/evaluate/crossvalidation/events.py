"""Cross-validation: event models and n-grams, trained and scored on the same folds of whole cases.

Every case is in exactly one test fold; the predictions of all folds are pooled, and each figure, and each
difference from the best n-gram, comes with its 95 % interval.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from seqserve.models.config import ConfigInvalid, EventsConfig, EventsData, TimeUse
from seqserve.models.data.cases import END, Case
from seqserve.models.draft import Draft, tensor_spec
from seqserve.models.evaluate.crossvalidation.ngrams import MedianWait, WittenBell
from seqserve.models.evaluate.figures import Figures, as_json
from seqserve.models.evaluate.prefixes import (
    Prefix,
    Scores,
    differences_of,
    figures_of,
    pooled,
    prefixes_of,
    score,
)
from seqserve.models.recipes.events import EventsRecipe, features_of, read_cases
from seqserve.models.train import fit, make_reproducible
from seqserve.service.contract.features import SequenceEncoder
from seqserve.service.contract.heads import answer_head, softmax_probabilities
from seqserve.service.contract.items import ValueAnswer
from seqserve.service.contract.manifest import PREDICT_SIGNATURE, Head, Softmax
from seqserve.service.contract.padding import Array, Row, bucket_of, pad_batch
from seqserve.service.contract.values import UNIT_SECONDS
from seqserve.service.errors import InvalidArgument

ORDERS = range(1, 6)
WAYS: tuple[TimeUse, ...] = get_args(TimeUse)
WATCHED = 100
"""How many training cases the shown loss is of: nothing is chosen by it, so none need be held out."""
ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of cases: to train on, and to score."""

    train: Array
    test: Array


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answer to each prefix; a prefix that it refused has probabilities of 0 and no wait."""

    labels: Sequence[str]  # END among them
    probabilities: Array  # (prefixes, labels)
    waits: Array  # (prefixes), in the data's unit, NaN where there is none


Predictor = Callable[[Sequence[Case], Sequence[Prefix]], Answers]
Trainer = Callable[[EventsConfig, Sequence[Case]], Predictor]
"""What trains a model on cases, and returns how it predicts."""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures by model, which n-gram was best by log loss, and the ways' differences from it."""

    cases: int
    folds: int
    models: Mapping[str, Figures]
    best_ngram: str
    differences: Mapping[str, Figures]

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON-ready dict."""
        return {
            "cases": self.cases,
            "folds": self.folds,
            "models": {name: as_json(figures) for name, figures in self.models.items()},
            "best_ngram": self.best_ngram,
            "differences": {name: as_json(figures) for name, figures in self.differences.items()},
        }


def crossvalidate(
    config: EventsConfig, data: Path | None, folds: int, ways: Sequence[TimeUse], console: Console
) -> Report:
    """Train and score every n-gram order and every way of using time on each fold, and pool the folds.

    Raises:
        ConfigInvalid: no data, or fewer cases than the folds need.
    """
    cases = [case for split in ("train", "val") for case in read_cases(config.data, data, split)]
    trainers: dict[str, Trainer] = {f"{n}-gram": partial(_train_ngram, n) for n in ORDERS}
    trainers |= {way: partial(_train_network, way) for way in ways}
    scores = _scores(config, cases, make_folds(len(cases), folds, config.training.seed), trainers, console)
    unit = config.data.unit
    figures: dict[str, Figures] = {name: figures_of(scored, unit) for name, scored in scores.items()}
    best = min((f"{n}-gram" for n in ORDERS), key=lambda name: scores[name].loss.mean())
    differences: dict[str, Figures] = {way: differences_of(scores[way], scores[best], unit) for way in ways}
    return Report(len(cases), folds, figures, best, differences)


def parse_ways(text: str) -> tuple[TimeUse, ...]:
    """Read names with commas between.

    Raises:
        ConfigInvalid: a name is not a way of using time, or is given twice.
    """
    names = text.split(",")
    if len(set(names)) < len(names) or not set(names) <= set(WAYS):
        raise ConfigInvalid(f"ways: {text!r}: each of {', '.join(WAYS)} once at most, commas between")
    return tuple(way for way in WAYS if way in names)


def make_folds(cases: int, folds: int, seed: int) -> list[Fold]:
    """Deal the cases out: each is scored in one fold, and trained on in all the others.

    Raises:
        ConfigInvalid: too few cases for so many folds.
    """
    if folds < 2 or cases < 10 * folds:
        raise ConfigInvalid(
            f"{cases} cases in {folds} folds: at least two folds are needed, of at least ten cases"
        )
    tests = np.array_split(np.random.default_rng(seed).permutation(cases), folds)
    return [Fold(np.setdiff1d(np.arange(cases), test), test) for test in tests]


def _scores(
    config: EventsConfig,
    cases: Sequence[Case],
    folds: Sequence[Fold],
    trainers: Mapping[str, Trainer],
    console: Console,
) -> dict[str, Scores]:
    """Return each model's scores over the test cases of all folds, in the same order for all."""
    parts: dict[str, list[Scores]] = {name: [] for name in trainers}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(folds) * len(trainers))
        for number, fold in enumerate(folds, 1):
            train, test = ([cases[place] for place in part] for part in (fold.train, fold.test))
            prefixes = list(prefixes_of(test, config.data))
            if not prefixes:
                raise ConfigInvalid(f"fold {number}: none of its {len(test)} cases has two events")
            for name, trainer in trainers.items():
                progress.update(bar, description=f"fold {number}/{len(folds)} {name}")
                answers = trainer(config, train)(test, prefixes)
                scored = score(prefixes, answers.labels, answers.probabilities, answers.waits)
                parts[name].append(replace(scored, case=fold.test[scored.case]))
                progress.advance(bar)
    return {name: pooled(scored) for name, scored in parts.items()}


def _train_ngram(order: int, config: EventsConfig, train: Sequence[Case]) -> Predictor:
    labels = sorted({event for case in train for event in case.events})
    model = WittenBell([case.events for case in train], labels, order)
    unit = UNIT_SECONDS[config.data.unit]
    median = MedianWait([(case.events, np.diff(case.seconds) / unit) for case in train], order)

    def predict(cases: Sequence[Case], prefixes: Sequence[Prefix]) -> Answers:
        seen = [cases[prefix.case].events[: prefix.events] for prefix in prefixes]
        probabilities = np.stack([model.probabilities(events) for events in seen])
        return Answers((*labels, END), probabilities, np.array([median.after(events) for events in seen]))

    return predict


def _train_network(way: TimeUse, config: EventsConfig, train: Sequence[Case]) -> Predictor:
    """Train as the training command does, by the recipe of the configuration with `way` in it."""
    model = config.model.model_copy(update={"time": way})
    used = config.model_copy(update={"model": model})
    make_reproducible(used.training.seed)
    recipe = EventsRecipe(used, train, train[:WATCHED])
    with tempfile.TemporaryDirectory() as work:
        fit(recipe.task, used, Path(work), Console(quiet=True), resume=False)
    return partial(_ask, recipe.draft(1, {}), used.data)


def _ask(draft: Draft, data: EventsData, cases: Sequence[Case], prefixes: Sequence[Prefix]) -> Answers:
    """Answer each prefix by the signature that would be exported, in batches of similar length."""
    rows = _encoded(draft, data, cases, prefixes)
    taken = sorted((place for place, row in enumerate(rows) if row), key=lambda place: _length(rows[place]))
    next_event, to_next = f"next_{data.event}", f"{data.unit}_to_next"
    labels, head = draft.manifest.heads[next_event], draft.manifest.heads[to_next]
    assert isinstance(labels, Softmax)
    signature = draft.manifest.signatures[PREDICT_SIGNATURE]
    specs = {name: tensor_spec(name, signature, draft.manifest) for name in signature.inputs}
    predict = tf.function(draft.functions[PREDICT_SIGNATURE]).get_concrete_function(**specs)
    probabilities, waits = np.zeros((len(rows), len(labels.labels))), np.full(len(rows), np.nan)
    for start in range(0, len(taken), ROWS_AT_ONCE):
        places = taken[start : start + ROWS_AT_ONCE]
        outputs = predict(**_padded(draft, [row for place in places if (row := rows[place])]))
        probabilities[places] = softmax_probabilities(labels, outputs[next_event].numpy())
        waits[places] = [_wait(head, value) for value in outputs[to_next].numpy()]
    return Answers(labels.labels, probabilities, waits)


def _encoded(
    draft: Draft, data: EventsData, cases: Sequence[Case], prefixes: Sequence[Prefix]
) -> list[Row | None]:
    """Encode each prefix as serving would; None where serving would refuse it."""
    encoder = SequenceEncoder(draft.manifest, PREDICT_SIGNATURE)
    rows: list[Row | None] = []
    for prefix in prefixes:
        case, n = cases[prefix.case], prefix.events
        try:
            features = features_of(Case(case.events[:n], case.seconds[:n]), data)
            rows.append(encoder.encode(features).row)
        except InvalidArgument:  # an activity never seen in training, or too many events
            rows.append(None)
    return rows


def _length(row: Row | None) -> int:
    return row.length if row else 0


def _padded(draft: Draft, rows: Sequence[Row]) -> dict[str, tf.Tensor]:
    manifest = draft.manifest
    length = bucket_of(max(row.length for row in rows), manifest.buckets)
    padded = pad_batch(rows, length, manifest.signatures[PREDICT_SIGNATURE], manifest)
    return {name: tf.constant(values) for name, values in padded.items()}


def _wait(head: Head, value: Array) -> float:
    answer = answer_head(head, value, 1, "right", 1)
    assert isinstance(answer, ValueAnswer)
    assert isinstance(answer.value, float)
    return answer.value
