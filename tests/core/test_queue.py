"""The queue against a plain list: who is taken, and whose turn it is."""

import gc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from seqserve.service import errors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.core.entries import BatchKey, Caller, Entry, cells_of
from seqserve.service.core.queue import OLDEST, Budget, Queue
from seqserve.service.core.tasks import TRANSLATION
from seqserve.service.core.types import Served
from tests.core.fakes import NEVER, parsed, row, served, translation_manifest

SHARED = served()


def another(name: str) -> BatchKey:
    """Return the key of a model of its own."""
    model = Served(name, 1, "sha256:0", SHARED.manifest, SHARED.task, SHARED.codec)
    return BatchKey(model, PREDICT_SIGNATURE, ())


KEYS = [
    BatchKey(SHARED, PREDICT_SIGNATURE, ()),
    BatchKey(SHARED, PREDICT_SIGNATURE, (("boost", 2),)),
    BatchKey(served(version=2), PREDICT_SIGNATURE, ()),
    BatchKey(served(batching="single"), PREDICT_SIGNATURE, ()),
    another("another"),
]
lengths = st.integers(1, 16)
principals = st.sampled_from(["", "a", "b"])
ask = st.tuples(
    st.just("ask"),
    st.sampled_from(KEYS),
    st.lists(lengths, min_size=1, max_size=4),
    st.integers(1, 9),
    principals,
)
leave = st.tuples(st.just("leave"), st.integers(0, 30))
take = st.tuples(st.just("take"), st.integers(0, 3))
cells = st.integers(1, 48) | st.sampled_from([8, 12, 16, 24, 32, 48])  # what batches can fill exactly
budgets = st.builds(Budget, st.integers(1, 5), cells, st.integers(16, 90))


def entry_of(caller: Caller, length: int) -> Entry:
    given = row([1.0] * length)
    return Entry(caller, len(caller.entries), given, 0.0, cells_of(given, caller.key))


def asked(
    queue: Queue, key: BatchKey, rows: Sequence[int], deadline: float = NEVER, principal: str = ""
) -> Caller:
    """Put a request's rows in the queue."""
    caller = Caller(key, deadline, principal)
    for length in rows:
        queue.append(entry_of(caller, length))
    return caller


def alive(entries: Sequence[Entry], now: float) -> list[Entry]:
    """Return those that someone waits for: at its deadline an entry is too late."""
    return [entry for entry in entries if not entry.caller.gone and entry.caller.deadline > now]


def total(entries: Sequence[Entry]) -> int:
    return sum(entry.cells for entry in entries)


def check_batch(batch: list[Entry], live: list[Entry], budget: Budget) -> None:
    """Check a batch against those that could have been in it, in the order of their requests."""
    assert bool(batch) == bool(live)
    if not batch:
        return
    lead, longest = batch[0], max(entry.cells for entry in batch)
    assert set(batch) <= set(live)
    assert len(batch) == len(set(batch))
    assert {entry.key for entry in batch} == {lead.key}
    if lead.key.served.manifest.batching == "single":
        assert batch == [lead]
        return
    assert len(batch) <= budget.rows
    assert len(batch) == 1 or len(batch) * longest <= budget.cells
    left = [entry for entry in live if entry.key == lead.key and entry not in batch]
    if len(batch) < budget.rows:  # nothing is known of the cost: none who would have fitted in is left
        assert all(max(longest, entry.cells) * (len(batch) + 1) > budget.cells for entry in left)


@given(budgets, st.lists(ask | ask | leave | take, max_size=40))
async def test_every_batch_is_within_budget_and_everyone_is_taken_once(
    budget: Budget, steps: list[tuple[Any, ...]]
) -> None:
    queue, now = Queue(budget), 0.0
    callers: list[Caller] = []
    taken: list[Entry] = []

    def waiting() -> list[Entry]:
        return [e for c in callers for e in c.entries if not c.gone and e not in taken]

    for step, *how in steps:
        if step == "ask":
            callers.append(asked(queue, how[0], how[1], now + how[2], how[3]))
        elif step == "leave" and callers:
            queue.leave(callers[how[0] % len(callers)])
        elif step == "take":
            now += how[0]
            for caller in callers:  # as their own timers make them
                if caller.deadline < now:
                    queue.leave(caller)
            batch = queue.take(now)
            check_batch(batch, alive(waiting(), now), budget)
            taken += batch
            late = [caller for caller in callers if caller.deadline == now]
            assert all(entry.caller not in late for entry in batch)
            for caller in late:
                queue.leave(caller)
        assert queue.cells == total(waiting())
    assert set(queue.clear()) == set(waiting())
    assert queue.cells == 0


