"""The scheduler: each row gets its own answer, in time or not at all, whatever its neighbours do."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.manifest import PREDICT_SIGNATURE
from seqserve.service.contract.padding import Array
from seqserve.service.core.entries import BatchKey, Caller, Entry
from seqserve.service.core.queue import Budget
from seqserve.service.core.types import BatchOptions, Outputs, Served
from tests.core.fakes import (
    BUDGET,
    NEVER,
    POISON,
    Core,
    one_row,
    row,
    running,
    series,
    served,
    settle,
    total,
    totals,
)

SERVED = served()
BOOSTS: tuple[BatchOptions, ...] = ((("boost", 0.0),), (("boost", 2.0),))
LABELS = ("totals", "1")
FEWER = settings(max_examples=40)


@dataclass(frozen=True)
class Asked:
    """A row of one caller: when it comes, until when it is worth answering, when its caller leaves."""

    values: Sequence[float]
    options: BatchOptions = BOOSTS[0]
    at: int = 0
    seconds: float = NEVER
    leaves: float | None = None

    @property
    def poisonous(self) -> bool:
        return POISON in self.values

    @property
    def answer(self) -> float:
        return total(list(self.values), self.options[0][1])


values = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=16)
patient = st.builds(Asked, values, st.sampled_from(BOOSTS), st.integers(0, 6))
poisonous = st.builds(Asked, values.map(lambda some: [*some[1:], POISON]), st.sampled_from(BOOSTS))
# halves: never at the very instant at which a batch ends
hurried = st.builds(Asked, values, at=st.integers(0, 6), seconds=st.integers(1, 9).map(lambda s: s - 0.5))
leaving = st.builds(Asked, values, at=st.integers(0, 3), leaves=st.integers(0, 9).map(lambda s: s + 0.25))
budgets = st.builds(Budget, st.integers(1, 6), st.integers(1, 80), st.just(100_000))


async def ask(core: Core, asked: Asked, who: Served = SERVED) -> Outputs:
    await asyncio.sleep(asked.at)
    deadline = asyncio.get_running_loop().time() + asked.seconds
    given = row(list(asked.values))
    return await one_row(core.scheduler, who, asked.options, given, deadline)


async def ask_all(core: Core, everyone: Sequence[Asked]) -> list[Outputs | BaseException]:
    """Return what each got; a caller who leaves gets CancelledError."""
    loop = asyncio.get_running_loop()
    tasks = [asyncio.create_task(ask(core, asked)) for asked in everyone]
    for asked, task in zip(everyone, tasks, strict=True):
        if asked.leaves is not None:
            loop.call_later(asked.at + asked.leaves, task.cancel)
    return await asyncio.gather(*tasks, return_exceptions=True)


def check_metrics(core: Core, queued: int | None = None) -> None:
    """Check that what was counted is what reached the backend."""
    batches = core.backend.batches
    real = sum(int(batch.inputs["mask"].sum()) for batch in batches)
    cells = sum(batch.inputs["mask"].size for batch in batches)
    counted = {
        "batch_rows_count": len(batches),
        "batch_rows_sum": sum(batch.rows for batch in batches),
        "batch_cells_count": len(batches),
        "batch_cells_sum": cells,
        "real_cells_total": real,
        "padding_cells_total": cells - real,
    }
    for name, wanted in counted.items():
        assert series(core.metrics, name).get(LABELS, 0) == wanted, name
    stages = series(core.metrics, "stage_seconds_count")
    assert stages.get((*LABELS, "pad"), 0) == stages.get((*LABELS, "backend"), 0) == len(batches)
    if queued is not None:
        assert stages.get((*LABELS, "queue"), 0) == queued
    time = sum(core.backend.seconds for _ in batches)
    assert series(core.metrics, "stage_seconds_sum").get((*LABELS, "backend"), 0) == pytest.approx(time)


@given(st.lists(patient | patient | leaving | poisonous | hurried, max_size=20), budgets, st.integers(1, 3))
async def test_everyone_gets_their_own_answer_whatever_the_others_do(
    everyone: list[Asked], budget: Budget, slots: int
) -> None:
    async with running(budget=budget, slots=slots) as core:
        core.backend.seconds = 1.0
        got = await ask_all(core, everyone)
        for asked, answer in zip(everyone, got, strict=True):
            if isinstance(answer, Mapping):
                assert answer["total"].tolist() == [asked.answer]
                assert answer["size"].tolist() == [len(asked.values), 2.5]
            elif isinstance(answer, errors.BackendFailed):
                assert asked.poisonous
            elif isinstance(answer, (errors.DeadlineExceeded, errors.QueueFull)):
                assert asked.seconds < NEVER  # it came too late, or would have
            else:
                assert isinstance(answer, asyncio.CancelledError)
                assert asked.leaves is not None
    check_metrics(core, queued=None)
    assert all(batch.rows <= budget.rows for batch in core.backend.batches)


@FEWER
@given(st.lists(patient, min_size=1, max_size=20), budgets, st.integers(1, 3), st.booleans())
async def test_nobody_computes_twice_and_like_options_alone_share(
    everyone: list[Asked], budget: Budget, slots: int, slow: bool
) -> None:
    async with running(budget=budget, slots=slots) as core:
        core.backend.seconds = 1.0 if slow else 0.0
        await ask_all(core, everyone)
    rows = [
        (float(batch.inputs["boost"]), [*x[real]])
        for batch in core.backend.batches
        for x, real in zip(batch.inputs["x"], batch.inputs["mask"], strict=True)
    ]
    assert sorted(rows) == sorted((asked.options[0][1], [*asked.values]) for asked in everyone)
    check_metrics(core, queued=len(everyone))


@FEWER
@given(st.lists(leaving, min_size=1, max_size=12), st.lists(patient, max_size=12))
async def test_who_left_before_their_batch_is_not_computed(gone: list[Asked], stay: list[Asked]) -> None:
    async with running(slots=1) as core:
        core.backend.gates[1] = asyncio.Event()
        blocker = asyncio.create_task(ask(core, Asked([1.0])))
        await settle()
        core.metrics.queue_cells.set(-1)  # so that forgetting to set it shows
        leavers = [asyncio.create_task(ask(core, Asked(asked.values))) for asked in gone]
        stayers = [asyncio.create_task(ask(core, Asked(asked.values, asked.options))) for asked in stay]
        await settle()
        assert series(core.metrics, "queue_cells") == {(): sum(len(asked.values) for asked in (*gone, *stay))}
        for task in leavers:
            task.cancel()
        core.backend.gates[1].set()
        answers = await asyncio.gather(blocker, *stayers)
        assert [answer["total"].tolist() for answer in answers[1:]] == [[asked.answer] for asked in stay]
        assert all(
            isinstance(e, asyncio.CancelledError)
            for e in await asyncio.gather(*leavers, return_exceptions=True)
        )
    assert sum(batch.rows for batch in core.backend.batches) == 1 + len(stay)


@FEWER
@given(st.sets(st.integers(0, 15)), st.integers(1, 16))
@example({5}, 8)
async def test_a_failing_batch_is_halved_until_the_poisonous_fail_alone(bad: set[int], rows: int) -> None:
    bad = {place for place in bad if place < rows}
    everyone = [Asked([POISON if place in bad else place]) for place in range(rows)]
    async with running(budget=Budget(16, 64, 999)) as core:
        got = await ask_all(core, everyone)
    failed = {place for place, answer in enumerate(got) if isinstance(answer, errors.BackendFailed)}
    assert failed == bad
    assert [a["total"].tolist() for a in got if isinstance(a, Mapping)] == [
        [asked.answer] for asked in everyone if not asked.poisonous
    ]
    calls = [batch.rows for batch in core.backend.batches]
    if (len(bad), rows) == (1, 8):
        assert sorted(calls) == [1, 1, 2, 2, 4, 4, 8]
    if not bad:
        assert calls == [rows]
    check_metrics(core, queued=rows)


async def test_who_leaves_while_a_failing_batch_is_halved_is_not_tried_again() -> None:
    async with running() as core:
        core.backend.seconds = 1.0
        everyone = [Asked([POISON]), Asked([1.0]), Asked([2.0], leaves=0.5), Asked([3.0])]
        got = await ask_all(core, everyone)
    assert [type(answer) for answer in got][::2] == [errors.BackendFailed, asyncio.CancelledError]
    assert [batch.rows for batch in core.backend.batches] == [4, 2, 1, 1, 1]


async def test_whose_time_ends_with_a_failing_batch_is_told_so() -> None:
    """At that very instant, before its own timer has told it; the row beside it is tried again."""
    async with running() as core:
        key = BatchKey(SERVED, PREDICT_SIGNATURE, BOOSTS[0])
        now = asyncio.get_running_loop().time()
        callers = [Caller(key, now), Caller(key, NEVER), Caller(key, NEVER)]
        batch = [
            Entry(caller, 0, row([value]), now, 1)
            for caller, value in zip(callers, (1.0, 2.0, POISON), strict=True)
        ]
        await core.scheduler._answer(batch)
        assert [type(entry.outcome) for entry in batch][::2] == [
            errors.DeadlineExceeded,
            errors.BackendFailed,
        ]
        assert isinstance(batch[1].outcome, Mapping)


@pytest.mark.parametrize(
    "kind", [errors.BackendUnavailable, errors.DeadlineExceeded, errors.VersionNotFound, errors.QueueFull]
)
async def test_what_is_no_rows_fault_is_not_tried_again(kind: type[errors.SeqserveError]) -> None:
    def fail(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        raise kind("no luck", retry_after=3.0)

    async with running(fail) as core:
        got = await ask_all(core, [Asked([1.0])] * 8)
    assert [type(answer) for answer in got] == [kind] * 8
    assert len({id(answer) for answer in got}) == 8  # an error each: a traceback belongs to one caller
    assert {answer.retry_after for answer in got if isinstance(answer, errors.SeqserveError)} == {3.0}
    assert [batch.rows for batch in core.backend.batches] == [8]
    check_metrics(core, queued=8)


async def test_a_fault_of_the_backend_itself_fails_its_batch_and_no_other() -> None:
    def fail_of_one(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        if spec.version == 2:
            raise ZeroDivisionError
        return totals(spec, inputs)

    async with running(fail_of_one, slots=1) as core:
        hurt = [asyncio.create_task(ask(core, Asked([1.0]), served(version=2))) for _ in range(2)]
        fine = [asyncio.create_task(ask(core, Asked([2.0]))) for _ in range(2)]
        assert {type(e) for e in await asyncio.gather(*hurt, return_exceptions=True)} == {errors.Unexpected}
        assert [answer["total"].tolist() for answer in await asyncio.gather(*fine)] == [[2.0]] * 2


WRONG = {
    "none": {},
    "one missing": {"size": np.zeros((3, 2))},
    "no batch axis": {"total": np.zeros(3), "size": np.zeros((3, 2))},
    "too few rows": {"total": np.zeros((2, 1)), "size": np.zeros((3, 2))},
    "a row too many": {"total": np.zeros((3, 1)), "size": np.zeros((4, 2))},
    "a number": {"total": np.float32(1), "size": np.zeros((3, 2))},
}


@pytest.mark.parametrize("outputs", WRONG.values(), ids=WRONG)
async def test_an_answer_of_another_shape_is_the_models_fault(outputs: dict[str, Array]) -> None:
    async with running(lambda spec, inputs: outputs) as core:
        got = await ask_all(core, [Asked([1.0])] * 3)
    assert {type(answer) for answer in got} == {errors.BackendFailed}


async def test_an_output_that_is_not_declared_goes_no_further() -> None:
    async with running(lambda spec, inputs: {**totals(spec, inputs), "debug": np.zeros(9)}) as core:
        assert set(await ask(core, Asked([1.0]))) == {"total", "size"}


@pytest.mark.parametrize(("longest", "wanted"), [(100.0, 7.0), (3.0, 3.0)])
async def test_a_call_runs_until_its_last_row_gives_up_or_the_backend_must(
    longest: float, wanted: float
) -> None:
    async with running(backend_timeout=longest) as core:
        await ask_all(core, [Asked([1.0], seconds=5.0), Asked([1.0], seconds=7.0), Asked([1.0], seconds=6.0)])
    assert [(batch.rows, batch.deadline) for batch in core.backend.batches] == [(3, wanted)]


async def test_each_row_gives_up_at_its_own_deadline_and_not_at_a_neighbours() -> None:
    loop = asyncio.get_running_loop()

    async def timed(asked: Asked) -> tuple[float, object]:
        try:
            return (await ask(core, asked))["total"].tolist(), loop.time()
        except errors.SeqserveError as error:
            return error.reason, loop.time()

    async with running() as core:
        core.backend.seconds = 4.0
        everyone = [Asked([1.0], seconds=1.0), Asked([2.0], seconds=5.0), Asked([3.0], seconds=-1.0)]
        got = await asyncio.gather(*(timed(asked) for asked in everyone))
    assert got == [("DEADLINE_EXCEEDED", 1.0), ([2.0], 4.0), ("DEADLINE_EXCEEDED", 0.0)]
    assert [batch.rows for batch in core.backend.batches] == [2]  # one had no time to begin with


async def test_an_idle_service_adds_no_wait_and_a_busy_one_gathers() -> None:
    async with running(slots=2) as core:
        core.backend.seconds = 1.0
        await ask_all(core, [Asked([1.0], at=0), *[Asked([1.0], at=place) for place in (0, 0, 0)]])
        assert [batch.rows for batch in core.backend.batches] == [4]
        core.backend.gates[1] = asyncio.Event()
        waves = [asyncio.create_task(ask(core, Asked([1.0]))) for _ in range(2)]
        await settle()
        waves += [asyncio.create_task(ask(core, Asked([1.0]))) for _ in range(1)]
        await settle()
        waves += [asyncio.create_task(ask(core, Asked([1.0]))) for _ in range(5)]
        await settle()
        assert [batch.rows for batch in core.backend.batches] == [4, 2, 1]
        assert series(core.metrics, "queue_cells") == {(): 5}
        core.backend.gates[1].set()
        await asyncio.gather(*waves)
        assert series(core.metrics, "queue_cells") == {(): 0}
    assert [batch.rows for batch in core.backend.batches] == [4, 2, 1, 5]


async def test_who_comes_back_within_some_turns_shares_the_next_batch_and_the_wait_is_bounded() -> None:
    async def again(core: Core, turns: int) -> None:
        for _ in range(5):
            await ask(core, Asked([1.0]))
            for _ in range(turns):
                await asyncio.sleep(0)

    async with running(slots=1) as core:
        core.backend.seconds = 1.0
        await asyncio.gather(*(again(core, turns) for turns in range(3) for _ in range(2)))
        assert [batch.rows for batch in core.backend.batches] == [6] * 5
        core.backend.seconds = 0.0
        stream = []
        for _ in range(200):  # somebody comes at every turn
            stream.append(asyncio.create_task(ask(core, Asked([1.0]))))
            await asyncio.sleep(0)
        assert len(core.backend.batches) > 8
        await asyncio.gather(*stream)


async def test_the_wait_in_the_queue_is_timed_for_each_row() -> None:
    async with running(slots=1) as core:
        core.backend.seconds = 4.0
        await ask_all(core, [Asked([1.0]), Asked([1.0], at=1), Asked([1.0], at=3), Asked([1.0], at=9)])
    assert series(core.metrics, "stage_seconds_sum")[(*LABELS, "queue")] == pytest.approx(0 + 3 + 1 + 0)


async def test_a_full_queue_refuses_at_once_and_counts_on() -> None:
    async with running(budget=Budget(8, 64, 8), slots=1) as core:
        core.backend.gates[1] = asyncio.Event()
        held = asyncio.create_task(ask(core, Asked([1.0])))
        await settle()
        waiting = [asyncio.create_task(ask(core, Asked([1.0] * 4))) for _ in range(2)]
        await settle()
        with pytest.raises(errors.QueueFull):
            await ask(core, Asked([1.0]))
        assert series(core.metrics, "queue_cells") == {(): 8}
        waiting.pop().cancel()
        await settle()
        with pytest.raises(errors.QueueFull):
            await ask(core, Asked([1.0] * 5))
        assert series(core.metrics, "queue_cells") == {(): 4}  # refused, but the one who left is not counted
        core.backend.gates[1].set()
        await asyncio.gather(held, *waiting)


async def test_a_row_alone_keeps_its_length_where_the_model_leaks() -> None:
    async with running(slots=1) as core:
        lone = served(batching="single")
        got = await asyncio.gather(*(ask(core, Asked([1.0] * n), lone) for n in (3, 3, 7)))
    assert [answer["total"].tolist() for answer in got] == [[6.0], [6.0], [28.0]]
    assert [batch.inputs["x"].shape for batch in core.backend.batches] == [(1, 3), (1, 3), (1, 7)]


async def test_closing_ends_what_waits_and_lets_what_runs_finish() -> None:
    async with running(slots=1) as core:
        core.backend.gates[1] = asyncio.Event()
        under_way = asyncio.create_task(ask(core, Asked([5.0])))
        await settle()
        waiting = [asyncio.create_task(ask(core, Asked([1.0]))) for _ in range(20)]
        await settle()
        closing = asyncio.create_task(core.scheduler.__aexit__())
        await settle()
        assert {type(task.exception()) for task in waiting} == {errors.Draining}
        assert not closing.done()
        with pytest.raises(errors.Draining):
            await ask(core, Asked([1.0]))
        core.backend.gates[1].set()
        assert (await under_way)["total"].tolist() == [5.0]
        await closing
    assert BUDGET.rows < 20  # more waited than one batch holds
