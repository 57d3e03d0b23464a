"""Outputs to answers, worked by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.heads import answer_head, softmax_probabilities
from seqserve.service.contract.items import (
    ClassAnswer,
    HorizonAnswer,
    Interval,
    Labelled,
    LabelsAnswer,
    StepsAnswer,
    ValueAnswer,
)
from seqserve.service.contract.manifest import Head, Numeric, Sigmoid, Softmax

NAN, INF = math.nan, math.inf
LABELS = ("a", "b", "c")
LOGITS = Softmax(labels=LABELS, scores="logits")
PROBABILITIES = Softmax(labels=LABELS, scores="probabilities")
ALARMS = Sigmoid(labels=LABELS, scores="probabilities", thresholds=(0.5, 0.2, 0.9))
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def answer(head: Head, values: Any, length: int = 1, padding: str = "right", top_k: int = 1) -> Any:
    """Answer one row's output."""
    return answer_head(head, np.array(values, np.float32), length, padding, top_k)


@pytest.mark.parametrize("top_k", [1, 2, 3, 9])
def test_softmax(top_k: int) -> None:
    """The best labels come first, by the manifest's names, with probabilities that are worked by hand."""
    got = answer(LOGITS, np.log([1, 4, 3]), top_k=top_k)
    assert [top.label for top in got.top] == ["b", "c", "a"][:top_k]
    assert [top.probability for top in got.top] == pytest.approx([0.5, 0.375, 0.125][:top_k], rel=1e-6)
    assert (got.label, got.probability) == (got.top[0].label, got.top[0].probability)


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    """A tie goes to the label with the lower id, always."""
    labels = tuple(map(str, range(200)))
    head = Softmax(labels=labels, scores="logits")
    assert [top.label for top in answer(head, [2] * 200, top_k=200).top] == list(labels)


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_temperature(scores: Any) -> None:
    """Temperature 2 takes the root of the odds, from logits and from probabilities alike."""
    head = Softmax(labels=LABELS, scores=scores, temperature=2.0)
    probabilities = np.array([1, 4, 9]) / 14
    values = np.log(probabilities) + 5 if scores == "logits" else probabilities
    assert softmax_probabilities(head, values) == pytest.approx(np.array([1, 2, 3]) / 6, abs=1e-12)


@given(
    scores=st.lists(st.floats(-1e30, 1e30) | st.just(-INF), min_size=3, max_size=3).filter(
        lambda s: max(s) > -INF
    ),
    temperature=st.none() | st.floats(1e-6, 1e6),
)
@settings(deadline=None)
def test_probabilities_sum_to_one(scores: list[float], temperature: float | None) -> None:
    """Whatever the logits and the temperature, probabilities sum to 1; a logit of -inf has none of it."""
    head = Softmax(labels=LABELS, scores="logits", temperature=temperature)
    got = softmax_probabilities(head, np.array(scores))
    assert abs(got.sum() - 1) < 1e-9
    assert all(p == 0 for p, score in zip(got, scores, strict=True) if score == -INF)
    assert got[np.argmax(scores)] == got.max()


def test_zero_probability_stays_zero() -> None:
    """A label that the model rules out stays ruled out, and rounding in the others is taken back."""
    head = Softmax(labels=LABELS, scores="probabilities", temperature=3.0)
    got = softmax_probabilities(head, np.array([0, 0.5004, 0.5004], np.float32))
    assert got.tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("scores", ["logits", "probabilities"])
def test_sigmoid(scores: Any) -> None:
    """Every label that reaches its own threshold is answered, the likeliest first."""
    head = Sigmoid(labels=LABELS, scores=scores, thresholds=(0.5, 0.125, 0.75))
    values = [0.75, 0.5, 0.5] if scores == "probabilities" else [math.log(3), 0, 0]
    got = answer(head, values)
    assert [entry.label for entry in got.labels] == ["a", "b"]
    assert [entry.probability for entry in got.labels] == pytest.approx([0.75, 0.5])
    assert [entry.label for entry in got.all] == ["a", "b", "c"]
    assert [entry.probability for entry in got.all] == pytest.approx([0.75, 0.5, 0.5])
    assert answer(head, values, top_k=1) == answer(head, values, top_k=9) == got
    at_threshold = Sigmoid(labels=("a",), scores="probabilities", thresholds=(0.5,))
    both = LabelsAnswer((Labelled("a", 0.5),), (Labelled("a", 0.5),))
    assert answer(at_threshold, [0.5]) == answer(at_threshold, 0.5) == both
    none = answer(head, [0, 0, 0] if scores == "probabilities" else [-INF, -1000, -99])
    assert (none.labels, len(none.all)) == ((), 3)


