"""Labels that point to a version that is not there: said once, and asked about less and less often."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from seqserve.service import errors
from seqserve.service.core.types import ModelRef
from tests.core.fakes import Core, running
from tests.core.test_catalog import TOTAL, answer, version, weights

STABLE = ModelRef("totals", label="stable")
KEY = ("totals", "stable")
NOWHERE = errors.VersionNotFound("label 'stable' points to version 7, which the model server does not have")


@asynccontextmanager
async def looking() -> AsyncIterator[Core]:
    """Run core over one version, looking once a second."""
    async with running(weights) as core:
        core.backend.put("totals", 1, version(1))
        watch = asyncio.create_task(core.catalog.watch(1.0))
        await asyncio.sleep(0.5)
        yield core
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await core.catalog.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of labels."""
    return [record.getMessage() for record in caplog.records if record.name.endswith(".labels")]


async def test_a_label_that_points_nowhere_is_logged_twice_and_asked_about_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten minutes of looks and of callers: one line when it begins, one when it ends, few questions."""
    async with looking() as core:
        core.backend.labels[KEY] = 1
        assert await answer(core, STABLE) == (1, TOTAL)
        core.backend.astray[KEY] = NOWHERE
        await asyncio.sleep(1.0)
        core.backend.asked.clear()
        for _ in range(600):
            with pytest.raises(errors.LabelNotFound, match="version 7"):
                await answer(core, STABLE)
            await asyncio.sleep(1.0)
        assert len(core.backend.asked) <= 25
        assert max(later - sooner for (sooner, _), (later, _) in pairwise(core.backend.asked)) <= 31.0
        assert lines(caplog) == [
            "label stable of model totals stands for no version: "
            "label 'stable' points to version 7, which the model server does not have"
        ]
        del core.backend.astray[KEY]
        await asyncio.sleep(31.0)
        assert await answer(core, STABLE) == (1, TOTAL)
        await asyncio.sleep(60.0)
        assert lines(caplog)[1:] == ["label stable of model totals stands for version 1 again"]


async def test_a_label_that_points_nowhere_when_it_is_first_used_is_paced_too() -> None:
    """Callers by it wait for nothing and ask nothing, and it answers soon after it can."""
    async with looking() as core:
        core.backend.labels[KEY] = 1
        core.backend.astray[KEY] = NOWHERE
        for _ in range(100):
            with pytest.raises(errors.LabelNotFound):
                await answer(core, STABLE)
        assert len(core.backend.asked) == 1
        del core.backend.astray[KEY]
        await asyncio.sleep(3.0)
        assert await answer(core, STABLE) == (1, TOTAL)


async def test_a_label_of_a_version_without_manifest_keeps_that_reason() -> None:
    """It is paced alike, and callers learn what is wrong with the version."""
    async with looking() as core:
        core.backend.astray[KEY] = errors.ManifestMissing("totals label stable has no signature 'manifest'")
        for _ in range(2):
            with pytest.raises(errors.ManifestMissing):
                await answer(core, STABLE)
        assert len(core.backend.asked) == 1


async def test_a_label_that_is_taken_away_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """That ends what was logged of it, and nobody asks any more but callers."""
    async with looking() as core:
        core.backend.astray[KEY] = NOWHERE
        with pytest.raises(errors.LabelNotFound):
            await answer(core, STABLE)
        del core.backend.astray[KEY]
        await asyncio.sleep(60.0)
        assert lines(caplog)[1:] == ["label stable of model totals has been taken away"]
        asked = len(core.backend.asked)
        await asyncio.sleep(60.0)
        assert len(core.backend.asked) == asked


async def test_a_model_that_is_gone_takes_its_labels_along() -> None:
    """One of that name that comes later is asked about anew."""
    async with looking() as core:
        core.backend.astray[KEY] = NOWHERE
        with pytest.raises(errors.LabelNotFound):
            await answer(core, STABLE)
        published = core.backend.published.pop("totals")
        await core.catalog.refresh()
        del core.backend.astray[KEY]
        core.backend.published["totals"] = published
        core.backend.labels[KEY] = 1
        await core.catalog.refresh()
        assert await answer(core, STABLE) == (1, TOTAL)


async def test_a_question_that_fails_in_passing_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The version that the label had goes on answering; one line, whatever the number of looks."""
    async with looking() as core:
        core.backend.labels[KEY] = 1
        await answer(core, STABLE)
        core.backend.astray[KEY] = errors.BackendUnavailable("no room to compute")
        await asyncio.sleep(60.0)
        assert await answer(core, STABLE) == (1, TOTAL)
        assert lines(caplog) == ["label stable of model totals cannot be looked up: no room to compute"]
        for number in range(50):
            core.backend.astray["totals", f"label-{number}"] = errors.BackendUnavailable("no room to compute")
            with pytest.raises(errors.BackendUnavailable):
                await answer(core, ModelRef("totals", label=f"label-{number}"))
        assert set(core.catalog._labels._versions) == {KEY}
        assert core.catalog._labels._astray == {}
