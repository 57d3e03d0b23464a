"""The catalog: what the backend has, examined by its own examples, and swapped under running requests."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import Spec, State, Tensors
from seqserve.service.contract.items import PredictBody, Prediction
from seqserve.service.contract.padding import Array
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.standing import Standing
from seqserve.service.core.types import ModelRef
from tests.core.fakes import (
    Core,
    as_files,
    call,
    example,
    running,
    sequence_manifest,
    series,
    settle,
    totals,
)

TOTALS = ModelRef("totals")
X = [1.0, 2.0]
TOTAL = 5.0
"""What the right weights answer X with."""


def weights(spec: Spec, inputs: Tensors) -> dict[str, Array]:
    """Answer as `totals` does, times the version: each version has weights of its own."""
    outputs = totals(spec, inputs)
    return {**outputs, "total": outputs["total"] * spec.version}


def version(number: int = 1, answer: float | None = None, **changes: Any) -> dict[str, bytes]:
    """Return the files of a version whose example says `answer`; the right one if nothing is said."""
    examples = [example(X, TOTAL * number if answer is None else answer)]
    return as_files(sequence_manifest(examples=examples, **changes))


def standings(core: Core, name: str = "totals") -> dict[int, str]:
    """Return each version's standing, or the reason of its refusal."""
    reports = core.catalog.versions(name)
    return {r.version: r.error.reason if r.error else r.standing.value for r in reports}


async def answer(core: Core, ref: ModelRef = TOTALS) -> tuple[int, float]:
    """Return which version answers, and what."""
    answered = await core.ask(ref, PredictBody(sequences=[{"x": X}]), call())
    assert isinstance(answered.items[0], Prediction)
    return answered.version, answered.items[0].heads["total"].value


async def test_the_newest_that_passes_its_examples_answers_and_older_ones_when_named() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        assert await answer(core) == (1, TOTAL)
        core.backend.put("totals", 2, version(2))
        await core.catalog.refresh()
        assert await answer(core) == (2, 2 * TOTAL)
        assert await answer(core, ModelRef("totals", version=1)) == (1, TOTAL)
        assert [report.version for report in core.catalog.versions("totals")] == [2, 1]
        digests = {(r.version, r.served.digest) for r in core.catalog.versions("totals") if r.served}
        info = series(core.metrics, "model_version_info")
        assert info == {("totals", str(number), digest): 1 for number, digest in digests}
        assert len(core.changes) == 2


async def test_what_is_routable_is_not_examined_again() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        for _ in range(3):
            await core.catalog.refresh()
        assert len(core.backend.batches) == 1


async def test_a_request_under_way_finishes_on_the_version_it_began_with() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        core.backend.gates[1] = asyncio.Event()
        held = asyncio.create_task(answer(core))
        await settle()
        core.backend.put("totals", 2, version(2))
        await core.catalog.refresh()
        assert await answer(core) == (2, 2 * TOTAL)
        core.backend.gates[1].set()
        assert await held == (1, TOTAL)


async def test_a_new_version_is_not_called_before_it_has_passed() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        core.backend.put("totals", 2, version(2))
        core.backend.gates[2] = asyncio.Event()
        refreshing = asyncio.create_task(core.catalog.refresh())
        await settle()
        assert await answer(core) == (1, TOTAL)
        core.backend.gates[2].set()
        await refreshing
        assert await answer(core) == (2, 2 * TOTAL)


async def test_other_content_under_the_same_number_is_examined_before_it_is_called() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1), stamp="a")
        await core.catalog.refresh()
        old = await core.catalog.resolve(TOTALS)
        core.backend.gates[1] = asyncio.Event()
        core.backend.put("totals", 1, version(1, card={"data": "new"}), stamp="b")
        refreshing = asyncio.create_task(core.catalog.refresh())
        await settle()
        with pytest.raises(errors.NotReady):  # rows of the old manifest never meet the new weights
            await core.catalog.resolve(TOTALS)
        core.backend.gates[1].set()
        await refreshing
        new = await core.catalog.resolve(TOTALS)
        assert new.digest != old.digest
        assert series(core.metrics, "model_version_info") == {("totals", "1", new.digest): 1}
        core.backend.put("totals", 1, version(1, answer=0.0), stamp="c")
        await core.catalog.refresh()
        assert standings(core) == {1: "GOLDEN_FAILED"}
        assert series(core.metrics, "model_version_info") == {}


