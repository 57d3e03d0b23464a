"""Quality of event-sequence models: next event, and the time until it, at every prefix of a case."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import ConfigInvalid, EventsConfig, TaggerConfig
from seqserve.models.data.cases import Case
from seqserve.models.data.journeys import best_accuracy, journeys
from seqserve.models.evaluate import plots
from seqserve.models.evaluate.figures import Measured, Pictures
from seqserve.models.evaluate.prefixes import figures_of, prefixes_of, score
from seqserve.models.evaluate.requests import chunks, run
from seqserve.models.recipes.events import features_of, read_cases
from seqserve.service.contract.digest import sha256
from seqserve.service.contract.items import ClassAnswer, PredictBody, Prediction, ValueAnswer
from seqserve.service.contract.manifest import Softmax

ALL_LABELS = 1000
TEST_JOURNEYS = (1500, 3)  # how many, and a seed that training never used


def held_out(config: EventsConfig | TaggerConfig, data: Path | None) -> list[Case]:
    """Return the validation cases."""
    return read_cases(config.data, data, "val")


def to_measure(config: EventsConfig | TaggerConfig, data: Path | None, card: Mapping[str, Any]) -> list[Case]:
    """Return all cases of a log, or only the last tenth of the file that was trained on."""
    if config.data.kind == "journeys":
        return journeys(*TEST_JOURNEYS)
    kept = held_out(config, data)
    is_training = data is None or sha256(data.read_bytes()) == card.get("data_sha256")
    return kept if is_training else [*read_cases(config.data, data, "train"), *kept]


async def measure(loaded: Pipeline, config: EventsConfig, cases: Sequence[Case]) -> Measured:
    """Predict what follows each prefix, as `models.evaluate.prefixes` defines prefixes and figures.

    A sequence that the model refuses counts as wrong, and in `refused`. Intervals draw whole cases.
    """
    data = config.data
    prefixes = list(prefixes_of(cases, data))
    if not prefixes:
        raise ConfigInvalid(f"none of the {len(cases)} cases has two events: there is nothing to predict")
    answers: list[Prediction | None] = []
    for chunk in chunks(prefixes):
        cut = [Case(cases[p.case].events[: p.events], cases[p.case].seconds[: p.events]) for p in chunk]
        body = PredictBody(sequences=[features_of(case, data) for case in cut], top_k=ALL_LABELS)
        answers += [item if isinstance(item, Prediction) else None for item in await run(loaded, body)]
    head = loaded.served.manifest.heads[f"next_{data.event}"]
    assert isinstance(head, Softmax)
    probabilities = np.stack(
        [_probabilities(answer, f"next_{data.event}", head.labels) for answer in answers]
    )
    waits = np.array([_value(answer, f"{data.unit}_to_next") for answer in answers])
    scores = score(prefixes, head.labels, probabilities, waits)
    figures = dict(figures_of(scores, data.unit))
    if data.kind == "journeys":
        best = best_accuracy(cases)
        figures |= {"best_accuracy": round(best.observed, 4), "best_expected": round(best.expected, 4)}
    said = [head.labels[place] for place in probabilities.argmax(axis=1)]
    truth = [prefix.truth for prefix in prefixes]
    pictures: Pictures = {
        "confusion": partial(plots.confusion, truth, said, head.labels),
        "reliability": partial(plots.reliability, probabilities.max(axis=1), scores.right),
    }
    return Measured(figures, pictures)


def _probabilities(answer: Prediction | None, head: str, labels: Sequence[str]) -> list[float]:
    """Return each label's probability; 0 for all where the sequence was refused."""
    if answer is None:
        return [0.0] * len(labels)
    classified = answer.heads[head]
    assert isinstance(classified, ClassAnswer)
    given = {top.label: top.probability for top in classified.top}
    return [given.get(label, 0.0) for label in labels]


def _value(answer: Prediction | None, head: str) -> float:
    if answer is None:
        return float("nan")
    value = answer.heads[head]
    assert isinstance(value, ValueAnswer)
    return float(value.value)
