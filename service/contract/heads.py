"""Model outputs to answers: scores to labels and probabilities, numbers to values in their unit.

A row's outputs have no batch axis here. A `ValueError` says that the model answered what its manifest does
not allow.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqserve.service.contract.items import (
    ClassAnswer,
    HeadAnswer,
    HorizonAnswer,
    Interval,
    Labelled,
    LabelsAnswer,
    StepsAnswer,
    TextAnswer,
    ValueAnswer,
)
from seqserve.service.contract.manifest import Head, Numeric, Sigmoid, Softmax
from seqserve.service.contract.padding import Array, real_steps
from seqserve.service.contract.texts import TextHead, text_output
from seqserve.service.contract.vocabulary.base import Words

_Answer = ClassAnswer | LabelsAnswer | ValueAnswer
SUM_TOLERANCE = 0.01
"""How far probabilities may sum from 1 before the model is at fault: half precision stays well inside."""


def answer_head(head: Head, values: Array, length: int, padding: str, top_k: int) -> HeadAnswer:
    """Return one head's answer for one row.

    Args:
        values: (width), or (time, width) for `per: step`, or (horizon, columns) for `per: horizon`;
            quantile levels, where the head has them, are a further last axis. A width of 1 needs no axis.
            Of a head of text: its bytes.
        length: the row's real steps.
        top_k: how many labels a softmax head lists, at least 1.

    Raises:
        ValueError: the output's shape is not the head's, or it holds NaN, infinity or no probabilities, or
            bytes that are not UTF-8.
    """
    if isinstance(head, TextHead):
        return TextAnswer(text_output(values))
    if head.per == "step":
        steps = real_steps(values, length, padding)
        each = answers(head, steps)
        return StepsAnswer(tuple(each(step, top_k) for step in range(len(steps))))
    if isinstance(head, Numeric) and head.per == "horizon":
        return _horizon(head, values)
    return answers(head, values[None])(0, top_k)


def answers(head: Softmax | Sigmoid | Numeric, values: Array) -> Callable[[int, int], _Answer]:
    """Return what answers some rows, by row and top_k: what is the same for all is done at once.

    Args:
        values: (rows, …) of a head `per: sequence`, or (time, …) of one `per: step`.

    Raises:
        ValueError: as `answer_head`, whichever row is at fault.
    """
    match head:
        case Softmax():
            return _classes(head, values)
        case Sigmoid():
            return _labels(head, values)
        case Numeric():
            return _values(head, values)


def _classes(head: Softmax, scores: Array) -> Callable[[int, int], ClassAnswer]:
    probabilities = softmax_probabilities(head, _shaped(scores, scores.shape[:1], len(head.labels), ()))
    order = (-probabilities).argsort(axis=-1, kind="stable")  # (rows, labels)

    def answer(row: int, top_k: int) -> ClassAnswer:
        best = order[row, :top_k]
        pairs = zip(best.tolist(), probabilities[row, best].tolist(), strict=True)
        top = tuple(Labelled(head.labels[i], probability) for i, probability in pairs)
        return ClassAnswer(top[0].label, top[0].probability, top)

    return answer


def softmax_probabilities(head: Softmax, scores: Array) -> Array:
    """Return calibrated probabilities (…, labels) that sum to 1, in float64; a logit of -inf gives 0.

    Raises:
        ValueError: logits with NaN, +inf or nothing but -inf, or scores that are no probabilities.
    """
    exact = scores.astype(np.float64, copy=False)
    logits = exact if head.scores == "logits" else _log(exact)
    best = logits.max(axis=-1, keepdims=True)
    if np.count_nonzero(np.isfinite(best)) < best.size:
        raise ValueError("the output has NaN or infinite scores")
    below = logits - best
    if head.temperature is not None:
        with np.errstate(over="ignore"):  # a low one: the others end at -inf, which is probability 0
            below /= head.temperature
    raised = np.exp(below)
    probabilities: Array = raised / raised.sum(axis=-1, keepdims=True)
    return probabilities


def _log(probabilities: Array) -> Array:
    off = np.abs(probabilities.sum(axis=-1) - 1)
    if not ((probabilities >= 0).all() and (off <= SUM_TOLERANCE).all()):
        raise ValueError("the output is no probabilities: negative, NaN, or not summing to 1")
    with np.errstate(divide="ignore"):
        logits: Array = np.log(probabilities)
    return logits


def _labels(head: Sigmoid, scores: Array) -> Callable[[int, int], LabelsAnswer]:
    probabilities = sigmoid_probabilities(head, _shaped(scores, scores.shape[:1], len(head.labels), ()))
    order = np.argsort(-probabilities, axis=-1, kind="stable")  # (rows, labels)

    def answer(row: int, _: int) -> LabelsAnswer:
        own = probabilities[row].tolist()
        every = {i: Labelled(head.labels[i], own[i]) for i in order[row].tolist()}
        chosen = (labelled for i, labelled in every.items() if own[i] >= head.thresholds[i])
        return LabelsAnswer(tuple(chosen), tuple(every.values()))

    return answer


def sigmoid_probabilities(head: Sigmoid, scores: Array) -> Array:
    """Return each label's own probability (…, labels).

    Raises:
        ValueError: scores that are not what the head says they are, NaN among them.
    """
    allowed = (0, 1) if head.scores == "probabilities" else (-np.inf, np.finfo(np.float64).max)
    if not ((scores >= allowed[0]) & (scores <= allowed[1])).all():
        raise ValueError(f"the output has scores that are no {head.scores}")
    if head.scores == "probabilities":
        return scores
    with np.errstate(over="ignore"):  # a very negative logit: exp is inf and the probability 0
        probabilities: Array = 1 / (1 + np.exp(-scores))
    return probabilities


def _values(head: Numeric, values: Array) -> Callable[[int, int], ValueAnswer]:
    if not (head.columns or head.quantiles):
        single = _inverse(head, _shaped(values, values.shape[:1], 1, ())[:, 0]).tolist()  # (rows)
        return lambda row, _: ValueAnswer(single[row], head.unit)
    natural = {level: rows.tolist() for level, rows in _natural(head, values, values.shape[:1]).items()}

    def answer(row: int, _: int) -> ValueAnswer:
        by_level = {level: rows[row] if head.columns else rows[row][0] for level, rows in natural.items()}
        return ValueAnswer(by_level[0.5], head.unit, _intervals(head, by_level), head.columns or None)

    return answer


def _horizon(head: Numeric, values: Array) -> HorizonAnswer:
    if values.ndim == 0:
        raise ValueError("the output of a row is one number, its head has a horizon")
    tables = _natural(head, values, values.shape[:1])
    by_level = {level: tuple(map(tuple, table.tolist())) for level, table in tables.items()}
    return HorizonAnswer(by_level[0.5], head.columns, head.unit, _intervals(head, by_level))


def _natural(head: Numeric, values: Array, ahead: tuple[int, ...]) -> dict[float, Array]:
    """Return the values (*ahead, columns) in the head's unit, by quantile level; a plain value is level 0.5.

    Levels that cross are sorted: the monotone rearrangement of Chernozhukov, Fernández-Val and Galichon,
    2010, https://arxiv.org/abs/0704.3649, which is never further from the true quantiles.
    """
    levels = head.quantiles or (0.5,)
    exact = _shaped(values, ahead, len(head.scale), (len(levels),) if head.quantiles else ())
    natural = _inverse(head, exact.reshape(*ahead, -1, len(levels)))
    if len(levels) > 1:
        natural = np.sort(natural, axis=-1)
    return {level: natural[..., place] for place, level in enumerate(levels)}


def _inverse(head: Numeric, values: Array) -> Array:
    """Return values (…, columns, levels), or of one column (…), in the head's unit."""
    mean, scale = _by_column(head.mean), _by_column(head.scale)
    with np.errstate(over="ignore", invalid="ignore"):
        natural: Array = values * scale + mean
        sound = natural
        if head.inverse == "expm1":
            natural = np.expm1(natural)
            sound = sound + natural  # which neither leaves finite alone: of -inf comes -1
    if np.count_nonzero(np.isfinite(sound)) < sound.size:
        raise ValueError("the output is NaN or infinite, or too large to be undone")
    return natural if head.minimum is None else np.maximum(natural, head.minimum)


