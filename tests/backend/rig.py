"""The tfserving backend under test before scripted model servers, and waits that need no sleep."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.backend.base import Spec, VersionState
from seqserve.service.backend.tfserving import TfServingBackend
from seqserve.service.contract.digest import digest_of
from seqserve.service.metrics import Metrics
from tests.backend.wire import Script

Code = grpc.StatusCode
X = {"x": np.array([1.0, 2.0], np.float32)}


def spec(content: bytes = b"one", version: int = 1) -> Spec:
    """What the scripts serve."""
    return Spec("m", version, "serving_default", digest_of(content))


def soon(seconds: float = 10.0) -> float:
    """An absolute deadline."""
    return asyncio.get_running_loop().time() + seconds


@asynccontextmanager
async def backend(*addresses: str, **options: Any) -> AsyncIterator[TfServingBackend]:
    """A backend that has looked once."""
    made = TfServingBackend(addresses, lambda: ["m"], Metrics(CollectorRegistry()), **options)
    try:
        await made.models()
        yield made
    finally:
        await made.close()


async def until(backend: TfServingBackend, **wanted: Any) -> VersionState:
    """Look, as the catalog does, until version 1 is what is wanted; at most 5 s."""
    async with asyncio.timeout(5):
        while True:
            try:
                for state in await backend.versions("m"):
                    if all(getattr(state, name) == value for name, value in wanted.items()):
                        return state
            except errors.BackendUnavailable:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await changed(backend)


async def changed(backend: TfServingBackend) -> None:
    channels = [replica._channel for replica in backend._replicas.values()]
    waits = [asyncio.ensure_future(c.wait_for_state_change(c.get_state())) for c in channels]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def samples(backend: TfServingBackend, name: str) -> dict[tuple[str, ...], float]:
    """A sample's values by its label values."""
    families = backend._metrics.registry.collect()
    every = (sample for family in families for sample in family.samples)
    return {tuple(s.labels.values()): s.value for s in every if s.name == f"seqserve_{name}"}


async def until_calls(script: Script, count: int, backend: TfServingBackend | None = None) -> None:
    """Wait until a script was called so often, calling it meanwhile through a backend if there is one."""
    async with asyncio.timeout(5):
        while len(script.calls) < count:
            await asyncio.sleep(0)
            if backend is not None:
                await backend.versions("m")
                await backend.predict(spec(), X, soon())