def test_value() -> None:
    """A value is scaled back, the transform undone, the unit named, and what cannot be is cut."""
    head = Numeric(unit="minutes", inverse="expm1", mean=(1.0,), scale=(2.0,), minimum=0.0)
    assert answer(head, [0.5]) == ValueAnswer(math.expm1(2), "minutes")
    assert answer(head, 0.5) == answer(head, [0.5])
    assert answer(head, [-3]) == ValueAnswer(0.0, "minutes")


def test_columns() -> None:
    """A value of several columns has a mean and a scale for each."""
    head = Numeric(unit="kW", columns=("north", "south"), mean=(1.0, 2.0), scale=(10.0, 100.0))
    assert answer(head, [3, 4]) == ValueAnswer([31, 402], "kW", columns=("north", "south"))
    one = Numeric(columns=("north",))
    assert answer(one, [3]) == answer(one, 3) == ValueAnswer([3], "", columns=("north",))


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [5, 3, 1, 2, 4], [[1, 2, 3, 4, 5]]])
def test_quantiles(values: Any) -> None:
    """Levels are paired about the median, the widest first, and never cross whatever the model says."""
    head = Numeric(unit="s", scale=(10.0,), quantiles=LEVELS)
    intervals = (Interval(0.9, 10.0, 50.0), Interval(0.5, 20.0, 40.0))
    assert answer(head, values) == ValueAnswer(30.0, "s", intervals)


def test_unpaired_quantiles() -> None:
    """A level without a mirror image is no interval."""
    assert answer(Numeric(quantiles=(0.1, 0.5, 0.8)), [1, 2, 3]) == ValueAnswer(2.0, "")


def test_quantiles_of_columns() -> None:
    """Each column has its own levels, and they are sorted column by column."""
    head = Numeric(columns=("n", "s"), mean=(0.0, 1.0), scale=(1.0, -1.0), quantiles=(0.05, 0.5, 0.95))
    got = answer(head, [[3, 2, 1], [0, 1, 2]])
    assert got == ValueAnswer([2, 0], "", (Interval(0.9, [1, -1], [3, 1]),), ("n", "s"))


def test_horizon() -> None:
    """A horizon has a row a step ahead and a value a column, with intervals of the same form."""
    head = Numeric(unit="kW", columns=("n", "s"), mean=(0.0, 1.0), scale=(1.0, 2.0), per="horizon")
    values = ((1.0, 5.0), (3.0, 9.0), (5.0, 13.0))
    assert answer(head, [[1, 2], [3, 4], [5, 6]]) == HorizonAnswer(values, ("n", "s"), "kW")
    quantiles = head.model_copy(update={"quantiles": (0.25, 0.5, 0.75)})
    got = answer(quantiles, [[[0, 1, 2], [1, 2, 3]]])
    assert got.values == ((1.0, 5.0),)
    assert got.intervals == (Interval(0.5, ((0.0, 3.0),), ((2.0, 7.0),)),)


@pytest.mark.parametrize("values", [[1, 2], [[1], [2]]])
def test_horizon_of_one_column(values: Any) -> None:
    """One column needs no axis in the output and has one in the answer."""
    assert answer(Numeric(per="horizon"), values) == HorizonAnswer(((1.0,), (2.0,)), (), "")
    quantiles = Numeric(per="horizon", quantiles=(0.25, 0.5, 0.75))
    got = answer(quantiles, [[1, 2, 3], [4, 5, 6]])
    assert got.values == ((2.0,), (5.0,))
    assert got.intervals[0].high == ((3.0,), (6.0,))


