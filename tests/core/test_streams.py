"""Answers as they come: the same as the list's, few of them ahead of their reader, nothing left behind."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.items import FailedItem, Item, Prediction
from seqserve.service.contract.padding import Array
from seqserve.service.core.entries import Caller
from seqserve.service.core.limits import BURST_SECONDS, Shares
from seqserve.service.core.queue import Budget
from seqserve.service.core.tasks import SEQUENCE
from seqserve.service.core.types import Asked, Call, Come, ModelRef, Order
from tests.core.fakes import BUDGET, Core, call, running, series, settle, totals
from tests.core.test_catalog import TOTAL, X, version
from tests.core.test_gateway import BAD, GOOD, LABELS, TOTALS, body, hold, load, outcomes
from tests.core.test_succession import watched

SHORT = {"x": [1.0] * 4}  # 4 cells, of which a batch may have 64, but no more than 8 rows
AHEAD = 2 * BUDGET.rows


def stream(
    core: Core, items: Sequence[dict[str, Any]], asked: Call, order: Order = Order.INDEX, **options: Any
) -> AsyncGenerator[Come]:
    """Ask for answers as they come."""
    content = options.pop("body", None) or body(*items)
    ref = options.pop("ref", TOTALS)
    return core.gateway.stream(SEQUENCE, ref, Asked(len(items), lambda: content), asked, order)


async def all_of(answers: AsyncGenerator[Come]) -> tuple[list[int], dict[int, Item], set[int]]:
    """Return places in the order in which they came, the items by place, and the versions."""
    places, items, versions = [], {}, set()
    async for come in answers:
        places += [place for place, _ in come.items]
        items |= dict(come.items)
        versions.add(come.version)
    return places, items, versions


async def reason(work: Any) -> errors.SeqserveError:
    """Return what is raised."""
    with pytest.raises(errors.SeqserveError) as caught:
        await work
    return caught.value


def reasons(items: dict[int, Item]) -> list[str]:
    """Return each item's reason, in order; empty: it was answered."""
    in_order = [items[place] for place in sorted(items)]
    return [item.error.reason if isinstance(item, FailedItem) else "" for item in in_order]


@given(
    st.lists(st.sampled_from([GOOD, GOOD, *BAD]), min_size=1, max_size=24),
    st.sampled_from(Order),
)
async def test_answers_that_come_are_those_of_the_list(
    items: list[tuple[dict[str, Any], str, tuple[Any, ...]]], order: Order
) -> None:
    """The same items and faults, or the same error of the whole request; counted the same."""
    async with running() as core:
        await load(core)
        sent = [item for item, _, _ in items]
        request = core.ask(TOTALS, body(*sent), call())
        if all(why for _, why, _ in items):
            whole, streamed = await reason(request), await reason(all_of(stream(core, sent, call(), order)))
            assert (type(streamed), streamed.message) == (type(whole), whole.message)
            assert streamed.violations == whole.violations
        else:
            answered = await request
            places, come, versions = await all_of(stream(core, sent, call(), order))
            assert versions == {answered.version}
            assert [come[place] for place in sorted(come)] == list(answered.items)
            assert len(places) == len(come)
            assert order is Order.FINISHED or places == sorted(places)
    for name in ("requests_total", "items_total"):
        assert {count % 2 for count in outcomes(core, name).values()} == {0}
    assert sum(outcomes(core).values()) == 2


async def test_what_is_ready_first_comes_first_where_that_is_asked_for() -> None:
    """Rows of like length share a batch: the short ones come together, unless they wait for their turn."""
    items = [{"x": [1.0]}, {"x": [1.0] * 16}] * 8
    for order, wanted in ((Order.FINISHED, list(range(0, 16, 2))), (Order.INDEX, list(range(8)))):
        async with running(slots=1) as core:
            await load(core)
            core.backend.seconds = 1.0
            places, _, _ = await all_of(stream(core, items, call(), order))
            assert places[:8] == wanted
            assert sorted(places) == list(range(16))


async def test_few_rows_begin_ahead_of_a_slow_reader() -> None:
    """As many as two batches take; more as answers are taken. The others are not even in the queue."""
    for order in Order:
        async with running(slots=1) as core:
            await load(core)
            core.backend.seconds = 1.0
            taken = 0
            async for come in stream(core, [SHORT] * 64, call(), order):
                await asyncio.sleep(100.0)
                assert sum(batch.rows for batch in core.backend.batches) == min(taken + AHEAD, 64)
                assert series(core.metrics, "queue_cells") == {(): 0}
                taken += len(come.items)
            assert taken == 64


