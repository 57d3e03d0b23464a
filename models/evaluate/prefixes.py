"""What counts as right at each prefix of a case, and the figures over prefixes.

The same for a version that is measured through the serving pipeline and for models compared over folds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from seqserve.models.config import EventsData
from seqserve.models.data.cases import END, Case
from seqserve.models.evaluate.figures import Figure, Figures, figure, mean, ratio
from seqserve.service.contract.padding import Array
from seqserve.service.contract.values import UNIT_SECONDS

LEAST_PROBABILITY = 1e-9
"""The log loss counts a smaller probability of the truth as this one: 20.7 nats."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first events of a case, what comes next (or END), and after how long (NaN where nothing does)."""

    case: int
    events: int
    truth: str
    wait: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How a model did, one entry a prefix: (prefixes)."""

    case: Array  # int: prefixes of one case are drawn together
    answered: Array  # bool: the model did not refuse
    goes_on: Array  # bool: an event follows
    right: Array  # bool: the best answer is the truth
    right_among_events: Array  # bool: of the answers that are events, the best is the truth
    loss: Array  # nats
    off: Array  # absolute error of the wait, in the data's unit; NaN where there is none


def prefixes_of(cases: Sequence[Case], data: EventsData) -> Iterator[Prefix]:
    """Yield every prefix of two events or more (one, for generated journeys), case by case."""
    shortest, unit = 1 if data.kind == "journeys" else 2, UNIT_SECONDS[data.unit]
    for place, case in enumerate(cases):
        waits = [*(np.diff(case.seconds) / unit).tolist(), float("nan")]
        following = [*case.events[1:], END]
        for n in range(shortest, len(case.events) + 1):
            yield Prefix(place, n, following[n - 1], waits[n - 1])


def score(prefixes: Sequence[Prefix], labels: Sequence[str], probabilities: Array, waits: Array) -> Scores:
    """Compare answers with what followed.

    Args:
        labels: of the answers, END among them.
        probabilities: (prefixes, labels); all 0 where the model refused to answer, which counts as wrong.
        waits: (prefixes), in the data's unit; NaN where there is no answer.
    """
    places = {label: place for place, label in enumerate(labels)}
    truth = np.array([places.get(prefix.truth, -1) for prefix in prefixes])  # (prefixes)
    given = np.where(truth < 0, 0.0, probabilities[np.arange(len(truth)), truth])
    answered: Array = np.asarray(probabilities.any(axis=1))
    events = np.where(np.arange(len(labels)) == places[END], -1.0, probabilities)  # (prefixes, labels)
    return Scores(
        case=np.array([prefix.case for prefix in prefixes]),
        answered=answered,
        goes_on=np.array([prefix.truth != END for prefix in prefixes]),
        right=answered & (probabilities.argmax(axis=1) == truth),
        right_among_events=answered & (events.argmax(axis=1) == truth),
        loss=-np.log(np.maximum(given, LEAST_PROBABILITY)),
        off=np.abs(waits - np.array([prefix.wait for prefix in prefixes])),
    )


def pooled(parts: Sequence[Scores]) -> Scores:
    """Join the scores of different cases, such as those of folds."""
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Scores)
    }
    return Scores(**columns)


def figures_of(scores: Scores, unit: str) -> Figures:
    """Return each figure with its interval, by name; whole cases are drawn.

    Accuracy counts the end of a case as an answer. `without_end` leaves out the prefixes that the end
    follows; to answer the end is then always wrong. `among_events` also takes the best answer that is an
    event, as Tax et al. do, whose script makes no prediction where no event follows. Log loss is in nats.
    The time's absolute error is over prefixes that an event follows.
    """
    figures = {
        name: mean(values[counts], scores.case[counts])
        for name, (values, counts) in _columns(scores, unit).items()
        if counts.any()
    }
    return {"prefixes": len(scores.case), **figures, "refused": int((~scores.answered).sum())}


def differences_of(ours: Scores, theirs: Scores, unit: str) -> Figures:
    """Return our figures less theirs, paired by prefix, with intervals of the difference.

    `log_loss_share` is the difference of log loss as a share of theirs.
    """
    figures: dict[str, Figure] = {}
    others = _columns(theirs, unit)
    for name, (values, counts) in _columns(ours, unit).items():
        other, others_count = others[name]
        both = counts & others_count
        if both.any():
            figures[name] = mean(values[both].astype(float) - other[both], ours.case[both])
    sums = np.stack([ours.loss - theirs.loss, theirs.loss], axis=1)
    return {**figures, "log_loss_share": figure(sums, ratio, ours.case)}


def _columns(scores: Scores, unit: str) -> Mapping[str, tuple[Array, Array]]:
    """Return each figure's values, and the prefixes that count."""
    every = np.ones(len(scores.case), bool)
    return {
        "log_loss": (scores.loss, every),
        "accuracy": (scores.right, every),
        "accuracy_without_end": (scores.right, scores.goes_on),
        "accuracy_among_events": (scores.right_among_events, scores.goes_on),
        f"mae_{unit}": (scores.off, scores.goes_on & ~np.isnan(scores.off)),
    }
