"""Quality of taggers: the figures of classifiers, over every step of every case."""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from seqserve.models.check.pipeline import Pipeline
from seqserve.models.config import TaggerConfig
from seqserve.models.data.cases import Case
from seqserve.models.evaluate.classifier import (
    Judged,
    answer_of,
    class_figures,
    class_pictures,
    judge,
    predictions,
)
from seqserve.models.evaluate.events import held_out, to_measure
from seqserve.models.evaluate.figures import Figures, Measured
from seqserve.models.recipes.tagger import times_of
from seqserve.service.contract.items import ClassAnswer, StepsAnswer

__all__ = ["held_out", "measure", "to_measure"]


async def measure(loaded: Pipeline, config: TaggerConfig, cases: Sequence[Case]) -> Measured:
    """Tag each step of each case; see `models.evaluate.classifier.class_figures`. Intervals draw whole cases.

    Every step of a case that the model refuses counts as wrong; `refused` counts cases.
    """
    answers = await predictions(loaded, [times_of(case, config.data) for case in cases])
    head = config.data.head
    by_case = [list(_steps(case, answer_of(a, head))) for case, a in zip(cases, answers, strict=True)]
    judged = list(chain.from_iterable(by_case))
    of_case = np.repeat(np.arange(len(cases)), [len(steps) for steps in by_case])
    refused = sum(answer is None for answer in answers)
    counts = {"sequences": len(cases), "steps": len(judged)}
    figures: Figures = {**counts, **class_figures(judged, of_case), "refused": refused}
    return Measured(figures, class_pictures(judged))


def _steps(case: Case, answer: StepsAnswer | None) -> Iterator[Judged]:
    steps = [None] * len(case.events) if answer is None else answer.steps
    for truth, step in zip(case.events, steps, strict=True):
        assert step is None or isinstance(step, ClassAnswer)
        yield judge(truth, step)
