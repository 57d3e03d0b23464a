"""Answers as named values: what each head says of one row, under names that tensors can have."""

from collections.abc import Sequence
from typing import Any

from seqserve.service import errors
from seqserve.service.contract.items import (
    ClassAnswer,
    HeadAnswer,
    HorizonAnswer,
    Item,
    LabelsAnswer,
    Prediction,
    StepsAnswer,
    TextAnswer,
    Translation,
    ValueAnswer,
)
from seqserve.service.core.turns import Turn
from seqserve.service.surfaces.tensors import TEXT


def named(item: Item) -> dict[str, Any]:
    """Return an answer's values by name; `tensors.outputs` says of which there are.

    A head `h` has its label or value as `h`; beside it, as it has them, `h.probability`, `h.reached` (whether
    a label reaches its threshold), `h.level`, `h.low` and `h.high` (intervals), and where several were asked
    for `h.top` and `h.top_probability`.
    """
    if isinstance(item, Translation):
        score = {} if item.score is None else {"score": item.score}
        further = item.alternatives or ()
        others = {
            "alternatives": [other.text for other in further],
            "alternative_scores": [other.score for other in further],
        }
        return {TEXT: item.text, **score, **(others if further else {})}
    assert isinstance(item, Prediction)
    return {
        head + ending: value for head, answer in item.heads.items() for ending, value in _head(answer).items()
    }


def _head(answer: HeadAnswer) -> dict[str, Any]:
    match answer:
        case ClassAnswer():
            top = {
                ".top": [one.label for one in answer.top],
                ".top_probability": [one.probability for one in answer.top],
            }
            return {
                "": answer.label,
                ".probability": answer.probability,
                **(top if len(answer.top) > 1 else {}),
            }
        case LabelsAnswer():
            reached = {one.label for one in answer.labels}
            return {
                "": [one.label for one in answer.all],
                ".probability": [one.probability for one in answer.all],
                ".reached": [one.label in reached for one in answer.all],
            }
        case ValueAnswer():
            return {"": answer.value, **_intervals(answer)}
        case StepsAnswer():
            steps = [_head(step) for step in answer.steps]
            words = {".words": list(answer.words)} if answer.words is not None else {}
            return {**{ending: [step[ending] for step in steps] for ending in steps[0]}, **words}
        case HorizonAnswer():
            return {"": answer.values, **_intervals(answer)}
        case TextAnswer():
            return {"": answer.text}


def _intervals(answer: ValueAnswer | HorizonAnswer) -> dict[str, Any]:
    if not answer.intervals:
        return {}
    return {
        ".level": [interval.level for interval in answer.intervals],
        ".low": [interval.low for interval in answer.intervals],
        ".high": [interval.high for interval in answer.intervals],
    }


async def columns(items: Sequence[Item]) -> dict[str, list[Any]]:
    """Return the values of all rows by name, in turns; a row without one has an empty list there."""
    turn = Turn()
    rows = []
    for item in items:
        rows.append(named(item))
        if turn.is_over():
            await turn.end()
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, []) for row in rows] for name in names}


def chosen(found: dict[str, list[Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the outputs asked for; all where none are named.

    Raises:
        UnknownHead: there is no output of that name.
    """
    for name in names:
        if name not in found:
            known = ", ".join(found)
            raise errors.UnknownHead(f"no output {name[:60]!r}; the answer has {known}", path=("outputs",))
    return {name: found[name] for name in names} if names else found