async def test_a_version_that_is_gone_is_not_found_and_leaves_no_series() -> None:
    async with running(weights) as core:
        for number in (1, 2):
            core.backend.put("totals", number, version(number))
        await core.catalog.refresh()
        for number in (1, 2):
            await answer(core, ModelRef("totals", version=number))
        del core.backend.published["totals"][1]
        await core.catalog.refresh()
        with pytest.raises(errors.VersionNotFound):
            await core.catalog.resolve(ModelRef("totals", version=1))
        assert labelled(core, "totals") == {"2"}


async def test_what_ends_on_a_version_that_is_gone_brings_no_series_back() -> None:
    """Until there is a version of that number again, whose counts begin at nothing."""
    async with running(weights) as core:
        for number in (1, 2):
            core.backend.put("totals", number, version(number))
        await core.catalog.refresh()
        core.backend.gates[1] = asyncio.Event()
        held = asyncio.create_task(answer(core, ModelRef("totals", version=1)))
        await settle()
        del core.backend.published["totals"][1]
        await core.catalog.refresh()
        core.backend.gates[1].set()
        assert await held == (1, TOTAL)
        assert labelled(core, "totals") == {"2"}
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        assert await answer(core, ModelRef("totals", version=1)) == (1, TOTAL)
        assert labelled(core, "totals") == {"1", "2"}
        assert series(core.metrics, "requests_total") == {("totals", "1", "predict", "rest", "OK", ""): 1}
        assert series(core.metrics, "batch_rows_count")["totals", "1"] == 2  # one is its example's


def labelled(core: Core, model: str) -> set[str]:
    """Return the versions that some series of the model is labelled with; "" for those without."""
    return {
        sample.labels.get("version", "")
        for family in core.metrics.registry.collect()
        for sample in family.samples
        if sample.labels.get("model") == model
    } - ({""} if model in core.backend.published else set())


async def test_a_model_that_is_gone_is_not_found_and_leaves_no_series() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        await answer(core)
        with pytest.raises(errors.VersionNotFound):
            await answer(core, ModelRef("totals", version=7))
        assert labelled(core, "totals") == {"1", "_none"}
        del core.backend.published["totals"]
        await core.catalog.refresh()
        with pytest.raises(errors.ModelNotFound):
            await core.catalog.resolve(TOTALS)
        assert labelled(core, "totals") == set()


async def test_ready_once_every_model_has_been_callable() -> None:
    async with running(weights) as core:
        await core.catalog.refresh()
        assert not core.gateway.is_ready  # there is nothing to be ready for
        core.backend.put("totals", 1, version(1))
        core.backend.put("others", 1, version(1), state=State.LOADING)
        await core.catalog.refresh()
        assert not core.gateway.is_ready
        with pytest.raises(errors.NotReady) as caught:
            await core.catalog.resolve(ModelRef("others"))
        assert caught.value.retry_after == 1.0
        assert series(core.metrics, "model_ready") == {("totals",): 1, ("others",): 0}
        core.backend.put("others", 1, version(1))
        await core.catalog.refresh()
        assert core.gateway.is_ready
        core.backend.put("others", 1, version(1), state=State.LOADING)
        await core.catalog.refresh()
        assert standings(core, "others") == {1: "LOADING"}
        assert core.gateway.is_ready
        core.backend.put("late", 1, errors.ManifestMissing("none"))
        await core.catalog.refresh()
        assert core.gateway.is_ready  # a broken newcomer is its own matter