async def test_long_rows_count_by_their_cells() -> None:
    """Of rows of 16 cells, where a batch has 64, eight are two batches."""
    async with running() as core:
        await load(core)
        answers = stream(core, [{"x": [1.0] * 16}] * 40, call())
        async with aclosing(answers):
            taken = len((await anext(answers)).items)
            for _ in range(50):
                await settle()
            assert sum(batch.rows for batch in core.backend.batches) == 8
            assert taken <= 8


async def test_an_answer_that_waits_for_its_reader_does_not_hold_its_batch() -> None:
    """What the rows beside it gave may go, and so may what has been taken."""
    given: list[Array] = []

    def remembering(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        answered = totals(spec, inputs)
        given.extend(answered.values())
        return answered

    async with running(remembering, slots=1) as core:
        await load(core)
        core.backend.seconds = 1.0
        answers = stream(core, [SHORT] * 64, call())
        async with aclosing(answers):
            for _ in range(3):
                await anext(answers)
            await asyncio.sleep(100.0)
            [caller] = [found for found in _callers() if found.pace is not None]
            waiting = [entry.outcome for entry in caller._come]
            assert waiting
            parts = [part for output in waiting for part in output.values()]
            assert not any(np.shares_memory(part, whole) for part in parts for whole in given)
            assert len(caller.entries) <= AHEAD


def _callers() -> list[Any]:
    return [found for found in gc.get_objects() if isinstance(found, Caller)]


@pytest.mark.parametrize("taken", [0, 1])
async def test_a_caller_who_goes_leaves_nothing(taken: int) -> None:
    """Waiting or reading: its rows leave the queue, it is counted as cancelled, and others are answered."""
    async with running(slots=1) as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        if taken:
            core.backend.gates[1].set()
        answers = stream(core, [SHORT] * 64, call())

        async def read() -> None:
            async with aclosing(answers):
                async for _ in answers:
                    core.backend.gates[1].clear()

        reading = asyncio.create_task(read())
        for _ in range(20):
            await settle()
        assert series(core.metrics, "queue_cells")[()] > 0
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert series(core.metrics, "queue_cells") == {(): 0}
        assert core.gateway._open._count == 0
        core.backend.gates[1].set()
        await core.ask(TOTALS, body(SHORT), call())
    ends = {labels[-2:]: count for labels, count in outcomes(core).items()}
    assert ends == {("CANCELLED", "CANCELLED"): 1, ("OK", ""): 1}


async def test_a_reader_who_stops_is_cancelled_at_once_when_it_goes() -> None:
    """The generator is closed where it stands: between two answers."""
    async with running() as core:
        await load(core)
        answers = stream(core, [SHORT] * 64, call())
        await anext(answers)
        await answers.aclose()
        await settle()
        assert series(core.metrics, "queue_cells") == {(): 0}
    assert {labels[-1] for labels in outcomes(core)} == {"CANCELLED"}


async def test_a_deadline_ends_what_has_not_come() -> None:
    """What was answered stays; each of the others has the reason, as in the list."""
    async with running(slots=1) as core:
        await load(core)
        core.backend.seconds = 1.0
        places, items, _ = await all_of(stream(core, [SHORT] * 64, call(3.5)))
        assert places == list(range(64))
        answered = reasons(items).count("")
        assert 0 < answered <= 4 * BUDGET.rows
        assert reasons(items) == [""] * answered + ["DEADLINE_EXCEEDED"] * (64 - answered)
        late = await reason(all_of(stream(core, [SHORT] * 4, call(0.5))))
        assert isinstance(late, errors.DeadlineExceeded)
    counted = {labels[-1]: count for labels, count in outcomes(core, "items_total").items()}
    assert counted == {"": answered, "DEADLINE_EXCEEDED": 64 - answered + 4}


async def test_a_request_is_let_in_whole_or_not_at_all() -> None:
    """By what all of its rows take, though few would begin."""
    async with running(slots=1, budget=Budget(8, 64, 100)) as core:
        await load(core)
        core.backend.gates[1] = asyncio.Event()
        held = await hold(core, 2, [1.0])  # one is computed, one waits
        full = await reason(all_of(stream(core, [SHORT] * 64, call())))
        assert isinstance(full, errors.QueueFull)
        core.backend.gates[1].set()
        await asyncio.gather(*held)
        places, _, _ = await all_of(stream(core, [SHORT] * 64, call()))
        assert len(places) == 64
    counted = {labels[-1]: count for labels, count in outcomes(core, "items_total").items()}
    assert counted == {"": 66, "QUEUE_FULL": 64}


async def test_cells_are_taken_for_as_long_as_answers_come() -> None:
    async with running(shares=Shares(cells=100)) as core:
        await load(core)
        answers = stream(core, [SHORT] * 20, call())
        async with aclosing(answers):
            await anext(answers)
            assert isinstance(await reason(core.ask(TOTALS, body(*[SHORT] * 10), call())), errors.RateLimited)
        await core.ask(TOTALS, body(*[SHORT] * 10), call())


async def test_who_comes_beside_a_stream_does_not_wait_for_it() -> None:
    """Its rows count like those of one request."""
    async with running(slots=1) as core:
        await load(core)
        core.backend.seconds = 1.0
        answers = asyncio.create_task(all_of(stream(core, [SHORT] * 64, call())))
        await asyncio.sleep(1.5)
        began = asyncio.get_running_loop().time()
        await core.ask(TOTALS, body(SHORT), call())
        assert asyncio.get_running_loop().time() - began < 3
        await answers


async def test_draining_waits_for_a_stream_and_what_is_left_is_told_it() -> None:
    """Within its grace a stream ends by itself; when the scheduler ends, each row that has not begun is."""
    async with running(slots=1) as core:
        await load(core)
        core.backend.seconds = 1.0
        within = asyncio.create_task(all_of(stream(core, [SHORT] * 16, call())))
        await settle()
        await core.gateway.drain(10)
        assert within.done()
        assert isinstance(await reason(all_of(stream(core, [SHORT], call()))), errors.Draining)
        core.gateway._draining = False
        without = asyncio.create_task(all_of(stream(core, [SHORT] * 64, call())))
        await settle()
        await core.gateway.drain(1.5)
        await core.scheduler.__aexit__()
        _, items, _ = await without
        told = reasons(items)
        assert 0 < told.count("") < 64
        assert set(told) == {"", "DRAINING"}


async def test_a_version_that_goes_before_there_is_an_answer_is_followed_by_the_next() -> None:
    """The whole request moves on; it is charged once, and counted under the version that answered."""
    async with watched(1, shares=Shares(cells_per_second=20 * len(X) / BURST_SECONDS)) as core:
        core.backend.put("totals", 2, version(2))
        del core.backend.published["totals"][1]
        places, items, versions = await all_of(stream(core, [{"x": X}] * 20, call()))
        assert (places, versions) == (list(range(20)), {2})
        assert {item.heads["total"].value for item in items.values()} == {2 * TOTAL}  # type: ignore[attr-defined]
        counted = series(core.metrics, "requests_total")
        assert counted == {("totals", "2", "predict", "rest", "OK", ""): 1}
        assert sum(series(core.metrics, "items_total").values()) == 20


async def test_items_are_counted_where_no_other_version_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a list are."""
    async with watched(1) as core:

        async def never(*_: Any) -> Any:
            raise errors.DeadlineExceeded("while it was looked for")

        monkeypatch.setattr(core.gateway, "_current", never)
        del core.backend.published["totals"][1]
        assert (await reason(all_of(stream(core, [{"x": X}] * 5, call())))).reason == "DEADLINE_EXCEEDED"
        assert sum(series(core.metrics, "items_total").values()) == 5


async def test_faults_of_a_version_that_goes_are_its_own() -> None:
    """They are not told where all moves on: the next version answers those items too."""
    async with watched(1) as core:
        there = core.backend.function

        def dying(spec: Spec, inputs: Tensors) -> dict[str, Array]:
            if spec.version == 1 and (inputs["x"] == 55).any():
                if len(inputs["x"]) == 1:
                    core.backend.published["totals"].pop(1, None)
                raise errors.BackendFailed("poisoned")
            return there(spec, inputs)

        core.backend.function, core.backend.slots = dying, 1
        core.backend.put("totals", 2, version(2))
        places, items, versions = await all_of(stream(core, [{"x": [55]}] * 8 + [{"x": X}] * 9, call()))
        assert (places, versions) == (list(range(17)), {2})
        assert set(reasons(items)) == {""}


async def test_no_stream_mixes_versions() -> None:
    """One that goes when answers have come: the others have a reason to ask again; a pinned one's own."""
    for ref, why in ((TOTALS, "BACKEND_UNAVAILABLE"), (ModelRef("totals", 1), "VERSION_NOT_FOUND")):
        async with watched(1) as core:
            answers = stream(core, [{"x": X}] * 40, call(), ref=ref)
            first = await anext(answers)
            core.backend.put("totals", 2, version(2))
            del core.backend.published["totals"][1]
            _, items, versions = await all_of(answers)
            items |= dict(first.items)
            assert versions == {1}
            told = reasons(items)
            assert set(told) == {"", why}
            assert all(
                item.heads["total"].value == TOTAL for item in items.values() if isinstance(item, Prediction)
            )  # type: ignore[union-attr]


async def test_a_stream_is_timed_to_its_end() -> None:
    async with running(slots=1) as core:
        await load(core)
        core.backend.seconds = 1.0
        await all_of(stream(core, [SHORT] * 40, call()))
        assert series(core.metrics, "request_seconds_sum")[LABELS] == pytest.approx(len(core.backend.batches))
        assert sum(outcomes(core).values()) == 1