@given(st.lists(lengths, min_size=1, max_size=24), st.integers(1, 6))
async def test_a_batch_is_its_lead_and_the_likest_in_length(rows: list[int], most: int) -> None:
    """Of requests of one row, that came in one turn."""
    queue = Queue(Budget(most, 999, 9999))
    callers = [asked(queue, KEYS[0], [length]) for length in rows]
    left = [caller.entries[0] for caller in callers]
    while batch := queue.take(0.0):
        lead, *mates = batch
        assert lead is left[0]
        left = [entry for entry in left if entry not in batch]
        apart = [abs(entry.row.length - lead.row.length) for entry in mates]
        assert all(abs(entry.row.length - lead.row.length) >= max(apart, default=0) for entry in left)
        assert len(mates) == most - 1 or not left
    assert not left


@given(st.lists(lengths, min_size=1, max_size=9), st.integers(20, 99), st.integers(2, 12), principals)
async def test_a_batch_takes_those_in_turn_before_a_requests_many(
    rows: list[int], many: int, most: int, principal: str
) -> None:
    """However like in length the many are, and whose they are: single rows leave in batches of their own."""
    queue = Queue(Budget(most, 9999, 99_999))
    asked(queue, KEYS[0], [8] * many, principal=principal)
    queue.take(0.0)
    late = [asked(queue, KEYS[0], [length]) for length in rows]
    batches = 0
    while any(caller.waiting for caller in late):
        queue.take(0.0)
        batches += 1
    assert batches <= -(-len(rows) // (most - 1)) + 1


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 8))
@example(200, 1, 1)
async def test_one_requests_many_rows_do_not_hold_up_another(many: int, rows: int, others: int) -> None:
    """Whoever comes with one row leads a batch after at most one of each who came so before."""
    queue = Queue(Budget(rows, 999, 99_999))
    asked(queue, KEYS[0], [8] * many)
    queue.take(0.0)
    late = [asked(queue, KEYS[0], [8]) for _ in range(others)]
    for _ in range(others + 1):
        queue.take(0.0)
    assert not any(caller.waiting for caller in late)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 3), lengths, st.booleans())
async def test_nor_do_others_hold_up_a_request_for_ever(
    others: int, many: int, rows: int, length: int, is_another: bool
) -> None:
    """Beside callers who always come again, a row is taken within a turn of everybody for each before it.

    Principals share by cells: beside another one's rows of 1 to 16, a row of 16 counts like two of them.
    """
    queue, key = Queue(Budget(rows, 999, 99_999)), KEYS[0]
    patient = asked(queue, key, [length] * many, principal="patient" if is_another else "")
    for _ in range(others):
        asked(queue, key, [16])
    turns = 0
    while patient.waiting:
        for entry in queue.take(0.0):
            if entry.caller is not patient:
                asked(queue, key, [1 + turns % 16])
        turns += 1
    share = max(1.0, length / 8.5) if is_another else 1.0
    assert turns <= (others + 1) * (share * many + 1)