async def test_one_model_out_of_sight_keeps_no_other_from_being_seen() -> None:
    async with running(weights) as core:
        core.backend.put("broken", 1, version(1))
        core.backend.put("totals", 1, version(1))
        core.backend.failing["broken"] = errors.BackendUnavailable("gone")
        with pytest.raises(errors.BackendUnavailable):
            await core.catalog.refresh()
        assert standings(core) == {1: "ROUTABLE"}
        assert core.changes == [None]


async def test_models_that_cannot_be_listed_go_on_and_it_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the backend says when its root is gone is no order to unload, nor are new names to be had then."""
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        looks = core.backend.looks
        core.backend.unlisted = errors.BackendUnavailable("model root /m: Not a directory")
        del core.backend.published["totals"]
        caplog.clear()
        for _ in range(3):
            await core.catalog.refresh()
            assert await answer(core) == (1, TOTAL)
        assert core.backend.looks == looks
        assert (core.gateway.is_ready, series(core.metrics, "models_listed")) == (True, {(): 0})
        assert series(core.metrics, "model_ready") == {("totals",): 1}
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "the models cannot be listed, those that are loaded go on: model root /m: Not a directory"
        ]
        core.backend.unlisted = None
        core.backend.put("totals", 2, version(2))
        await core.catalog.refresh()
        assert await answer(core) == (2, 2 * TOTAL)
        assert series(core.metrics, "models_listed") == {(): 1}


async def test_a_model_that_cannot_be_looked_at_is_ready_while_it_can_be_called() -> None:
    """As when its folder cannot be listed; where no model server is reached, nothing can be called."""
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        core.backend.failing["totals"] = errors.BackendUnavailable("Permission denied")
        await core.catalog.look()
        assert series(core.metrics, "model_ready") == {("totals",): 1}
        core.backend.is_reachable = False
        await core.catalog.look()
        assert series(core.metrics, "model_ready") == {("totals",): 0}


async def test_an_unforeseen_fault_refuses_its_version_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(weights) as core:
        core.backend.put("totals", 2, version(2))
        core.backend.put("totals", 1, version(1))
        inner = core.backend.manifest

        async def manifest(model: str, number: int) -> dict[str, bytes]:
            return await inner(model, 1 // (2 - number))

        monkeypatch.setattr(core.backend, "manifest", manifest)
        await core.catalog.refresh()
        assert standings(core) == {2: "UNEXPECTED", 1: "ROUTABLE"}


async def test_the_watch_goes_on_after_a_look_that_failed() -> None:
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        core.backend.failing["totals"] = errors.BackendUnavailable("gone")
        watching = asyncio.create_task(core.catalog.watch(10.0))
        await asyncio.sleep(5)
        core.backend.failing["totals"] = ZeroDivisionError()
        await asyncio.sleep(10)
        assert standings(core) == {}
        del core.backend.failing["totals"]
        await asyncio.sleep(10)
        assert standings(core) == {1: Standing.ROUTABLE}
        watching.cancel()


async def test_an_unknown_name_is_cut_short_in_the_message() -> None:
    async with running(weights) as core:
        await core.catalog.refresh()
        with pytest.raises(errors.ModelNotFound) as caught:
            await core.catalog.resolve(ModelRef("x" * 10_000))
        assert len(caught.value.message) < 200


async def test_before_the_first_look_it_is_not_ready() -> None:
    """A service that is starting says so, instead of denying that the model exists."""
    async with running() as core:
        with pytest.raises(errors.NotReady):
            await core.catalog.resolve(ModelRef("totals"))


@pytest.mark.parametrize(("device", "standing"), [("cpu", "GOLDEN_FAILED"), ("gpu", "ROUTABLE")])
async def test_examples_are_held_to_the_tolerance_of_the_device(device: str, standing: str) -> None:
    async with running(weights) as common:
        catalog = Catalog(common.backend, common.runner, common.metrics, device)
        core = replace(common, catalog=catalog)
        tolerance = {"cpu": 1e-5, "gpu": 1e-2}
        core.backend.put("totals", 1, version(1, answer=TOTAL * 1.001, tolerance=tolerance))
        await core.catalog.refresh()
        assert standings(core) == {1: standing}
