"""A version takes over under load: nobody fails, nobody gets one version's words for another's numbers."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sentencepiece import sentencepiece_model_pb2

from seqserve.models.check.pipeline import pipeline
from seqserve.service.contract.digest import digest_of, file_hashes
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.core.golden import answers, first_difference
from seqserve.service.main import Running, running
from seqserve.service.settings import Settings
from tests.http import Connection, connections
from tests.tfserving.reload import ModelServer, config_file

CALLERS = 200
NAMES = ("en-de", "shop")
ASKED: dict[str, list[dict[str, Any]]] = {
    "en-de:translate": [
        {"texts": [text]} for text in ("Tuesday, November 24, 2026", "9:05 AM", "twelve", "May 1")
    ],
    "shop:predict": [
        {"sequences": [{"event": events, "minutes": [0.5] * len(events)}], "top_k": 3}
        for events in (["visit"], ["visit", "search"], ["visit", "view", "search"], ["search"] * 5)
    ],
}
Expected = dict[tuple[str, int, str], list[dict[str, Any]]]
"""Items by URL, place in ASKED, and digest."""


async def expect(*roots: Path) -> Expected:
    """Ask each version alone, in its own pipeline, nothing beside it."""
    expected: Expected = {}
    for root in roots:
        for url, bodies in ASKED.items():
            async with pipeline(root / url.partition(":")[0] / "1") as loaded:
                for place, body in enumerate(bodies):
                    until = asyncio.get_running_loop().time() + 60
                    items = await answers(loaded.served, loaded.runner, body, until)
                    expected[url, place, loaded.served.digest] = items
    return expected


@pytest.fixture(scope="module")
def expected(root: Path, successor: Path) -> Expected:
    """What the old and the new versions answer; they differ in every one."""
    expected = asyncio.run(expect(root, successor))
    for url, bodies in ASKED.items():
        for place in range(len(bodies)):
            one, other = (items for key, items in expected.items() if key[:2] == (url, place))
            assert first_difference(one, other, 1e-3)
    return expected


@dataclass
class Seen:
    """What the callers got: answers and failures by version, and every answer that was no version's."""

    answers: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def call(rest: Connection, number: int, expected: Expected, seen: Seen, warm: asyncio.Barrier) -> None:
    """Ask the same thing again and again until version 2 has answered it; three times before that."""
    url = list(ASKED)[number % 2]
    place = number // 2 % len(ASKED[url])
    for turn in range(10_000):
        if turn == 3:
            await warm.wait()
        status, content = await rest.post(f"/v1/models/{url}", ASKED[url][place])
        if status != 200:
            seen.failures[content["reason"]] += 1
            continue
        version, items = content["model"]["version"], content.get("translations", content.get("predictions"))
        seen.answers[version] += 1
        wanted = expected[url, place, content["model"]["digest"]]
        difference = first_difference(wanted, items, 1e-4)
        if difference:
            seen.wrong.append(f"version {version}: {difference}")
        if version == 2:
            return


@pytest.fixture
def models(root: Path, tmp_path: Path) -> Path:
    """A root of this test's own, with version 1 of both models."""
    for name in NAMES:
        shutil.copytree(root / name / "1", tmp_path / name / "1")
    return tmp_path


def publish(version: Path, models: Path, name: str, number: int) -> None:
    """Put a version beside the others, whole."""
    shutil.copytree(version, models / f".{name}.{number}")
    (models / f".{name}.{number}").rename(models / name / str(number))


@asynccontextmanager
async def service(
    kind: str, models: Path, latest: int, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """Run the service over either backend, looking often."""
    config, path = config_file({name: models / name for name in NAMES}, latest), models / "models.config"
    path.write_text(str(config))
    options: dict[str, Any] = {"model_config_file": path}
    if kind == "tfserving":
        server: ModelServer = request.getfixturevalue("model_server")
        server.serve(config)
        options["tfserving"] = server.address
    settings = Settings(rest_port=0, grpc_port=0, poll_seconds=0.1, **options)
    async with running(settings) as started:
        base = f"http://127.0.0.1:{started.rest_port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as rest:
            yield started, rest


@pytest.mark.parametrize("latest", [2, 1])
@pytest.mark.parametrize("kind", ["embedded", "tfserving"])
async def test_a_new_version_takes_over_under_load(
    kind: str, latest: int, models: Path, successor: Path, expected: Expected, request: pytest.FixtureRequest
) -> None:
    """200 callers while version 2 comes: every answer is its version's own; under `latest 2` none fails."""
    seen, warm = Seen(), asyncio.Barrier(CALLERS + 1)
    async with (
        service(kind, models, latest, request) as (started, _),
        connections(started.rest_port, CALLERS) as opened,
        asyncio.timeout(120),
    ):
        callers = [
            asyncio.create_task(call(rest, number, expected, seen, warm))
            for number, rest in enumerate(opened)
        ]
        await warm.wait()
        assert not seen.failures
        for name in NAMES:
            await asyncio.to_thread(publish, successor / name / "1", models, name, 2)
        await asyncio.gather(*callers)
    print(f"{kind}, latest {latest}: answers {dict(seen.answers)}, failures {dict(seen.failures)}")
    assert seen.wrong == []
    assert seen.answers[1] >= 3 * CALLERS
    assert seen.answers[2] >= CALLERS
    if latest == 2:
        assert not seen.failures
    assert set(seen.failures) <= {"BACKEND_UNAVAILABLE", "NOT_READY"}


def permute(tokenizer: Path) -> None:
    """Make it another vocabulary's: the same pieces, under other ids."""
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.read_bytes())
    normal = [piece for piece in model.pieces if piece.type == piece.NORMAL]
    contents = [piece.SerializeToString() for piece in normal]
    for piece, content in zip(normal, reversed(contents), strict=True):
        piece.ParseFromString(content)
    tokenizer.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", ["embedded", "tfserving"])
async def test_another_vocabularys_tokenizer_is_caught_by_the_golden_examples(
    kind: str, models: Path, request: pytest.FixtureRequest
) -> None:
    """Its digests are made to match, so only the examples can tell: it is refused, the old one stays."""
    aside = models / ".wrong"
    shutil.copytree(models / "en-de" / "1", aside)
    path = aside / "assets" / FILE_NAME
    manifest = json.loads(path.read_bytes())
    permute(aside / "assets" / manifest["features"]["source_ids"]["tokenizer"])
    path.write_text(json.dumps({**manifest, "files": file_hashes(aside)}))
    digest = digest_of((models / "en-de/1/assets" / FILE_NAME).read_bytes())
    async with service(kind, models, 2, request) as (started, rest), asyncio.timeout(60):
        aside.rename(models / "en-de" / "2")
        shown: list[dict[str, Any]] = []
        while [version["version"] for version in shown] != [2, 1] or shown[0]["standing"] == "LOADING":
            await started.catalog.renew("en-de")
            shown = (await rest.get("/v1/models/en-de")).json()["versions"]
        assert shown[0].get("reason") == "GOLDEN_FAILED", shown
        metrics = (await rest.get("/metrics")).text
        labels = 'model="en-de",reason="GOLDEN_FAILED",version="2"'
        assert f"seqserve_model_version_refused{{{labels}}} 1.0" in metrics
        answered = await rest.post("/v1/models/en-de:translate", json={"texts": ["twelve"]})
        assert answered.json()["model"] == {"name": "en-de", "version": 1, "digest": digest}
        named = await rest.post("/v1/models/en-de/versions/2:translate", json={"texts": ["twelve"]})
        assert named.json()["reason"] == "GOLDEN_FAILED"