def _by_column(given: tuple[float, ...]) -> float | Array:
    """Return numbers as (columns, 1); that of an only column as it is, which numpy takes sooner."""
    return given[0] if len(given) == 1 else np.array(given)[:, None]


def _intervals(head: Numeric, by_level: Mapping[float, Any]) -> tuple[Interval, ...]:
    """Pair each level below the median with its mirror image above, the widest first."""
    levels = head.quantiles
    pairs = [(low, high) for low in levels for high in levels if low < 0.5 and abs(low + high - 1) < 1e-9]
    return tuple(Interval(round(high - low, 6), by_level[low], by_level[high]) for low, high in pairs)


def _shaped(values: Array, ahead: tuple[int, ...], width: int, after: tuple[int, ...]) -> Array:
    """Return the output as doubles (*ahead, width, *after); a width of 1 may have no axis of its own."""
    wanted = (*ahead, width, *after)
    if values.shape != wanted and (width > 1 or values.shape != (*ahead, *after)):
        shown = (shape[len(ahead) :] for shape in (values.shape, wanted))
        raise ValueError("the output of a row has shape {}, its head {}".format(*shown))
    if values.dtype.kind not in "fiu":
        raise ValueError(f"the output has dtype {values.dtype}, its head needs numbers")
    return values.astype(np.float64).reshape(wanted)


def by_word(answer: HeadAnswer, words: Words | None) -> HeadAnswer:
    """Return an answer for each piece of a text as one for each word: that of its first piece.

    Words without a piece, which the vocabulary drops, are left out.
    """
    if words is None or not isinstance(answer, StepsAnswer):
        return answer
    first: dict[int, int] = {}
    for piece, word in enumerate(words.word_of_piece):
        if word >= 0:
            first.setdefault(word, piece)
    steps = tuple(answer.steps[piece] for piece in first.values())
    return StepsAnswer(steps, tuple(words.words[word] for word in first))
