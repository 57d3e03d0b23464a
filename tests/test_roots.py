"""A running service on model roots as they are really mounted, and as somebody hostile leaves them."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from seqserve.service.main import running
from seqserve.service.settings import Settings
from seqserve.v1 import model_pb2, model_pb2_grpc

BODY = {"sequences": [{"event": ["visit", "search"], "minutes": [0, 1.5]}]}


@pytest.fixture
def models(root: Path, tmp_path: Path) -> Path:
    """A root as Kubernetes mounts one, with `shop` version 0001 and all that may lie beside it."""
    mounted = tmp_path / "models" / "..2026_11_29"
    shutil.copytree(root / "shop" / "1", mounted / "shop" / "0001")
    (tmp_path / "models" / "..data").symlink_to("..2026_11_29")
    (tmp_path / "models" / "shop").symlink_to("..data/shop")
    (tmp_path / "models" / "lost+found").mkdir()
    (tmp_path / "models" / "README.md").write_text("text")
    for name in ("pipe", "large", "cut"):
        shutil.copytree(root / "shop" / "1", tmp_path / "models" / name / "1")
    (tmp_path / "models/pipe/1/assets/manifest.json").unlink()
    os.mkfifo(tmp_path / "models/pipe/1/assets/manifest.json")
    os.truncate(tmp_path / "models/large/1/saved_model.pb", 4 * 2**30)
    (tmp_path / "models/cut/1/variables/variables.index").unlink()
    os.makedirs(os.fsencode(tmp_path) + b"/models/caf\xe9/1")
    (tmp_path / "models" / "far" / str(2**63)).mkdir(parents=True)
    return tmp_path / "models"


async def seen(rest: httpx.AsyncClient, grpc_port: int) -> dict[str, Any]:
    """Return what both doors list, and the parts of the metrics that say so."""
    listed = (await rest.get("/v1/models")).json()["models"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        reply = await model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest())
    by_grpc = {model.name: [v.reason for v in model.versions] for model in reply.models}
    by_rest = {model["name"]: [v.get("reason", "") for v in model["versions"]] for model in listed}
    assert by_rest == by_grpc
    return by_rest


async def test_a_root_of_all_kinds_serves_what_can_be_served(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ready, listed at both doors, each fault told once; and it goes on while the root is away."""
    settings = Settings(root=models, rest_port=0, grpc_port=0, poll_seconds=600)
    async with running(settings) as started, asyncio.timeout(60):
        base = f"http://127.0.0.1:{started.rest_port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as rest:

            async def look() -> tuple[int, int, str]:
                await started.catalog.look()
                ready = (await rest.get("/readyz")).status_code
                answered = await rest.post("/v1/models/shop:predict", json=BODY)
                metrics = (await rest.get("/metrics")).text
                (listed,) = [
                    line for line in metrics.splitlines() if line.startswith("seqserve_models_listed")
                ]
                return ready, answered.status_code, listed[-3:]

            for _ in range(3):
                assert await look() == (200, 200, "1.0")
            wanted = {"cut": ["FILE_CHANGED"], "large": ["MANIFEST_INVALID"], "pipe": ["FILE_CHANGED"]}
            assert await seen(rest, started.grpc_port) == {**wanted, "shop": [""]}
            away = shutil.move(models, models.with_name("away"))
            for _ in range(3):
                assert await look() == (200, 200, "0.0")
            assert await seen(rest, started.grpc_port) == {**wanted, "shop": [""]}
            shutil.move(away, models)
            assert await look() == (200, 200, "1.0")
            warnings = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
            assert len(warnings) == len(set(warnings))
            assert [sum(name in line for line in warnings) for name in ("caf", "lost+found", "far")] == [
                1
            ] * 3
