"""What operators do to the models of a running service, and what it says: spoilt, misplaced, taken away."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_pb2, model_service_pb2_grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from seqserve.v1 import model_pb2 as public_pb2, model_pb2_grpc
from tests.tfserving.reload import END, ModelServer, config_file

SEQUENCE = {"sequences": [{"event": ["visit", "search"], "minutes": [0, 1.5]}]}


def all_of(models: Path, labels: dict[str, int] | None) -> tuple[ModelServerConfig, Path]:
    """Return a configuration of every model of a root, and the file that holds it."""
    config = config_file({path.name: path for path in models.iterdir()}, labels=labels)
    path = models.parent / "models.config"
    path.write_text(str(config))
    return config, path


@asynccontextmanager
async def service(
    server: ModelServer | None, models: Path, labels: dict[str, int] | None = None, **options: Any
) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """Run the service over every model of a root, at a model server or else in this process."""
    config, path = all_of(models, labels)
    if server is not None:
        server.serve(config)
        options["tfserving"] = server.address
    settings = Settings(model_config_file=path, rest_port=0, grpc_port=0, poll_seconds=600, **options)
    async with running(settings) as started, asyncio.timeout(90):
        base = f"http://127.0.0.1:{started.rest_port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as rest:
            yield started, rest


@pytest.fixture
def models(root: Path, tmp_path: Path) -> Path:
    """A root of this test's own, with version 1 of `shop`."""
    shutil.copytree(root / "shop" / "1", tmp_path / "models" / "shop" / "1")
    return tmp_path / "models"


def put(version: Path, place: Path, *, broken: bool = False) -> None:
    """Make a version appear, whole or without its graph."""
    aside = place.parent.parent / f".{place.name}"
    shutil.copytree(version, aside)
    if broken:
        (aside / "saved_model.pb").write_bytes(b"cut short")
    aside.rename(place)


async def becomes(started: Running, rest: httpx.AsyncClient, name: str, wanted: dict[int, str]) -> list[Any]:
    """Look until a model's versions stand like that, by standing or reason; return what is shown."""
    while True:
        await started.catalog.renew(name)
        shown = (await rest.get(f"/v1/models/{name}")).json()["versions"]
        if {version["version"]: version.get("reason", version["standing"]) for version in shown} == wanted:
            return list(shown)


def listed(server: ModelServer, name: str) -> dict[int, int]:
    """Return the versions that the model server lists, with their states."""
    with grpc.insecure_channel(server.address) as channel:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_pb2.ModelSpec(name=name))
        reply = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=20)
    return {status.version: status.state for status in reply.model_version_status}


async def refused(rest: httpx.AsyncClient) -> list[str]:
    """Return the series that the alert VersionRefused watches."""
    lines = (await rest.get("/metrics")).text.splitlines()
    return [line for line in lines if line.startswith("seqserve_model_version_refused{")]


async def test_a_version_that_failed_leaves_with_its_directory(
    models: Path, root: Path, model_server: ModelServer
) -> None:
    """The model server lists it for ever; the gateway, which sees the directory, does not."""
    async with service(model_server, models, tfserving_root=models) as (started, rest):
        put(root / "shop" / "1", models / "shop" / "2", broken=True)
        shown = await becomes(started, rest, "shop", {2: "BACKEND_FAILED", 1: "ROUTABLE"})
        assert shown[0]["message"] == "the model server could not load it; its log has the reason"
        assert len(await refused(rest)) == 1
        shutil.rmtree(models / "shop" / "2")
        await becomes(started, rest, "shop", {1: "ROUTABLE"})
        assert await refused(rest) == []
        assert listed(model_server, "shop")[2] == END


async def test_a_version_that_failed_out_of_sight_leaves_when_others_take_its_place(
    models: Path, root: Path, model_server: ModelServer
) -> None:
    """One newer version is not enough under `latest 2`; two are."""
    async with service(model_server, models) as (started, rest):
        put(root / "shop" / "1", models / "shop" / "2", broken=True)
        shown = await becomes(started, rest, "shop", {2: "BACKEND_FAILED", 1: "ROUTABLE"})
        assert "cannot be seen from here, so it is listed until 2 newer can be run" in shown[0]["message"]
        shutil.rmtree(models / "shop" / "2")
        put(root / "shop" / "1", models / "shop" / "3")
        await becomes(started, rest, "shop", {3: "ROUTABLE", 2: "BACKEND_FAILED", 1: "ROUTABLE"})
        put(root / "shop" / "1", models / "shop" / "4")
        await becomes(started, rest, "shop", {4: "ROUTABLE", 3: "ROUTABLE"})
        assert await refused(rest) == []
        assert listed(model_server, "shop")[2] == END


