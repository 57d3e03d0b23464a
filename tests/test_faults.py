"""The model server dies, hangs, or answers rubbish under the gateway: callers get the truth, in time."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from seqserve.service.contract.items import answers_as_json
from seqserve.service.contract.manifest import FILE_NAME, Example, Manifest
from seqserve.service.contract.manifest_file import dump_manifest, parse_manifest
from seqserve.service.core.examine import make_served
from seqserve.service.core.golden import body_of
from seqserve.service.main import running
from seqserve.service.settings import Settings
from seqserve.tfserving.predict_pb2 import PredictRequest, PredictResponse
from tests.backend.wire import Script, answer, server
from tests.http import Connection, connections
from tests.tfserving.process import serving
from tests.tfserving.reload import config_file

SECONDS = 4.0
CALLERS = 21
BODY = {"sequences": [{"event": ["visit", "search"], "minutes": [0, 1.5]}]}
UNAVAILABLE = ("BACKEND_UNAVAILABLE", "NOT_READY")  # both 503; while it is examined anew, the latter
Reply = tuple[str, float]
"""The label or the reason, and the seconds it took."""


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    """A model config file for `shop`."""
    path = tmp_path / "models.config"
    path.write_text(str(config_file({"shop": root / "shop"})))
    return path


@asynccontextmanager
async def gateway(
    *addresses: str, name: str = "shop", grace: float = 10.0
) -> AsyncIterator[tuple[httpx.AsyncClient, list[Connection]]]:
    """Run the service before these addresses; yields a client, and a connection for each of 20 callers."""
    settings = Settings(
        tfserving=",".join(addresses),
        models=name,
        rest_port=0,
        grpc_port=0,
        poll_seconds=0.25,
        ready_grace_seconds=grace,
    )
    async with running(settings) as started, connections(started.rest_port, CALLERS) as opened:
        base = f"http://127.0.0.1:{started.rest_port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as rest:
            yield rest, opened


async def ask(rest: Connection) -> Reply:
    """Ask once, with a deadline."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    headers = {"Grpc-Timeout": f"{SECONDS:.0f}S"}
    _, content = await rest.post("/v1/models/shop:predict", BODY, headers)
    taken = loop.time() - started
    if "reason" in content:
        return content["reason"], taken
    return content["predictions"][0]["heads"]["next_event"]["label"], taken


