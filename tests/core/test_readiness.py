"""Whether callers may be sent here: how many models are needed, and for how long the backend may be gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest

from seqserve.service import errors
from seqserve.service.backend.base import State
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.gateway import Gateway
from seqserve.service.core.readiness import MOST_NAMED, Readiness
from tests.core.fakes import Core, running
from tests.core.test_catalog import version, weights


@asynccontextmanager
async def service(needed: Literal["all", "one"] = "all", grace: float = 10.0) -> AsyncIterator[Core]:
    """Run core, with a readiness of the test's own."""
    async with running(weights) as common:
        readiness = Readiness(common.backend, needed, grace)
        catalog = Catalog(common.backend, common.runner, common.metrics, readiness=readiness)
        yield replace(common, catalog=catalog, gateway=Gateway(catalog, common.runner, common.metrics, 64))


async def looks(core: Core, seconds: int) -> None:
    """Look once a second for so long."""
    for _ in range(seconds):
        await core.catalog.look()
        await asyncio.sleep(1.0)


async def test_the_models_that_are_not_ready_are_named_with_what_is_wrong() -> None:
    async with service() as core:
        assert "starting" in why(core)
        core.backend.put("totals", 1, version(1))
        core.backend.put("loading", 1, version(1), state=State.LOADING)
        core.backend.put("broken", 1, version(1, answer=0.0))
        await core.catalog.refresh()
        assert isinstance(core.gateway.unready(), errors.NotReady)
        assert why(core).startswith("no version of model 'broken' can be called: GOLDEN_FAILED: examples.0")
        assert why(core).endswith("; no version of model 'loading' can be called yet")
        assert "totals" not in why(core)
        for number in range(20):
            core.backend.put(f"model-{number:02}", 1, version(1), state=State.LOADING)
        await core.catalog.refresh()
        assert why(core).endswith(f"; and {22 - MOST_NAMED} more models")
        assert why(core).count("can be called") == MOST_NAMED


def why(core: Core, model: str | None = None) -> str:
    """Return what is said of a service that is not ready."""
    fault = core.gateway.unready(model)
    assert fault is not None
    return fault.message


async def test_one_model_is_enough_where_the_setting_says_so() -> None:
    async with service("one") as core:
        await core.catalog.refresh()
        assert why(core) == "there is no model"
        core.backend.put("totals", 1, version(1))
        core.backend.put("broken", 1, version(1, answer=0.0))
        await core.catalog.refresh()
        assert core.gateway.is_ready
        del core.backend.published["totals"]
        await core.catalog.refresh()
        assert core.gateway.is_ready  # as with all of them, once is enough


async def test_a_model_that_was_only_found_and_is_refused_is_not_waited_for() -> None:
    """Its folder may lie there for good; one that is loading is waited for, and one at least is needed."""
    async with service() as core:
        core.backend.has_named_models = False
        core.backend.put("broken", 1, version(1, answer=0.0))
        await core.catalog.refresh()
        assert "GOLDEN_FAILED" in why(core)
        core.backend.put("totals", 1, version(1))
        core.backend.put("broken", 2, version(2), state=State.LOADING)
        await core.catalog.refresh()
        assert why(core).startswith("no version of model 'broken' can be called: GOLDEN_FAILED")
        core.backend.put("broken", 2, version(2, answer=0.0))
        await core.catalog.refresh()
        assert core.gateway.is_ready


async def test_where_no_model_can_be_listed_it_says_why() -> None:
    async with service() as core:
        core.backend.unlisted = errors.BackendUnavailable("nothing is in the model root /m")
        await core.catalog.refresh()
        assert why(core) == "there is no model: nothing is in the model root /m"


async def test_one_model_can_be_asked_about() -> None:
    """It is ready while a version of it can be called now, whatever becomes of the others."""
    async with service() as core:
        with pytest.raises(errors.NotReady, match="starting"):
            core.gateway.unready("totals")
        core.backend.put("totals", 1, version(1))
        core.backend.put("broken", 1, version(1, answer=0.0))
        await core.catalog.refresh()
        assert core.gateway.unready("totals") is None
        assert isinstance(core.gateway.unready("broken"), errors.NotReady)
        assert "GOLDEN_FAILED" in why(core, "broken")
        with pytest.raises(errors.ModelNotFound):
            core.gateway.unready("nope")
        core.backend.published["totals"].clear()
        await core.catalog.refresh()
        assert isinstance(core.gateway.unready("totals"), errors.NotReady)


async def test_a_backend_out_of_reach_is_borne_for_the_grace() -> None:
    """Past it nothing is ready; once it answers again everything is, and the next outage has a grace anew."""
    async with service(grace=10.0) as core:
        core.backend.put("totals", 1, version(1))
        await looks(core, 100)
        for _ in range(2):
            core.backend.is_reachable = False
            core.backend.failing["totals"] = errors.BackendUnavailable("gone")
            await looks(core, 9)
            assert core.gateway.is_ready
            await looks(core, 3)
            for model in (None, "totals"):
                fault = core.gateway.unready(model)
                assert isinstance(fault, errors.BackendUnavailable)
                assert fault.message == "no model server has answered for 12 s, and 10 s are allowed"
                assert fault.retry_after == 1.0
            core.backend.is_reachable = True
            del core.backend.failing["totals"]
            assert core.gateway.is_ready


async def test_a_backend_that_was_never_reached_is_said_beside_the_models() -> None:
    async with service() as core:
        core.backend.put("totals", 1, version(1))
        core.backend.is_reachable = False
        core.backend.failing["totals"] = errors.BackendUnavailable("it cannot be reached")
        await looks(core, 5)
        assert isinstance(core.gateway.unready(), errors.NotReady)
        assert why(core) == "no version of model 'totals' can be called: it cannot be reached"
        await looks(core, 15)
        assert isinstance(core.gateway.unready(), errors.BackendUnavailable)
        assert why(core).startswith("no model server has answered for 20 s, and 10 s are allowed; no version")


async def test_who_drains_is_not_ready_for_any_model() -> None:
    async with service() as core:
        core.backend.put("totals", 1, version(1))
        await core.catalog.refresh()
        await core.gateway.drain(1.0)
        assert isinstance(core.gateway.unready(), errors.Draining)
        assert isinstance(core.gateway.unready("totals"), errors.Draining)
