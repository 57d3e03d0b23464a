"""What a batch costs, learned from the batches that were run, and how many rows leave by it."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service.core.cost import PENDING, TRIAL, Cost
from seqserve.service.core.queue import Budget, Queue
from tests.core.test_queue import KEYS, asked, lengths

terms = st.tuples(st.floats(0, 1), st.floats(0, 1e-2), st.floats(0, 1e-2), st.floats(1e-5, 1e-2))
batches = st.lists(lengths, min_size=1, max_size=64)


@settings(max_examples=50)
@given(terms, st.lists(batches, min_size=30, max_size=60))
def test_the_cost_is_learned(truth: tuple[float, ...], seen: list[list[int]]) -> None:
    cost, exact = Cost(), Cost(np.array(truth))
    for rows in seen * 4:
        cost.observe(len(rows), max(rows), sum(rows), exact.seconds(rows))
    apart = [abs(cost.seconds(rows) / exact.seconds(rows) - 1) for rows in seen]
    assert np.median(apart) < 0.1


def test_nothing_hangs_on_when_the_cost_is_asked_for() -> None:
    """What was seen meanwhile counts as if somebody had asked after each batch, but for the very oldest."""
    drawn, often, once = Random(7), Cost(), Cost()
    for _ in range(3 * PENDING):
        rows = [drawn.randint(1, 30) for _ in range(drawn.randint(1, 64))]
        for cost in (often, once):
            cost.observe(len(rows), max(rows), sum(rows), 0.01 + 1e-4 * len(rows) * max(rows))
        often.seconds(rows)
    assert once.seconds([5, 9, 20]) == pytest.approx(often.seconds([5, 9, 20]), rel=0.01)
    assert once.weights == pytest.approx(often.weights, rel=0.05, abs=1e-6)


def test_more_rows_are_taken_once_they_wait_and_a_slow_moment_is_forgotten() -> None:
    """One row costs 24, eight 80 and 64 rows 188: what a few say of many is wrong."""
    cost, waiting = Cost(), [10] * 64
    sizes: list[int] = []
    for turn in range(200):
        rows = cost.best(waiting if turn > 20 else [10] * (1 + turn % 8))
        seconds = float(np.interp(rows, [1, 8, 64], [0.024, 0.08, 0.188]))
        cost.observe(rows, 10, 10 * rows, seconds if turn else 10.0)
        sizes.append(rows)
    assert np.median(sizes[-20:]) > 32


def test_a_size_that_only_seemed_best_is_left() -> None:
    """Among batches of one size, what a call costs cannot be told from what its rows cost."""
    cost = Cost()
    sizes: list[int] = []
    for _ in range(4 * TRIAL):
        sizes.append(cost.best([10] * 64))
        cost.observe(sizes[-1], 10, 10 * sizes[-1], 0.001 * sizes[-1])  # one row at a time is as fast as any
    assert sizes[0] == 64
    assert [size for size in sizes[2 * TRIAL :] if size != 1] == [2, 2]


Time = Callable[[int, int, int], float]
TIMES: dict[str, Time] = {
    "a call": lambda rows, length, steps: 0.05 + 1e-4 * rows * length,
    "its steps": lambda rows, length, steps: 0.01 * length + 5e-4 * rows * length,
    "cells, padding too": lambda rows, length, steps: 0.004 + 0.001 * rows * length,
    "real steps": lambda rows, length, steps: 0.002 + 0.001 * steps,
    "rows, however many": lambda rows, length, steps: 0.001 * steps,
    "rows, the first most": lambda rows, length, steps: (
        length * float(np.interp(rows, [1, 8, 64], [0.0024, 0.008, 0.0188]))
    ),
}
"""The seconds of a batch on made backends, by what costs most there: rows, padded length, real steps."""


def best_size(time: Time, longest: int) -> tuple[float, int]:
    """Try each size on a plain list of 64 waiting rows: the oldest and the likest of the others leave.

    Returns:
        The most real steps a second that any size reaches, and the smallest size within 1 % of it.
    """
    paces = {}
    for size in (1, 2, 4, 8, 16, 32, 64):
        random, steps, seconds = Random(1), 0, 0.0
        waiting = [random.randint(1, longest) for _ in range(64)]
        for _ in range(60):
            lead = waiting[0]
            likest = sorted(range(64), key=lambda place: abs(waiting[place] - lead))
            batch = [waiting[place] for place in likest[:size]]
            waiting = [waiting[place] for place in sorted(likest[size:])]
            waiting += [random.randint(1, longest) for _ in batch]
            steps, seconds = steps + sum(batch), seconds + time(len(batch), max(batch), sum(batch))
        paces[size] = steps / seconds
    best = max(paces.values())
    return best, min(size for size, pace in paces.items() if pace > 0.99 * best)


@pytest.mark.parametrize("longest", [1, 16])
@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
async def test_as_many_rows_leave_as_pay_and_no_more(time: Time, longest: int) -> None:
    """Whatever costs time: by what it learned, a queue's pace is near that of the best of all sizes.

    Nor are its batches much larger than the smallest size with that pace: more rows would only wait longer.
    """
    queue, random, now, steps, sizes = Queue(Budget(64, 9999, 99_999)), Random(1), 0.0, [], []
    for _ in range(64):
        asked(queue, KEYS[0], [random.randint(1, longest)])
    for turn in range(300):
        if turn == 100:
            began = now  # it has learned
        batch = queue.take(now)
        lengths = [entry.row.length for entry in batch]
        seconds = time(len(batch), max(lengths), sum(lengths))
        now += seconds
        queue.observe(batch, max(lengths), seconds)
        steps.append(sum(lengths))
        sizes.append(len(batch))
        for _ in batch:
            asked(queue, KEYS[0], [random.randint(1, longest)])
    best, smallest = best_size(time, longest)
    assert sum(steps[100:]) / (now - began) > 0.88 * best
    assert np.median(sizes[100:]) <= 2.5 * smallest


@given(batches)
def test_while_nothing_is_known_all_rows_leave(rows: list[int]) -> None:
    assert Cost().best(rows) == len(rows)


BY_STEP = np.array([0.0, 1.0, 0.1, 0.0])
"""A step costs 1 however many rows take it, and a cell a tenth."""


@given(batches, st.integers(1, 64), st.floats(0, 200))
def test_what_is_left_would_add_next_to_nothing_or_takes_too_long(
    rows: list[int], least: int, most_seconds: float
) -> None:
    """As few as come within a hundredth of the best pace that may be had; those in turn may be."""
    cost = Cost(BY_STEP)
    size = cost.best(rows, min(least, len(rows)), most_seconds)
    paces = [sum(rows[:many]) / cost.seconds(rows[:many]) for many in range(1, len(rows) + 1)]
    may = [many <= least or cost.seconds(rows[:many]) <= most_seconds for many in range(1, len(rows) + 1)]
    wanted = 0.99 * max(pace for pace, is_let in zip(paces, may, strict=True) if is_let)
    assert may[size - 1]
    assert paces[size - 1] >= wanted
    assert all(pace < wanted for pace in paces[: size - 1])


@given(batches)
def test_a_request_that_is_alone_leaves_as_is_quickest(rows: list[int]) -> None:
    """Whole, or in the two batches that it would leave in beside others."""
    cost = Cost(BY_STEP)
    beside, alone = cost.best(rows), cost.best(rows, is_whole=True)
    in_two = cost.seconds(rows[:beside]) + cost.seconds(rows[beside:] or [0])
    assert alone == (beside if in_two < cost.seconds(rows) else len(rows))
