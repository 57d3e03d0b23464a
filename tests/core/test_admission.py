"""Who is refused for the waiting ahead, and what is learned of the pace."""

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.core.admission import Admission
from seqserve.service.core.queue import Budget, Queue
from seqserve.service.core.returns import FIRST, LAST, SPREAD
from tests.core.test_queue import KEYS, asked

MODEL = KEYS[0].served.model


class Door:
    """A queue of batches of one row and its admission."""

    now = 0.0

    def __init__(self, queue_cells: int = 99_999) -> None:
        self.queue, self.admission = Queue(Budget(1, 99, queue_cells)), Admission(queue_cells)

    def ask(self, rows: int, left: float, principal: str = "", cells: int = 10) -> None:
        """Put a request in, or raise QueueFull."""
        self.check(left, rows, principal, cells)
        asked(self.queue, KEYS[0], [cells] * rows, principal=principal)

    def check(self, left: float, rows: int = 1, principal: str = "", cells: int | None = None) -> None:
        line = self.queue.line(MODEL)
        cells = None if cells is None else rows * cells
        self.admission.check(line, MODEL, principal, left, self.now, rows, cells)

    def run(self, ends: Sequence[float], seconds: float = 1.0) -> None:
        """Run batches that end then."""
        for now in ends:
            self.now = now
            self.queue.take(now)
            self.admission.observe(self.queue.line(MODEL), MODEL, 10, seconds, now)


def refused(door: Door, left: float, rows: int = 1, principal: str = "", cells: int | None = None) -> float:
    """Return the wait that a refusal names."""
    with pytest.raises(errors.QueueFull, match="of waiting are ahead") as caught:
        door.check(left, rows, principal, cells)
    wait = float(caught.value.message.split(" s ")[0])
    assert min(max(wait, FIRST), LAST) <= (caught.value.retry_after or 0.0) <= LAST
    return wait


def test_who_would_wait_in_vain_is_told_so_at_once() -> None:
    """A row takes a second, one is under way, and who has few does not wait for those with many."""
    door = Door()
    door.ask(39, 99.0)
    door.run(range(9), seconds=0.5)  # half of the time goes to something else
    door.check(6.1)  # a new one is done after 3 seconds: after one of those
    assert refused(door, 5.9) == refused(door, 0.1) == 3.0
    assert refused(door, 12.0, rows=3, cells=10) == 7.0
    door.ask(2, 12.0)  # done after 3 and 5 seconds
    assert refused(door, 145.0, rows=40, cells=10) == 73.0  # all, and its own
    Door().ask(1, 0.001)  # nothing waits


def test_a_principal_waits_for_no_more_of_anothers_rows_than_it_has() -> None:
    door = Door()
    for _ in range(39):
        door.ask(1, 99.0, principal="flood")
    door.run(range(9))
    assert refused(door, 0.1, principal="flood") == 32.0  # all 30 and its own, and one under way
    assert refused(door, 0.1, principal="other") == 3.0
    door.ask(4, 99.0, principal="third")
    assert refused(door, 0.1, principal="other") == 4.0  # one of each


def test_after_a_stall_nobody_is_refused_for_it() -> None:
    """A row takes a second, but for one that took a minute."""
    door = Door()
    door.ask(20, 99.0)
    door.run((0.0, 1.0, 2.0, 62.0, 63.0, 64.0))
    door.check(6.1)  # done after 3 seconds


def test_a_rush_after_a_quiet_spell_is_refused_in_time() -> None:
    """What the last one taught is known when the next begins, before any of its batches has ended."""
    door = Door()
    door.ask(9, 99.0)
    door.run(range(9))
    for now in range(100, 200, 10):  # one at a time
        door.ask(1, 99.0)
        door.run([now])
    door.ask(1, 99.0)
    assert refused(door, 0.1) == 3.0


def test_what_is_out_of_date_holds_nobody_up() -> None:
    """The backend is ten times as fast as it was in the last rush; a batch alone shows it."""
    door = Door()
    door.ask(9, 99.0)
    door.run(range(9))
    door.ask(1, 99.0)
    door.run([100.0], seconds=0.1)
    door.ask(1, 99.0)
    assert refused(door, 0.1) == 0.3


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 16)), max_size=20), st.integers(16, 90))
def test_no_more_cells_wait_than_there_is_room_for(requests: list[tuple[int, int]], limit: int) -> None:
    """Nothing is known of the pace. Who is alone is taken, however large."""
    door, waiting = Door(limit), 0
    for rows, cells in requests:
        if waiting and waiting + rows * cells > limit:
            with pytest.raises(errors.QueueFull, match=f"would pass the limit of {limit}") as caught:
                door.ask(rows, 9.0, cells=cells)
            assert caught.value.limit == "max_queue_cells"
            assert 1.0 <= (caught.value.retry_after or 0.0) <= SPREAD
        else:
            door.ask(rows, 9.0, cells=cells)
            waiting += rows * cells
    assert door.queue.cells == waiting