class Load:
    """Callers that go on asking until they are told to stop."""

    def __init__(self, callers: list[Connection]) -> None:
        self.replies: list[Reply] = []
        self._stopped = False
        self._more = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._ask(caller)) for caller in callers]

    async def more(self, count: int) -> list[Reply]:
        """Wait for so many more replies, and return them."""
        before = len(self.replies)
        async with self._more:
            await self._more.wait_for(lambda: len(self.replies) >= before + count)
        return self.replies[before:]

    async def end(self) -> list[Reply]:
        """Stop, and return every reply."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
        return self.replies

    async def _ask(self, caller: Connection) -> None:
        while not self._stopped:
            reply = await ask(caller)
            self.replies.append(reply)
            async with self._more:
                self._more.notify_all()
            if reply[0] in UNAVAILABLE:
                await asyncio.sleep(0.05)  # as its Retry-After asks, only less


def kinds(replies: list[Reply]) -> set[str]:
    """What was answered; nothing may take longer than its deadline."""
    assert max(seconds for _, seconds in replies) < SECONDS + 1
    return {kind for kind, _ in replies}


async def test_a_killed_model_server_costs_its_outage_and_no_wrong_answer(config: Path) -> None:
    """kill -9 under load: UNAVAILABLE or a good answer, in time; back to normal within 2 s of its return."""
    with serving(config) as first:
        port = first.address.rpartition(":")[2]
        async with gateway(first.address) as (_, (caller, *callers)), asyncio.timeout(90):
            good, _ = await ask(caller)
            load = Load(callers)
            assert kinds(await load.more(100)) == {good}
            first.process.send_signal(signal.SIGKILL)
            assert kinds(await load.more(100)) <= {good, *UNAVAILABLE}
            context = serving(config, port=port)
            await asyncio.to_thread(context.__enter__)
            back = asyncio.get_running_loop().time()
            while (await ask(caller))[0] != good:
                pass
            outage = asyncio.get_running_loop().time() - back
            counted = Counter(kind for kind, _ in await load.end())
            context.__exit__(None, None, None)
            print(f"answers {counted}; good again {outage:.2f} s after the server listened")
            assert outage < 2
            assert good in counted
            assert set(counted) <= {good, *UNAVAILABLE}


async def test_readiness_follows_a_model_server_that_goes_and_comes_back(config: Path) -> None:
    """A kill is borne for the grace, then told with its reason; once the server listens it is ready again."""
    with serving(config) as first:
        port = first.address.rpartition(":")[2]
        async with gateway(first.address, grace=0.5) as (rest, _), asyncio.timeout(60):
            assert (await rest.get("/readyz")).status_code == 200
            first.process.kill()
            killed = asyncio.get_running_loop().time()
            while (answered := await rest.get("/readyz")).status_code == 200:
                pass
            assert asyncio.get_running_loop().time() - killed >= 0.5
            assert answered.json()["reason"] == "BACKEND_UNAVAILABLE"
            assert (await rest.get("/readyz", params={"model": "shop"})).status_code == 503
            context = serving(config, port=port)
            await asyncio.to_thread(context.__enter__)
            while (await rest.get("/readyz")).status_code != 200:
                pass
            context.__exit__(None, None, None)


async def test_one_of_two_addresses_is_killed_and_nobody_notices(config: Path) -> None:
    """What it had under way is tried again at the other one: no request fails."""
    with serving(config) as dying, serving(config) as living:
        async with gateway(dying.address, living.address) as (rest, (caller, *callers)), asyncio.timeout(60):
            good, _ = await ask(caller)
            load = Load(callers)
            await load.more(200)
            dying.process.send_signal(signal.SIGKILL)
            await load.more(200)
            replies = await load.end()
            metrics = (await rest.get("/metrics")).text
            print(
                f"{len(replies)} requests",
                *(line for line in metrics.splitlines() if "retries_total " in line),
            )
            assert kinds(replies) == {good}


async def test_a_hanging_model_server_costs_the_deadline(config: Path) -> None:
    """Stopped, not dead: DEADLINE_EXCEEDED or UNAVAILABLE, in time; it goes on where it stopped."""
    with serving(config) as hanging:
        async with gateway(hanging.address) as (_, (caller, *callers)), asyncio.timeout(60):
            good, _ = await ask(caller)
            hanging.process.send_signal(signal.SIGSTOP)
            replies = await asyncio.gather(*(ask(one) for one in callers))
            assert kinds(replies) <= {"DEADLINE_EXCEEDED", "BACKEND_UNAVAILABLE"}
            hanging.process.send_signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                while (await ask(caller))[0] != good:
                    pass


async def test_a_server_that_batches_is_found_out(config: Path) -> None:
    """Its versions are listed as refused with BACKEND_BATCHING_ON, and not called."""
    with serving(config, enable_batching=True) as batching:
        async with gateway(batching.address) as (rest, (caller, *_)):
            shown = (await rest.get("/v1/models/shop")).json()["versions"]
            assert [(v["version"], v["reason"]) for v in shown] == [(1, "BACKEND_BATCHING_ON")]
            assert (await ask(caller))[0] == "NOT_READY"


def good(rows: int) -> dict[str, np.ndarray]:
    """What `shop` would answer, by shape."""
    return {
        "next_event": np.zeros((rows, 9), np.float32),
        "minutes_to_next": np.zeros(rows, np.float32),
        "minutes_to_end": np.zeros(rows, np.float32),
    }


def recorded(manifest: Manifest) -> Example:
    """Record what a gateway makes of `good`."""
    served = make_served("m", 1, {FILE_NAME: dump_manifest(manifest)})
    plan = served.codec.plan(body_of(served, BODY))
    outputs = {name: value[0] for name, value in good(1).items()}
    answered = plan.decode(plan.encode(plan.items[0]), outputs)
    return Example(request=BODY, items=answers_as_json([answered]))


RUBBISH: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "an output missing": lambda out: {"next_event": out["next_event"]},
    "a row too few": lambda out: {name: value[1:] for name, value in out.items()},
    "a row too many": lambda out: {name: np.repeat(value, 2, axis=0) for name, value in out.items()},
    "no rows at all": lambda out: out | {"next_event": np.zeros(9, np.float32)},
    "an axis too many": lambda out: out | {"next_event": out["next_event"][:, None]},
    "classes too few": lambda out: out | {"next_event": out["next_event"][:, 1:]},
    "NaN": lambda out: out | {"next_event": out["next_event"] * np.nan},
    "infinity": lambda out: out | {"minutes_to_next": out["minutes_to_next"] + np.inf},
    "text": lambda out: out | {"minutes_to_next": np.array([b"soon"], object)},
    "whole numbers": lambda out: out | {"next_event": out["next_event"].astype(np.int64)},
}


@pytest.mark.parametrize("spoil", RUBBISH.values(), ids=RUBBISH)
async def test_rubbish_never_becomes_an_answer(root: Path, spoil: Any) -> None:
    """Wrong shapes, wrong row counts, numbers that are none: BACKEND_FAILED, and the next call is fine."""
    manifest = parse_manifest((root / "shop/1/assets" / FILE_NAME).read_bytes())
    content = dump_manifest(manifest.model_copy(update={"examples": (recorded(manifest),)}))
    spoiling = False

    def predict(request: PredictRequest) -> PredictResponse:
        outputs = good(request.inputs["event"].tensor_shape.dim[0].size)
        return answer(request, **(spoil(outputs) if spoiling else outputs))

    script = Script(manifests={1: content}, predict=predict)
    async with server(script) as address, gateway(address, name="m") as (rest, _):
        spoiling = True
        response = await rest.post("/v1/models/m:predict", json=BODY)
        assert (response.status_code, response.json()["reason"]) == (500, "BACKEND_FAILED")
        spoiling = False
        assert (await rest.post("/v1/models/m:predict", json=BODY)).status_code == 200
