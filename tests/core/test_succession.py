"""How a call finds its version while versions come and go: labels, and what went away under a request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import Spec, Tensors
from seqserve.service.contract.items import PredictBody
from seqserve.service.contract.padding import Array
from seqserve.service.core.limits import BURST_SECONDS, Shares
from seqserve.service.core.types import ModelRef
from tests.core.fakes import NEVER, Core, call, running, series, settle
from tests.core.test_catalog import TOTAL, TOTALS, X, answer, labelled, version, weights

STABLE = ModelRef("totals", label="stable")


@asynccontextmanager
async def watched(*versions: int, shares: Shares = Shares()) -> AsyncIterator[Core]:  # noqa: B008  # it is frozen
    """Run core with its watcher over a backend that runs only what is published; the looks are far apart."""
    core: Core

    def there(spec: Spec, inputs: Tensors) -> dict[str, Array]:
        if spec.version not in core.backend.published[spec.model]:
            raise errors.VersionNotFound(f"no version {spec.version}")
        return weights(spec, inputs)

    async with running(there, shares=shares) as core:
        for number in versions:
            core.backend.put("totals", number, version(number))
        watch = asyncio.create_task(core.catalog.watch(NEVER))
        await settle()
        yield core
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await core.catalog.close()


async def test_a_label_is_its_version_and_moves_with_it() -> None:
    async with watched(1, 2) as core:
        with pytest.raises(errors.LabelNotFound):
            await answer(core, STABLE)
        core.backend.labels["totals", "stable"] = 1
        assert await answer(core, STABLE) == (1, TOTAL)
        core.backend.labels["totals", "stable"] = 2
        await core.catalog.renew("totals")
        assert await answer(core, STABLE) == (2, 2 * TOTAL)
        del core.backend.labels["totals", "stable"]
        await core.catalog.renew("totals")
        with pytest.raises(errors.LabelNotFound):
            await answer(core, STABLE)


async def test_a_label_of_a_version_that_is_refused_or_not_yet_seen_says_so() -> None:
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2, answer=0.0))
        core.backend.labels |= {("totals", "canary"): 2, ("totals", "next"): 3}
        await core.catalog.renew("totals")
        with pytest.raises(errors.GoldenFailed):
            await answer(core, ModelRef("totals", label="canary"))
        with pytest.raises(errors.NotReady):
            await answer(core, ModelRef("totals", label="next"))


async def test_labels_that_do_not_exist_are_not_remembered() -> None:
    async with watched(1) as core:
        for number in range(50):
            with pytest.raises(errors.LabelNotFound):
                await answer(core, ModelRef("totals", label=f"label-{number}"))
        assert core.catalog._labels._versions == core.catalog._labels._astray == {}


async def test_a_request_whose_version_went_away_is_answered_by_the_next() -> None:
    """Encoded again for the version that is current after a fresh look, and counted under it, once."""
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2))
        del core.backend.published["totals"][1]
        assert await asyncio.gather(*(answer(core) for _ in range(5))) == [(2, 2 * TOTAL)] * 5
        counted = series(core.metrics, "requests_total")
        assert counted == {("totals", "2", "predict", "rest", "OK", ""): 5}


async def test_a_request_that_moves_on_is_charged_once() -> None:
    """The rate is what one request takes: the next one finds it used up, and this one did not."""
    async with watched(1, shares=Shares(cells_per_second=len(X) / BURST_SECONDS)) as core:
        core.backend.put("totals", 2, version(2))
        del core.backend.published["totals"][1]
        assert await answer(core) == (2, 2 * TOTAL)
        with pytest.raises(errors.RateLimited):
            await answer(core)


async def test_a_request_moves_on_whole() -> None:
    """Where the version goes between two batches of one request, no answer mixes both."""
    async with watched(1) as core:
        core.backend.gates[1] = asyncio.Event()
        request = core.ask(TOTALS, PredictBody(sequences=[{"x": X}] * 30), call())
        asking = asyncio.create_task(request)
        await settle()
        calls = len([batch for batch in core.backend.batches if batch.spec.version == 1])
        core.backend.put("totals", 2, version(2))
        first = core.backend.function
        seen = 0

        def gone_after_one(spec: Spec, inputs: Tensors) -> dict[str, Array]:
            nonlocal seen
            seen += spec.version == 1
            if spec.version == 1 and seen == 2:
                core.backend.published["totals"].pop(1)
            return first(spec, inputs)

        core.backend.function = gone_after_one
        core.backend.gates[1].set()
        answered = await asking
        assert calls > 0
        assert answered.version == 2
        assert {item.heads["total"].value for item in answered.items} == {2 * TOTAL}  # type: ignore[union-attr]


async def test_a_version_that_the_caller_named_is_not_replaced() -> None:
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2))
        del core.backend.published["totals"][1]
        with pytest.raises(errors.VersionNotFound):
            await answer(core, ModelRef("totals", version=1))


async def test_a_version_that_goes_and_leaves_none_is_not_the_callers_fault() -> None:
    async with watched(1) as core:
        del core.backend.published["totals"][1]
        with pytest.raises(errors.NotReady):
            await answer(core)


async def test_going_twice_is_unavailable_and_not_tried_for_ever() -> None:
    async with watched(1) as core:

        def never_there(spec: Spec, inputs: Tensors) -> dict[str, Array]:
            raise errors.VersionNotFound("gone again")

        core.backend.function = never_there
        batches = len(core.backend.batches)
        with pytest.raises(errors.BackendUnavailable):
            await answer(core)
        assert len(core.backend.batches) == batches + 2


async def test_waiting_for_a_look_ends_at_the_deadline() -> None:
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2))
        core.backend.gates[2] = asyncio.Event()  # its examination takes for ever
        del core.backend.published["totals"][1]
        body = PredictBody(sequences=[{"x": X}])
        with pytest.raises(errors.DeadlineExceeded):
            await core.ask(TOTALS, body, call(3.0))
        core.backend.gates[2].set()
        await core.catalog.renew("totals")
        assert await answer(core) == (2, 2 * TOTAL)


async def test_those_who_wait_share_a_look_that_begins_after_they_asked() -> None:
    async with watched(1) as core:
        before = core.backend.looks
        await asyncio.gather(*(core.catalog.renew("totals") for _ in range(20)))
        assert core.backend.looks == before + 1


async def test_a_model_that_is_slow_to_examine_holds_up_no_other() -> None:
    """Its look goes on by itself; others are looked at meanwhile, and a request of theirs moves on."""
    async with watched(1) as core:
        core.backend.put("slow", 5, version(5))
        core.backend.gates[5] = asyncio.Event()
        await core.catalog.refresh(patience=1.0)
        core.backend.put("totals", 2, version(2))
        del core.backend.published["totals"][1]
        assert await answer(core) == (2, 2 * TOTAL)
        core.backend.gates[5].set()
        await core.catalog.renew("slow")
        assert (await core.catalog.resolve(ModelRef("slow"))).version == 5


async def test_a_model_that_is_taken_out_under_a_look_is_not_found() -> None:
    """Whoever waited for the look hears that there is no such model, and no series stays."""
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2))
        core.backend.gates[2] = asyncio.Event()  # its examination takes for ever
        del core.backend.published["totals"][1]
        asking = asyncio.create_task(answer(core))
        await settle()
        del core.backend.published["totals"]
        await core.catalog.refresh()
        with pytest.raises(errors.ModelNotFound):
            await asking
        core.backend.gates[2].set()
        await settle()
        assert labelled(core, "totals") == set()


async def test_a_known_label_does_not_wait_behind_invented_ones() -> None:
    async with watched(1) as core:
        core.backend.labels["totals", "stable"] = 1
        await answer(core, STABLE)
        core.backend.seconds = 60.0
        body = PredictBody(sequences=[{"x": X}])
        invented = [
            asyncio.create_task(core.ask(ModelRef("totals", label=f"{n}"), body, call())) for n in range(5)
        ]
        await settle()
        assert (await core.catalog.resolve(STABLE)).version == 1
        for task in invented:
            task.cancel()
        await asyncio.gather(*invented, return_exceptions=True)


async def test_counts_go_on_when_a_version_is_examined_again() -> None:
    """A model server that comes back takes nobody's history."""
    async with watched(1) as core:
        await answer(core)
        core.backend.put("totals", 1, version(1), stamp="back again")
        await core.catalog.refresh()
        counted = series(core.metrics, "requests_total")
        assert counted == {("totals", "1", "predict", "rest", "OK", ""): 1}


