"""What the models promise, computed by the server: the golden examples of every version that it has.

At SEQSERVE_TEST_TFSERVING: of the models that SEQSERVE_TEST_MODELS names, by the manifest's tolerance for
SEQSERVE_TEST_DEVICE (`make gpu-smoke`). Else at the test server, of the tests' own models.
"""

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from seqserve.service.backend.tfserving import TfServingBackend
from seqserve.service.core.catalog import Catalog
from seqserve.service.core.items import ItemRunner
from seqserve.service.core.queue import Budget
from seqserve.service.core.scheduler import Scheduler
from seqserve.service.core.standing import Standing, VersionReport
from seqserve.service.errors import BackendUnavailable
from seqserve.service.metrics import Metrics
from tests.conformance.roots import ADDRESS, DEVICE, MODELS
from tests.tfserving.reload import ModelServer, config_file

SECONDS = 300.0
"""For all versions of a model: a GPU newer than the server's CUDA has its kernels compiled at first."""
NAMES = os.environ.get(MODELS, "").split(",") if ADDRESS in os.environ else ["en-de", "shop"]


async def faults(address: str, model: str, device: str) -> list[str]:
    """Examine each version that is at the server; return a line for each that the gateway would not call."""
    metrics = Metrics(CollectorRegistry())
    backend = TfServingBackend([address], lambda: [model], metrics)
    budget = Budget(rows=64, cells=8192, queue_cells=2**20)
    async with Scheduler(backend, budget, metrics, backend_timeout=SECONDS) as scheduler:
        catalog = Catalog(backend, ItemRunner(scheduler, metrics), metrics, device)
        try:
            return await _settled(catalog, model)
        except BackendUnavailable as error:
            return [f"{model}: {error.message}"]
        finally:
            await backend.close()


async def _settled(catalog: Catalog, model: str) -> list[str]:
    until = asyncio.get_running_loop().time() + SECONDS
    while True:
        await catalog.refresh()
        reports = catalog.versions(model)
        if not reports:
            return [f"{model}: the server has no version of it"]
        loading = any(report.standing is Standing.LOADING for report in reports)
        if not loading or asyncio.get_running_loop().time() > until:
            break
        await asyncio.sleep(0.2)
    return [
        f"{model} version {report.version}: {_why(report)}" for report in reports if report.served is None
    ]


def _why(report: VersionReport) -> str:
    return f"{report.error.reason}: {report.error.message}" if report.error else f"still {report.standing}"


@pytest.fixture(params=[name for name in NAMES if name])
def served(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A server's address, and a model on it."""
    if ADDRESS in os.environ:
        return os.environ[ADDRESS], request.param
    server, root = request.getfixturevalue("model_server"), request.getfixturevalue("root")
    server.serve(config_file({request.param: root / request.param}))
    return server.address, request.param


async def test_every_version_answers_as_recorded(served: tuple[str, str]) -> None:
    """Each version's golden examples give the recorded answers, within the manifest's tolerance."""
    faulty = await faults(*served, os.environ.get(DEVICE, "cpu"))
    if faulty:
        pytest.fail("\n".join(faulty), pytrace=False)


if ADDRESS not in os.environ:

    async def test_a_version_that_answers_otherwise_is_named(
        model_server: ModelServer, refused_too: Path
    ) -> None:
        """The fault names the model, the version, the example, what came and what was recorded."""
        model_server.serve(config_file({"golden": refused_too / "golden"}))
        (fault,) = await faults(model_server.address, "golden", "cpu")
        assert fault.startswith("golden version 1: GOLDEN_FAILED: examples.0: items.0.text is ")
        assert fault.endswith(", recorded 'another'")

    async def test_a_model_that_is_not_there_is_named(model_server: ModelServer) -> None:
        """Nothing to examine is a fault too."""
        assert await faults(model_server.address, "nope", "cpu") == ["nope: the server has no version of it"]
