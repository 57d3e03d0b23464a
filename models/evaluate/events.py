"""Quality of event-sequence models: next event, and the time until it, at every prefix of a case.

Called by `models.evaluate` for events models.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.check import Pipeline
from models.config import EventsConfig, EventsData, TaggerConfig
from models.data import END, Case
from models.evaluate.figures import Figures, mean
from models.evaluate.run import chunks, run
from models.journeys import best_accuracy, journeys
from models.recipes.events import features_of, read_cases
from service.contract.digest import sha256
from service.contract.features import UNIT_SECONDS
from service.contract.items import ClassAnswer, PredictBody, Prediction, ValueAnswer

ALL_LABELS = 1000
TEST_JOURNEYS = (1500, 3)  # how many, and a seed that training never used


def cases_to_measure(
    config: EventsConfig | TaggerConfig, data: Path | None, card: dict[str, Any]
) -> list[Case]:
    """Return all cases of a log, or its last tenth where it is the very file that was trained on."""
    if data is None or config.data.kind == "journeys":
        return journeys(*TEST_JOURNEYS)
    held_out = read_cases(config.data, data, "val")
    is_training = sha256(data.read_bytes()) == card.get("data_sha256")
    return held_out if is_training else [*read_cases(config.data, data, "train"), *held_out]


async def measure_cases(loaded: Pipeline, cases: Sequence[Case], data: EventsData) -> Figures:
    """Predict what follows each prefix of two events or more (one, for generated journeys).

    Accuracy counts the end of a case as an answer; `without_end` leaves out the prefixes that it follows,
    as Tax et al. do (answering the end is then wrong); `among_events` also takes the best answer that is
    an event, as a model without that answer would. Log loss is in nats. The time's absolute error is over
    prefixes that an event follows. A sequence that the model refuses counts as wrong, and in `refused`.
    Intervals draw whole cases.
    """
    shortest = 1 if data.kind == "journeys" else 2
    prefixes = [(c, n) for c in cases for n in range(shortest, len(c.events) + 1)]
    answers: list[Prediction | None] = []
    for chunk in chunks(prefixes):
        cut = [Case(case.events[:n], case.seconds[:n]) for case, n in chunk]
        body = PredictBody(sequences=[features_of(case, data) for case in cut], top_k=ALL_LABELS)
        answers += [item if isinstance(item, Prediction) else None for item in await run(loaded, body)]
    figures = dict(_score(prefixes, answers, data))
    if data.kind == "journeys":
        best = best_accuracy(cases)
        figures |= {"best_accuracy": round(best.observed, 4), "best_expected": round(best.expected, 4)}
    return figures


def _score(
    prefixes: Sequence[tuple[Case, int]], answers: Sequence[Prediction | None], data: EventsData
) -> Figures:
    hits, among_events, losses, ended, off, timed = [], [], [], [], [], []
    for (case, n), answer in zip(prefixes, answers, strict=True):
        truth = case.events[n] if n < len(case.events) else END
        labels, probability = _next(answer, f"next_{data.event}", truth)
        hits.append(labels[:1] == [truth])
        among_events.append([label for label in labels if label != END][:1] == [truth])
        losses.append(-math.log(max(probability, 1e-9)))
        ended.append(truth == END)
        if truth != END and answer is not None:
            off.append(abs(_value(answer, f"{data.unit}_to_next") - _unit(case, n, data)))
            timed.append(id(case))
    right, events_right, goes_on = np.array(hits), np.array(among_events), ~np.array(ended)
    of_case = np.array([id(case) for case, _ in prefixes])
    return {
        "prefixes": len(prefixes),
        "accuracy": mean(right, of_case),
        "accuracy_without_end": mean(right[goes_on], of_case[goes_on]),
        "accuracy_among_events": mean(events_right[goes_on], of_case[goes_on]),
        "log_loss": mean(losses, of_case),
        f"mae_{data.unit}": mean(off, timed),
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
    return (case.seconds[n] - case.seconds[n - 1]) / UNIT_SECONDS[data.unit]