async def test_a_version_that_took_over_meanwhile_needs_no_look() -> None:
    """Where the backend cannot tell, and the catalog has moved on, so does the request; else it says so."""
    async with watched(1) as core:
        core.backend.put("totals", 2, version(2))
        old = core.backend.function

        def dying(spec: Spec, inputs: Tensors) -> dict[str, Array]:
            if spec.version == 1:
                raise errors.BackendUnavailable("no address has it")
            return old(spec, inputs)

        core.backend.function = dying
        with pytest.raises(errors.BackendUnavailable):
            await answer(core)
        core.backend.gates[1] = asyncio.Event()
        asking = asyncio.create_task(answer(core))
        await settle()
        await core.catalog.refresh()
        core.backend.gates[1].set()
        assert await asking == (2, 2 * TOTAL)
        assert (
            series(core.metrics, "items_total")[
                "totals", "1", "predict", "rest", "UNAVAILABLE", "BACKEND_UNAVAILABLE"
            ]
            == 1
        )


async def test_a_label_is_looked_up_within_the_deadline() -> None:
    async with watched(1) as core:
        core.backend.labels["totals", "stable"] = 1
        core.backend.seconds = 60.0
        body = PredictBody(sequences=[{"x": X}])
        with pytest.raises(errors.DeadlineExceeded):
            await core.ask(STABLE, body, call(3.0))
        core.backend.seconds = 0.0
        assert await answer(core, STABLE) == (1, TOTAL)