@given(st.integers(1, 400), st.integers(1, 3), st.integers(2, 8), st.integers(1, 4))
async def test_many_small_requests_of_one_principal_count_like_one_large(
    many: int, others: int, most: int, rows: int
) -> None:
    """Beside its flood, whoever comes leads the next batches, but for those that the oldest leads."""
    queue = Queue(Budget(most, 999, 99_999))
    for _ in range(many):
        asked(queue, KEYS[0], [8], principal="flood")
    for _ in range(3):
        queue.take(0.0)
    late = [asked(queue, KEYS[0], [16] * rows, principal=f"late {number}") for number in range(others)]
    batches = 0
    while any(caller.waiting for caller in late):
        queue.take(0.0)
        batches += 1
    needed = others * rows
    assert batches <= needed + -(-needed // (OLDEST - 1)) + 1


async def test_two_floods_get_as_many_cells() -> None:
    """However many requests each has, and though one asks for twice as long a row."""
    queue, had = Queue(Budget(8, 999, 99_999)), {"few": 0, "many": 0}
    for name, waiting, length in (("few", 9, 8), ("many", 300, 16)):
        for _ in range(waiting):
            asked(queue, KEYS[0], [length], principal=name)
    for _ in range(800):
        for entry in queue.take(0.0):
            had[entry.caller.principal] += entry.cost
            asked(queue, KEYS[0], [entry.row.length], principal=entry.caller.principal)
    assert had["few"] == pytest.approx(had["many"], rel=0.15)


async def test_a_principal_of_which_nobody_hears_again_is_forgotten() -> None:
    queue = Queue(Budget(4, 999, 99_999))
    for number in range(2000):
        asked(queue, KEYS[0], [4], principal=str(number))
        queue.take(0.0)
    line = queue.line(KEYS[0].served.model)
    assert len(line.flows) < 200


@given(st.lists(lengths, min_size=4, max_size=40), st.integers(1, 4))
async def test_of_requests_of_one_row_the_oldest_leads_however_long(rows: list[int], most: int) -> None:
    queue, waiting = Queue(Budget(most, 999, 99_999)), []
    for number, length in enumerate(rows):
        waiting += asked(queue, KEYS[0], [length]).entries
        if number % 3 == 2:
            batch = queue.take(0.0)
            assert batch[0] is waiting[0]
            waiting = [entry for entry in waiting if entry not in batch]


async def test_a_row_that_has_left_is_not_kept() -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(thing, Entry) for thing in gc.get_objects())

    queue, before = Queue(Budget(4, 999, 99_999)), kept()
    for _ in range(500):
        asked(queue, KEYS[0], [1])
        queue.take(0.0)
    assert kept() - before < 10
    patient = asked(queue, KEYS[0], [16])
    for _ in range(500):
        queue.leave(asked(queue, KEYS[0], [1]))
    assert patient.waiting
    assert kept() - before < 200


async def test_models_share_the_time_and_not_the_batches() -> None:
    """A model whose batches take nine times as long gets a turn where the other gets nine."""
    queue, slow, fast = Queue(Budget(1, 99, 99_999)), another("slow"), another("fast")
    for key in (slow, fast):
        asked(queue, key, [4] * 300)
    spent = {"slow": 0.0, "fast": 0.0}
    for _ in range(200):
        batch = queue.take(0.0)
        model = batch[0].key.served.model
        seconds = 0.9 if model == "slow" else 0.1
        spent[model] += seconds
        queue.observe(batch, 4, seconds)
    assert spent["slow"] == pytest.approx(spent["fast"], rel=0.1)
    asked(queue, another("new"), [4] * 300)  # it has not saved up the time before it came
    turns = []
    for _ in range(30):
        batch = queue.take(0.0)
        turns.append(batch[0].key.served.model)
        queue.observe(batch, 4, 0.9 if turns[-1] == "slow" else 0.1)
    assert 10 <= turns.count("new") <= 16


async def test_what_comes_back_at_the_deadline_is_given_and_then_the_deadline_told() -> None:
    """Also where the timer went off while nobody waited: it does so once."""
    caller = Caller(KEYS[0], 1.0)
    first = entry_of(caller, 1)
    caller.settle(first, {})
    caller.expire()
    assert await caller.settled() == [first]
    with pytest.raises(errors.DeadlineExceeded):
        await caller.settled()


@given(lengths)
async def test_a_row_takes_its_own_steps_a_fixed_axis_and_each_beam(length: int) -> None:
    """With one bucket the time axis may be fixed; with several the longest of a batch is enough."""
    one, lone = served(buckets=[16]), served(buckets=[16], batching="single")
    for who, wanted in ((SHARED, length), (one, 16), (lone, length)):
        assert entry_of(Caller(BatchKey(who, PREDICT_SIGNATURE, ()), NEVER), length).cells == wanted
    echo = Served("echo", 1, "sha256:0", parsed(translation_manifest()), TRANSLATION, SHARED.codec)
    beams = BatchKey(echo, "beam", (("beam_size", 3.0),))
    assert entry_of(Caller(beams, NEVER), length).cells == 3 * length


async def test_a_row_alone_may_be_larger_than_a_batch() -> None:
    queue = Queue(Budget(rows=4, cells=8, queue_cells=999))
    huge, small = (asked(queue, KEYS[0], [length]).entries for length in (16, 1))
    assert [queue.take(0.0), queue.take(0.0)] in ([huge, small], [small, huge])


async def test_a_name_that_a_caller_made_up_is_not_kept() -> None:
    """A door asks for room before anybody looks whether there is such a model."""
    queue = Queue(Budget(4, 99, 99))
    assert [queue.line(str(number)).size for number in range(100)] == [0] * 100
    assert not queue._lines
