"""Quality of a version, measured through the pipeline that serves it: a table, then one JSON line.

`python -m models evaluate` measures a version directory, `models.export` the staged one for its card.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from models.check import SECONDS, Pipeline, pipeline
from models.config import Config, EventsConfig, EventsData, TranslationConfig, read_config
from models.data import END, Case, Pair
from models.journeys import best_accuracy, journeys
from models.recipes.events import features_of, read_cases
from models.recipes.translation import read_texts
from service import errors
from service.contract.digest import sha256
from service.contract.items import (
    ClassAnswer,
    PredictBody,
    Prediction,
    TranslateBody,
    Translation,
    ValueAnswer,
)
from service.core.types import Body, Outcome
from service.errors import SeqserveError

CHUNK = 512
REFUSED = ""
ALL_LABELS = 1000
TEST_JOURNEYS = (1500, 3)  # how many, and a seed that training never used


async def evaluate_version(folder: Path, data: Path | None) -> dict[str, Any]:
    """Measure a version on data; its card says how that is to be read.

    Args:
        data: a folder of parallel texts (its `test` files, else `val`), or a log (all its cases; the
            last tenth where it is the very file that the version was trained on); None for generated data.

    Raises:
        ConfigInvalid: the data cannot be read, or the card does not say how to.
    """
    async with pipeline(folder) as loaded:
        card = loaded.served.manifest.card or {}
        config = read_config(card.get("config", {}), str(folder))
        if isinstance(config, TranslationConfig):
            return await measure_texts(loaded, _test_texts(config, data))
        return await measure_cases(loaded, _test_cases(config, data, card), config.data)


def _test_texts(config: TranslationConfig, data: Path | None) -> list[Pair]:
    has_test = data is None or any(data.glob(f"test.{config.data.source}*"))
    return read_texts(config.data, data, "test" if has_test else "val")


def _test_cases(config: EventsConfig, data: Path | None, card: dict[str, Any]) -> list[Case]:
    if data is None or config.data.kind == "journeys":
        return journeys(*TEST_JOURNEYS)
    held_out = read_cases(config.data, data, "val")
    is_training = sha256(data.read_bytes()) == card.get("data_sha256")
    return held_out if is_training else [*read_cases(config.data, data, "train"), *held_out]


async def measure(loaded: Pipeline, config: Config, data: Path | None) -> dict[str, Any]:
    """Measure a version on the validation part of the data it was trained with."""
    if isinstance(config, TranslationConfig):
        return await measure_texts(loaded, read_texts(config.data, data, "val"))
    return await measure_cases(loaded, read_cases(config.data, data, "val"), config.data)


async def measure_texts(loaded: Pipeline, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Translate greedily; sacreBLEU (13a; cased and lowercased), chrF, and the share that is exact."""
    got: list[str] = []
    for chunk in _chunks(pairs):
        body = TranslateBody(texts=[pair.source for pair in chunk])
        got += [item.text if isinstance(item, Translation) else REFUSED for item in await _run(loaded, body)]
    wanted = [[pair.target for pair in pairs]]
    exact = sum(text == pair.target for text, pair in zip(got, pairs, strict=True))
    return {
        "texts": len(pairs),
        "exact_match": round(exact / len(pairs), 4),
        "bleu": round(BLEU().corpus_score(got, wanted).score, 2),
        "bleu_lowercase": round(BLEU(lowercase=True).corpus_score(got, wanted).score, 2),
        "chrf": round(CHRF().corpus_score(got, wanted).score, 2),
        "beam_size": 1,
        "refused": got.count(REFUSED),
    }


async def measure_cases(loaded: Pipeline, cases: Sequence[Case], data: EventsData) -> dict[str, Any]:
    """Predict what follows each prefix of two events or more (one, for generated journeys).

    Accuracy counts the end of a case as an answer; `without_end` leaves out the prefixes that it follows,
    as Tax et al. do (answering the end is then wrong); `among_events` also takes the best answer that is
    an event, as a model without that answer would. Log loss is in nats. The time's absolute error is over
    prefixes that an event follows. A sequence that the model refuses counts as wrong, and in `refused`.
    """
    shortest = 1 if data.kind == "journeys" else 2
    prefixes = [(c, n) for c in cases for n in range(shortest, len(c.events) + 1)]
    answers: list[Prediction | None] = []
    for chunk in _chunks(prefixes):
        cut = [Case(case.events[:n], case.seconds[:n]) for case, n in chunk]
        body = PredictBody(sequences=[features_of(case, data) for case in cut], top_k=ALL_LABELS)
        answers += [item if isinstance(item, Prediction) else None for item in await _run(loaded, body)]
    figures = _score(prefixes, answers, data)
    if data.kind == "journeys":
        best = best_accuracy(cases)
        figures |= {"best_accuracy": round(best.observed, 4), "best_expected": round(best.expected, 4)}
    return figures


def _score(
    prefixes: Sequence[tuple[Case, int]], answers: Sequence[Prediction | None], data: EventsData
) -> dict[str, Any]:
    hits, among_events, losses, ended, off = [], [], [], [], []
    for (case, n), answer in zip(prefixes, answers, strict=True):
        truth = case.events[n] if n < len(case.events) else END
        labels, probability = _next(answer, f"next_{data.event}", truth)
        hits.append(labels[:1] == [truth])
        among_events.append([label for label in labels if label != END][:1] == [truth])
        losses.append(-math.log(max(probability, 1e-9)))
        ended.append(truth == END)
        if truth != END and answer is not None:
            off.append(abs(_value(answer, f"{data.unit}_to_next") - _unit(case, n, data)))
    right, events_right, goes_on = np.array(hits), np.array(among_events), ~np.array(ended)
    return {
        "prefixes": len(prefixes),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_without_end": round(float(right[goes_on].mean()), 4),
        "accuracy_among_events": round(float(events_right[goes_on].mean()), 4),
        "log_loss": round(float(np.mean(losses)), 4),
        f"mae_{data.unit}": round(float(np.mean(off)), 4),
        "refused": sum(answer is None for answer in answers),
    }


def _next(answer: Prediction | None, head: str, truth: str) -> tuple[list[str], float]:
    """Return the labels, best first, and the probability given to the truth."""
    if answer is None:
        return [], 0.0
    found = answer.heads[head]
    assert isinstance(found, ClassAnswer)
    probability = next((top.probability for top in found.top if top.label == truth), 0.0)
    return [top.label for top in found.top], probability


def _value(answer: Prediction, head: str) -> float:
    found = answer.heads[head]
    assert isinstance(found, ValueAnswer)
    return float(found.value)


def _unit(case: Case, n: int, data: EventsData) -> float:
    """Return the time from event n - 1 to event n, in the data's unit."""
    pair = Case(case.events[n - 1 : n + 1], (0.0, case.seconds[n] - case.seconds[n - 1]))
    return float(features_of(pair, data)[data.elapsed][1])


async def _run(loaded: Pipeline, body: Body) -> list[Outcome]:
    deadline = asyncio.get_running_loop().time() + SECONDS
    outcomes = await loaded.runner.run(loaded.served, body, deadline)
    for outcome in outcomes:
        if isinstance(outcome, SeqserveError) and not isinstance(outcome, errors.InvalidArgument):
            raise outcome
    return outcomes


def _chunks(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]
