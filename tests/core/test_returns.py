"""When those who are refused are told to come back: as many a second as can be answered."""

from heapq import heapify, heappop, heappush

import pytest

from seqserve.service.core import returns as module
from seqserve.service.core.returns import FIRST, HELD_SECONDS, LAST, SPREAD, TOLD, Returns

ROW = 0.01
"""Seconds that a row takes the backend."""
MOST = 100_000
"""Refusals after which a crowd is not followed on."""


def crowd(principals: int, callers: int, seconds: float, heeds: float = 1.0) -> list[float]:
    """Have so many callers come at once, all be refused, always, and come again; return when they are.

    Args:
        heeds: the share of what it is told that each stays away for.
    """
    returns, came = Returns(), []
    events = [(0.0, number) for number in range(callers)]
    heapify(events)
    while events[0][0] < seconds and len(came) < MOST:
        now, number = heappop(events)
        after, held = returns.give(str(number % principals), ROW, 0.0, now)
        came.append(now)
        heappush(events, (now + held + heeds * after, number))
    return came


@pytest.mark.parametrize("principals", [1, 64, 3000])
def test_a_crowd_comes_back_no_faster_than_it_can_be_answered(principals: int) -> None:
    """Whoever they are; and from then on always."""
    came = crowd(principals, 3000, 100.0)
    for second in range(3, 100):
        assert sum(second <= at < second + 1 for at in came) < 1.5 / ROW
    assert sum(at > 5.0 for at in came) > 0.5 * 95 / ROW  # nor so late that nothing is done meanwhile


def test_few_come_back_soon_and_not_together() -> None:
    """After one to three times the wait, a second at the least."""
    for wait in (0.0, 4.0):
        returns, least = Returns(), max(wait, FIRST)
        told = [returns.give("ann", ROW, wait, 7.0) for _ in range(20)]
        assert all(least <= after <= SPREAD * least and not held for after, held in told)
        assert len({after for after, _ in told}) == 20


def test_another_principals_crowd_sends_nobody_away_for_long() -> None:
    """Nor do those who come at once all the time, and fill a minute."""
    returns = Returns()
    for number in range(20_000):
        returns.give("flood", ROW, 0.0, number / 1e4)
    after, held = returns.give("ann", ROW, 0.0, 2.0)
    assert after <= SPREAD * FIRST
    assert not held
    after, _ = returns.give("flood", ROW, 0.0, 2.0)
    assert after == LAST


def test_what_is_not_known_of_the_pace_delays_nobody() -> None:
    returns = Returns()
    told = [returns.give("ann", 0.0, 0.0, 1.0) for _ in range(20_000)]
    assert max(told) <= (SPREAD * FIRST, 0.0)
    assert len(set(told)) > 10_000  # else they would all come back together


def test_refusals_of_those_who_do_not_heed_are_held_back() -> None:
    """Those who come at once; the burst of a minute's is over by then."""
    came = crowd(64, 1000, 130.0, heeds=0.001)
    late = sum(at >= 120.0 for at in came)
    assert late < 1.2 * 10 * max(TOLD, 1 / ROW)
    assert late > 0.5 * 10 * 1000 / HELD_SECONDS


def test_nobody_who_heeds_is_held_back() -> None:
    """Not even where a minute is too short for all of them, at a row a second."""
    returns, events = Returns(), [(0.0, number) for number in range(3000)]
    while events[0][0] < 300.0:
        now, number = heappop(events)
        after, held = returns.give(str(number % 64), 1.0, 0.0, now)
        assert not held
        heappush(events, (now + after, number))


def test_principals_that_come_and_go_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest of them are remembered, and while their times are to come."""
    monkeypatch.setattr(module, "MOST_PRINCIPALS", 50)
    returns = Returns()
    for number in range(200):
        returns.give(str(number), ROW, 0.0, number / 1000)
    assert len(returns) == 50
    returns.give("last", ROW, 0.0, LAST + 2.0)
    assert len(returns) == 1
