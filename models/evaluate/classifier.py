"""Quality of classifiers and taggers: what is right, and how far the probabilities can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import ClassifierConfig
from seqserve.models.data.series import Series, read_series
from seqserve.models.evaluate import plots
from seqserve.models.evaluate.figures import Figures, Groups, Measured, Pictures, figure, mean
from seqserve.models.evaluate.requests import chunks, run
from seqserve.models.recipes.calibration import expected_error, reliability
from seqserve.models.recipes.classifier import feature_of, read_split
from seqserve.service.contract.digest import sha256
from seqserve.service.contract.items import ClassAnswer, PredictBody, Prediction
from seqserve.service.contract.padding import Array

ALL_LABELS = 1000
SMALLEST = 1e-9
"""The log loss counts a smaller probability of the truth as this one."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer beside the truth. A row that the model refused has no label, and probability 0."""

    truth: str
    said: str = ""
    confidence: float = 0.0
    of_truth: float = 0.0


def held_out(config: ClassifierConfig, data: Path | None) -> list[Series]:
    """Return the validation sequences."""
    return read_split(data, "val")


def to_measure(config: ClassifierConfig, data: Path | None, card: Mapping[str, Any]) -> list[Series]:
    """Return all sequences of a file, or only the validation part of the file that was trained on."""
    kept = held_out(config, data)
    is_training = data is None or sha256(data.read_bytes()) == card.get("data_sha256")
    return kept if data is None or is_training else read_series(data)


async def measure(loaded: Pipeline, config: ClassifierConfig, series: Sequence[Series]) -> Measured:
    """Classify each sequence; see `class_figures`. One that is refused counts as wrong, and in `refused`."""
    answers = await predictions(loaded, [feature_of(one, config.data) for one in series])
    head = config.data.head
    judged = [judge(one.label, answer_of(a, head)) for one, a in zip(series, answers, strict=True)]
    refused = sum(answer is None for answer in answers)
    figures: Figures = {"sequences": len(series), **class_figures(judged), "refused": refused}
    return Measured(figures, class_pictures(judged))


def class_figures(judged: Sequence[Judged], groups: Groups | None = None) -> Figures:
    """Return accuracy, log loss, macro F1 and expected calibration error, with intervals.

    Log loss is in nats. Macro F1 is the mean over the labels that are true of some row. The calibration
    error is over 15 bins of equal width: with few rows it is above 0 by chance alone, and drawing them again
    adds as much, so its interval leans to higher values.
    """
    right = np.array([row.said == row.truth for row in judged])
    losses = [-np.log(max(row.of_truth, SMALLEST)) for row in judged]
    return {
        "accuracy": mean(right, groups),
        "log_loss": mean(losses, groups),
        "macro_f1": figure(_confusions(judged), _macro_f1, groups),
        "ece": figure(reliability([row.confidence for row in judged], right), expected_error, groups),
    }


def class_pictures(judged: Sequence[Judged]) -> Pictures:
    """Offer a confusion matrix and a reliability diagram."""
    truth, said = [row.truth for row in judged], [row.said for row in judged]
    labels = sorted({*truth, *said} - {""})
    confidence = np.array([row.confidence for row in judged])
    right = np.array([row.said == row.truth for row in judged])
    return {
        "confusion": partial(plots.confusion, truth, said, labels),
        "reliability": partial(plots.reliability, confidence, right),
    }


def _confusions(judged: Sequence[Judged]) -> Array:
    """Return, (rows, 2 * labels), whether a label is both true and said, then how many of the two it is."""
    labels = sorted({row.truth for row in judged})
    true, said = (
        np.array([[name == label for label in labels] for name in names], np.float64)
        for names in ([row.truth for row in judged], [row.said for row in judged])
    )
    return np.concatenate([true * said, true + said], axis=1)


def _macro_f1(sums: Array) -> Array:
    """Return the mean over labels of 2 * both / (true + said), where the label is there at all."""
    both, either = np.split(sums, 2, axis=-1)
    with np.errstate(invalid="ignore"):
        f1: Array = np.nanmean(2 * both / either, axis=-1)  # a draw may hold no row of a rare label
    return f1


async def predictions(loaded: Pipeline, sequences: Sequence[dict[str, Any]]) -> list[Prediction | None]:
    """Answer each sequence; None where the model refuses it."""
    answers: list[Prediction | None] = []
    for chunk in chunks(sequences):
        outcomes = await run(loaded, PredictBody(sequences=list(chunk), top_k=ALL_LABELS))
        answers += [item if isinstance(item, Prediction) else None for item in outcomes]
    return answers


def answer_of(prediction: Prediction | None, head: str) -> Any:
    """Return a head's answer, None where there is none."""
    return None if prediction is None else prediction.heads[head]


def judge(truth: str, answer: ClassAnswer | None) -> Judged:
    """Compare one answer with the truth."""
    if answer is None:
        return Judged(truth)
    of_truth = next((top.probability for top in answer.top if top.label == truth), 0.0)
    return Judged(truth, answer.label, answer.probability, of_truth)
