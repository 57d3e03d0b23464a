"""Turns on the event loop: a few tasks begin in each, in order, and everybody else is heard in between."""

import asyncio
import itertools
from collections import Counter

from hypothesis import given, strategies as st

from seqserve.service.core.turns import Turnstile


@given(st.integers(1, 5), st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_no_more_than_a_few_begin_in_a_turn_and_none_is_passed_over(
    most: int, tasks: int, cancelled: set[int]
) -> None:
    """Those that are cancelled while they wait take nobody's place."""
    began: list[tuple[int, int]] = []  # the turn and the task

    async def run() -> None:
        turnstile, turn = Turnstile(most, clock=itertools.count().__next__), 0  # each takes long

        async def task(number: int) -> None:
            await turnstile.enter()
            began.append((turn, number))

        running = [asyncio.create_task(task(number)) for number in range(tasks)]
        await asyncio.sleep(0)  # all stand before it, and the first are through
        for number in cancelled:
            if number < tasks:
                running[number].cancel()
        while not all(one.done() for one in running):
            turn += 1
            await asyncio.sleep(0)

    asyncio.run(run())
    through = [number for _, number in began]
    assert through == sorted(through)
    assert set(through) | {number for number in cancelled if number < tasks} == set(range(tasks))
    by_turn = Counter(turn for turn, _ in began)
    assert all(count <= most for count in by_turn.values())
    left = len(through) - by_turn[0]
    assert len(by_turn.keys() - {0}) == -(-left // most)  # and no turn is lost


async def test_those_that_take_little_begin_in_one_turn() -> None:
    turnstile = Turnstile(2, clock=lambda: 0.0)
    running = [asyncio.create_task(turnstile.enter()) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(one.done() for one in running)
