"""Sides in turns, on a machine of which the tests say how fast it is; nothing is measured here."""

from collections.abc import Callable, Iterator

import pytest

from tests.bench.turns import DRIFT, TRIES, Turns, in_turns


class Machine:
    """A clock that sides and probes move; `speeds` says how slow the machine is at each of them."""

    def __init__(self, speeds: Iterator[float]) -> None:
        self.did: list[str] = []
        self._speeds = speeds

    def side(self, name: str, seconds: float) -> Callable[[int], float]:
        def measured(turn: int) -> float:
            self.did.append(f"{name}{turn}")
            return seconds * next(self._speeds)

        return measured

    def probed(self) -> float:
        self.did.append("probe")
        return next(self._speeds)


def steady(slow: float = 1.0) -> Iterator[float]:
    while True:
        yield slow


def slowing(by: float) -> Iterator[float]:
    """Each thing takes longer than the one before."""
    slow = 1.0
    while True:
        yield slow
        slow *= 1 + by


def test_sides_take_turns_with_a_probe_before_and_after_each_slice() -> None:
    """A B A B, and the turn's number given to each."""
    machine = Machine(steady())
    turns = in_turns({"a": machine.side("a", 1), "b": machine.side("b", 2)}, 2, machine.probed)
    assert machine.did == ["probe", "a0", "probe", "b0", "probe", "a1", "probe", "b1", "probe"]
    assert (turns.took, turns.drifted) == ({"a": [1, 1], "b": [2, 2]}, False)


def test_what_drifts_goes_on_and_is_marked_if_it_never_is_steady() -> None:
    """A machine that slows down for good: marked, after so many times the turns, of which the last count."""
    machine = Machine(slowing(by=DRIFT / 4))
    turns = in_turns({"a": machine.side("a", 1), "b": machine.side("b", 2)}, 3, machine.probed)
    assert turns.drifted
    assert machine.did[-4:] == [f"a{int(3 * TRIES) - 1}", "probe", f"b{int(3 * TRIES) - 1}", "probe"]
    assert turns.ratios("b", "a") == pytest.approx([2.0] * 3, rel=DRIFT)  # all the same: neighbours in time


def test_turns_after_a_slow_moment_are_told_as_steady() -> None:
    """It is forgotten with the turn beside it, and no more are measured than make up for it."""
    speeds = steady()
    machine = Machine(speed if place != 2 else 1 + 2 * DRIFT for place, speed in enumerate(speeds))
    turns = in_turns({"a": machine.side("a", 1), "b": machine.side("b", 2)}, 2, machine.probed)
    assert [name for name in machine.did if name != "probe"] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert (turns.took, turns.drifted) == ({"a": [1, 1], "b": [2, 2]}, False)


def test_figures_of_slices_keep_their_turns() -> None:
    """Ratios are of each turn, to so many times the other side; a side that did nothing is no division."""
    turns = Turns({"a": ["xx", "xxx"], "b": ["x", ""]}, drifted=True).of(len).of(float)
    assert turns.drifted
    assert turns.median("a") == 2.5
    assert turns.ratios("a", "b", scale=0.5) == [4.0, 0.0]