@pytest.mark.parametrize(("padding", "labels"), [("right", ["a", "b"]), ("left", ["b", "c"])])
def test_steps(padding: str, labels: list[str]) -> None:
    """A head per step answers for each real step, wherever the padding is, and never looks at the others."""
    head = Softmax(labels=LABELS, scores="logits", per="step")
    filler = [NAN, NAN, NAN]
    rows = [[9, 0, 0], [0, 9, 0], [0, 0, 9]]
    values = [*rows[:2], filler] if padding == "right" else [filler, *rows[1:]]
    got = answer(head, values, length=2, padding=padding)
    assert isinstance(got, StepsAnswer)
    assert [step.label for step in got.steps if isinstance(step, ClassAnswer)] == labels


def test_steps_of_every_kind() -> None:
    """Labels and values are answered per step as well."""
    alarms = Sigmoid(labels=("late",), scores="probabilities", thresholds=(0.5,), per="step")
    likely, unlikely = Labelled("late", 0.75), Labelled("late", 0.25)
    late, in_time = LabelsAnswer((likely,), (likely,)), LabelsAnswer((), (unlikely,))
    assert answer(alarms, [[0.75], [0.25], [0.75]], 3) == StepsAnswer((late, in_time, late))
    waits = Numeric(unit="s", quantiles=(0.25, 0.5, 0.75), per="step")
    assert answer(waits, [[1, 2, 3], [0, 0, 0]], 1) == StepsAnswer(
        (ValueAnswer(2.0, "s", (Interval(0.5, 1.0, 3.0),)),)
    )


STEP = Softmax(labels=LABELS, scores="logits", per="step")
AHEAD = Numeric(columns=("n", "s"), mean=(0.0, 0.0), scale=(1.0, 1.0), per="horizon")
AT_FAULT: list[tuple[Head, Any]] = [
    (LOGITS, [1, NAN, 3]),
    (LOGITS, [1, INF, 3]),
    (LOGITS, [-INF, -INF, -INF]),
    (LOGITS, [1, 2]),
    (LOGITS, [[1, 2, 3]]),
    (LOGITS, 1),
    (PROBABILITIES, [0.5, NAN, 0.5]),
    (PROBABILITIES, [0.5, INF, 0.5]),
    (PROBABILITIES, [0.75, -0.25, 0.5]),
    (PROBABILITIES, [0.9, 0.8, 0.1]),
    (PROBABILITIES, [0, 0, 0]),
    (ALARMS, [0.5, NAN, 0.5]),
    (ALARMS, [0.5, 1.5, 0.5]),
    (ALARMS, [0.5, -0.5, 0.5]),
    (ALARMS, [0.5, 0.5]),
    (Sigmoid(labels=("a",), scores="logits", thresholds=(0.5,)), [INF]),
    (Sigmoid(labels=("a",), scores="logits", thresholds=(0.5,)), [NAN]),
    (Numeric(), [NAN]),
    (Numeric(minimum=0.0), [-INF]),
    (Numeric(inverse="expm1"), [-INF]),
    (Numeric(inverse="expm1"), [1000]),
    (Numeric(inverse="expm1"), [-INF]),
    (Numeric(inverse="expm1"), [NAN]),
    (Numeric(), [1, 2]),
    (Numeric(), [[1]]),
    (Numeric(quantiles=(0.25, 0.5, 0.75)), [1, NAN, 3]),
    (Numeric(quantiles=(0.25, 0.5, 0.75)), [1, 2]),
    (AHEAD, [1, 2]),
    (AHEAD, [[1, 2, 3]]),
    (AHEAD, [[1, NAN]]),
    (Numeric(per="horizon"), 1),
    (STEP, [[1, 2, 3]]),
    (STEP, [1, 2, 3]),
    (STEP, [[1, 2], [3, 4]]),
    (STEP, [[1, 2, 3], [1, NAN, 3]]),
]


@pytest.mark.parametrize(("head", "values"), AT_FAULT)
def test_at_fault(head: Head, values: Any) -> None:
    """An output of the wrong shape, or with NaN, infinity or no probabilities, is a ValueError, no answer."""
    with pytest.raises(ValueError, match="the output"):
        answer(head, values, length=2)


def test_output_that_is_no_number() -> None:
    """An output of strings is a ValueError too."""
    with pytest.raises(ValueError, match="dtype"):
        answer_head(LOGITS, np.array([b"1", b"2", b"3"], object), 1, "right", 1)
