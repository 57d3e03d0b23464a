"""Limits of each principal against plain sums: nobody gets more than its share, and nobody less."""

from contextlib import AbstractContextManager, ExitStack

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.core import limits as module
from seqserve.service.core.limits import BURST_SECONDS, HELD_SECONDS, Limits, Shares
from tests.core.fakes import Clock


def refused(asked: AbstractContextManager[None]) -> errors.RateLimited | None:
    """Ask, and end at once; return the error of who is refused."""
    try:
        with asked:
            return None
    except errors.RateLimited as error:
        return error


amounts = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), min_size=1, max_size=40)


@given(amounts, st.floats(0.5, 200))
def test_cells_a_second_are_what_a_bucket_holds(asked: list[tuple[float, int]], rate: float) -> None:
    """Refused at once where it holds too little, and let in when the hint says; a full one pays for all."""
    clock = Clock(1e5)
    limits = Limits(Shares(cells_per_second=rate), clock)
    burst = rate * BURST_SECONDS
    level = burst
    for pause, cells in asked:
        clock.now += pause
        level = min(burst, level + pause * rate)
        missing = (min(cells, burst) - level) / rate  # seconds
        error = refused(limits.computing("ann", cells))
        if error is not None:
            assert error.limit == "principal_cells_per_second"
            assert error.retry_after == pytest.approx(missing, abs=1e-6)
            clock.now += error.retry_after or 0
            level = min(burst, level + (error.retry_after or 0) * rate)
            assert refused(limits.computing("ann", cells)) is None
        else:
            assert missing < 1e-6
        level -= cells


@pytest.mark.parametrize("error", [errors.QueueFull("full"), errors.Draining("ends")])
def test_who_is_refused_behind_the_limits_has_its_cells_back(error: errors.SeqserveError) -> None:
    """Those just charged, and those of an earlier try of the same request; any other end keeps them."""
    limits = Limits(Shares(cells_per_second=20 / BURST_SECONDS), Clock())

    def ended(by: Exception, paid: int = 0) -> None:
        with pytest.raises(type(by)), limits.computing("ann", 20, paid):
            raise by

    ended(error)
    assert refused(limits.computing("ann", 20)) is None
    assert refused(limits.computing("ann", 20, paid=20)) is None
    ended(error, paid=20)
    ended(errors.DeadlineExceeded("late"))
    assert refused(limits.computing("ann", 20)) is not None


def test_requests_a_second_come_at_once_only_as_a_burst() -> None:
    clock = Clock()
    limits = Limits(Shares(requests_per_second=10), clock)

    def let_in(name: str) -> int:
        count = 0
        while (error := refused(limits.calling(name))) is None:
            count += 1
        assert error.limit == "principal_requests_per_second"
        assert error.retry_after == pytest.approx(0.1)
        assert "SEQSERVE_PRINCIPAL_REQUESTS_PER_SECOND" in error.message
        return count

    assert (let_in("ann"), let_in("ann"), let_in("bob")) == (20, 0, 20)
    clock.now += 1
    assert let_in("ann") == 10


def test_refusals_beyond_a_rate_are_told_later_the_more_there_are() -> None:
    """At most so much later, and of nobody else; after a pause at once again."""
    clock = Clock()
    limits = Limits(Shares(requests=0, refusals_per_second=100), clock)

    def told_after(count: int, name: str = "ann") -> list[float]:
        errors_of = [refused(limits.calling(name)) for _ in range(count)]
        return [error.told_after for error in errors_of if error is not None]

    at_once = pytest.approx(0.0, abs=1e-6)
    assert told_after(100) == [at_once] * 100
    late = told_after(2000)
    for number, seconds in enumerate(late, 1):
        most = min(number / 100, HELD_SECONDS)
        assert most / 2 - 1e-6 <= seconds <= most + 1e-6
    assert len(set(late[1000:])) == 1000  # else they would all come back together
    assert told_after(1, "bob") == [at_once]
    clock.now += HELD_SECONDS + 0.5
    assert told_after(51) == [at_once] * 50 + [pytest.approx(0.0075, abs=0.0026)]
    clock.now += 100
    assert told_after(100) == [at_once] * 100


opened = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 60) | st.none()), max_size=60)


@given(opened)
def test_what_is_open_at_once_is_bounded_for_each_alone(steps: list[tuple[str, int | None]]) -> None:
    """One request alone is always let in, however many cells it has; what ends makes room."""
    limits, most = Limits(Shares(cells=100)), 100
    held: dict[str, list[tuple[int, ExitStack]]] = {"a": [], "b": []}
    for name, cells in steps:
        if cells is None:
            if held[name]:
                held[name].pop(0)[1].close()
            continue
        cells *= 3
        taken, stack = sum(taken for taken, _ in held[name]), ExitStack()
        if taken and taken + cells > most:
            with pytest.raises(errors.RateLimited, match=f"{taken} cells are open, and this request takes"):
                stack.enter_context(limits.computing(name, cells))
        else:
            stack.enter_context(limits.computing(name, cells))
            held[name].append((cells, stack))
    assert len(limits) == sum(map(bool, held.values()))
    for stacks in held.values():
        for _, stack in stacks:
            stack.close()
    assert len(limits) == 0


def test_principals_that_come_and_go_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose bucket is not full are remembered, the latest of them, and all who have something open."""
    monkeypatch.setattr(module, "MOST_AT_REST", 100)
    clock = Clock()
    limits = Limits(Shares(requests_per_second=0.001, requests=1), clock)
    with limits.calling("open"):
        for number in range(1000):
            with limits.calling(f"192.0.2.{number}"):
                pass
        assert len(limits) == 101
        assert refused(limits.calling("open")) is not None
        assert refused(limits.calling("192.0.2.999")) is not None
        assert refused(limits.calling("192.0.2.0")) is None
    assert len(limits) == 100
