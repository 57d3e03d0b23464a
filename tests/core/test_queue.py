"""The queue against a plain list: who is taken, who is refused, who is dropped."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import errors
from service.contract.manifest import PREDICT_SIGNATURE
from service.core.queue import BatchKey, Budget, Entry, Queue
from tests.core.fakes import row, served

SHARED = served()
KEYS = [
    BatchKey(SHARED, PREDICT_SIGNATURE, ()),
    BatchKey(SHARED, PREDICT_SIGNATURE, (("boost", 2),)),
    BatchKey(served(version=2), PREDICT_SIGNATURE, ()),
    BatchKey(served(batching="single"), PREDICT_SIGNATURE, ()),
]
append = st.tuples(st.just("append"), st.sampled_from(KEYS), st.integers(1, 16), st.integers(1, 9))
leave = st.tuples(st.just("leave"), st.integers(0, 30))
take = st.tuples(st.just("take"), st.integers(0, 3))
cells = st.integers(1, 48) | st.sampled_from([8, 12, 16, 24, 32, 48])  # what batches can fill exactly
budgets = st.builds(Budget, st.integers(1, 5), cells, st.integers(16, 90))


def entry_of(key: BatchKey, length: int, deadline: float = 9.0) -> Entry:
    future = asyncio.get_running_loop().create_future()
    return Entry(key, row([1.0] * length), deadline, 0.0, future)


def alive(entries: list[Entry], now: float) -> list[Entry]:
    """Return those that someone waits for: at its deadline an entry is too late."""
    return [entry for entry in entries if not entry.future.done() and entry.deadline > now]


def cells_of(entries: list[Entry]) -> int:
    return sum(entry.cells for entry in entries)


def check_batch(batch: list[Entry], live: list[Entry], budget: Budget) -> None:
    """Check a batch against those that could have been in it, oldest first."""
    assert bool(batch) == bool(live)
    if not batch:
        return
    oldest, longest = live[0], max(entry.cells for entry in batch)
    assert oldest in batch
    assert set(batch) <= set(live)
    assert len(batch) == len(set(batch))
    assert {entry.key for entry in batch} == {oldest.key}
    if oldest.key.served.manifest.batching == "single":
        assert batch == [oldest]
        return
    assert len(batch) <= budget.rows
    assert len(batch) == 1 or len(batch) * longest <= budget.cells
    left = [entry for entry in live if entry.key == oldest.key and entry not in batch]
    if len(batch) < budget.rows:  # then none who waits would have fitted in as well
        assert all(max(longest, entry.cells) * (len(batch) + 1) > budget.cells for entry in left)


@given(budgets, st.lists(append | append | leave | take, max_size=40))
async def test_every_batch_is_fair_full_and_within_budget(
    budget: Budget, steps: list[tuple[Any, ...]]
) -> None:
    queue, now = Queue(budget), 0.0
    waiting: list[Entry] = []
    for step, *how in steps:
        if step == "append":
            entry = entry_of(how[0], how[1], now + how[2])
            live = alive(waiting, now)
            if cells_of(live) + entry.cells > budget.queue_cells:
                with pytest.raises(errors.QueueFull) as caught:
                    queue.append(entry, now)
                assert caught.value.retry_after == 1.0
                assert queue.cells == cells_of(live)
            else:
                queue.append(entry, now)
                waiting.append(entry)
        elif step == "leave" and waiting:
            waiting[how[0] % len(waiting)].future.cancel()
        elif step == "take":
            now += how[0]
            live = alive(waiting, now)
            batch = queue.take(now)
            check_batch(batch, live, budget)
            waiting = [entry for entry in live if entry not in batch]
            assert queue.cells == cells_of(waiting)
    assert set(waiting) >= set(queue.clear()) >= set(alive(waiting, now))
    assert queue.cells == 0


@given(budgets, st.lists(st.integers(1, 16), max_size=24))
@example(Budget(5, 16, 99), [3, 5, 1])  # the third would fit beside the first, not beside the second
async def test_everyone_is_taken_once(budget: Budget, lengths: list[int]) -> None:
    queue = Queue(Budget(budget.rows, budget.cells, 9999))
    waiting = [entry_of(KEYS[0], length) for length in lengths]
    for entry in waiting:
        queue.append(entry, 0.0)
    while waiting:
        batch = queue.take(0.0)
        check_batch(batch, waiting, budget)
        waiting = [entry for entry in waiting if entry not in batch]
    assert queue.take(0.0) == []


async def test_like_lengths_share_a_batch_and_a_long_row_is_next_all_the_same() -> None:
    queue = Queue(Budget(rows=2, cells=64, queue_cells=999))
    short, long, shorter, tall = (entry_of(KEYS[0], length) for length in (3, 16, 2, 15))
    for entry in (short, long, shorter, tall):
        queue.append(entry, 0.0)
    assert queue.take(0.0) == [short, shorter]
    assert queue.take(0.0) == [long, tall]
    assert queue.take(0.0) == []


async def test_a_row_alone_may_be_larger_than_a_batch() -> None:
    queue = Queue(Budget(rows=4, cells=8, queue_cells=999))
    huge, small = entry_of(KEYS[0], 16), entry_of(KEYS[0], 1)
    for entry in (huge, small):
        queue.append(entry, 0.0)
    assert [queue.take(0.0), queue.take(0.0)] == [[huge], [small]]