@pytest.mark.parametrize("kind", ["embedded", "tfserving"])
async def test_a_label_whose_version_is_taken_away_says_so(
    kind: str, models: Path, root: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """LABEL_NOT_FOUND, naming the version, and one line of log for many looks, until the version is back."""
    server = request.getfixturevalue("model_server") if kind == "tfserving" else None
    url = "/v1/models/shop/labels/stable:predict"
    put(models / "shop" / "1", models / "shop" / "2")
    async with service(server, models, {"stable": 2}) as (started, rest):
        assert (await rest.post(url, json=SEQUENCE)).json()["model"]["version"] == 2
        shutil.rmtree(models / "shop" / "2")
        await becomes(started, rest, "shop", {1: "ROUTABLE"})
        while (await rest.post(url, json=SEQUENCE)).json()["reason"] == "MANIFEST_MISSING":
            await started.catalog.renew(
                "shop"
            )  # asked while the server had the version and its files were gone
        for _ in range(10):
            await started.catalog.renew("shop")
            problem = (await rest.post(url, json=SEQUENCE)).json()
            assert problem["reason"] == "LABEL_NOT_FOUND"
            assert "label 'stable' of model 'shop' points to version 2" in problem["detail"]
        assert len([r for r in caplog.records if "stable" in r.getMessage()]) == 1
        put(root / "shop" / "1", models / "shop" / "2")
        await becomes(started, rest, "shop", {2: "ROUTABLE", 1: "ROUTABLE"})
        while (answered := await rest.post(url, json=SEQUENCE)).status_code != 200:
            pass
        assert answered.json()["model"]["version"] == 2
        said = [r.getMessage() for r in caplog.records if "stable" in r.getMessage()]
        assert said[1:] == ["label stable of model shop stands for version 2 again"]


@pytest.mark.parametrize("kind", ["embedded", "tfserving"])
async def test_another_tasks_files_do_not_take_the_name_over(
    kind: str, models: Path, root: Path, request: pytest.FixtureRequest
) -> None:
    """The files of `shop` in en-de/6: refused, both named. en-de/5 goes on, also after a start with both."""
    server = request.getfixturevalue("model_server") if kind == "tfserving" else None
    shutil.copytree(root / "en-de" / "1", models / "en-de" / "5")
    wanted = {6: "TASK_DIFFERS", 5: "ROUTABLE"}
    async with service(server, models) as (started, rest):
        put(root / "shop" / "1", models / "en-de" / "6")
        shown = await becomes(started, rest, "en-de", wanted)
        assert shown[0]["message"] == (
            "version 6 of model 'en-de' is for sequence; version 5, which answers under that name, is for "
            "translation"
        )
        assert 'reason="TASK_DIFFERS"' in "".join(await refused(rest))
        answered = await rest.post("/v1/models/en-de:translate", json={"texts": ["twelve"]})
        assert answered.json()["model"]["version"] == 5
    async with service(server, models) as (started, rest):
        await becomes(started, rest, "en-de", wanted)


async def test_another_name_alone_is_shown_and_answers(models: Path, root: Path) -> None:
    """At both doors; a version under the name that it was exported under has no such member."""
    shutil.copytree(root / "shop" / "1", models / "orders" / "1")
    async with service(None, models) as (started, rest):
        (shown,) = (await rest.get("/v1/models/orders")).json()["versions"]
        assert (shown["standing"], shown["exported_name"]) == ("ROUTABLE", "shop")
        (own,) = (await rest.get("/v1/models/shop")).json()["versions"]
        assert "exported_name" not in own
        assert (await rest.post("/v1/models/orders:predict", json=SEQUENCE)).status_code == 200
        async with grpc.aio.insecure_channel(f"127.0.0.1:{started.grpc_port}") as channel:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            replies = [
                await stub.GetModel(public_pb2.GetModelRequest(name=name)) for name in ("orders", "shop")
            ]
        assert [reply.model.versions[0].exported_name for reply in replies] == ["shop", ""]
        assert not replies[1].model.versions[0].HasField("exported_name")
