"""The peers that run in the project's own environment give the service's answers, beside any neighbours."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from seqserve.models.data.journeys import journeys
from seqserve.models.data.phrases import phrase_pairs
from seqserve.service.contract.manifest import FILE_NAME
from tests.bench.peers import PEERS, Task
from tests.bench.peers.fastapi_plain import make_app
from tests.bench.peers.keras_eager import EagerTranslation
from tests.bench.peers.model import Events, Model, Translation
from tests.doors import Both

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = 4  # fewer than items: the lists are run in parts
ITEMS: dict[Task, list[Any]] = {
    "translation": [pair.source for pair in phrase_pairs("test", 8, seed=3)],
    "sequence": [
        {"event": list(case.events[:steps]), "minutes": [0.5] * len(case.events[:steps])}
        for steps, case in enumerate(journeys(8, seed=3), start=1)
    ],
}


@pytest.mark.parametrize(
    ("kind", "task", "name"),
    [
        (Translation, "translation", "en-de"),
        (EagerTranslation, "translation", "en-de"),
        (Events, "sequence", "shop"),
    ],
)
async def test_answers_are_the_services(
    both: Both, root: Path, kind: type[Model], task: Task, name: str
) -> None:
    """All items in one request, by the table of peers."""
    peer, folder = PEERS["fastapi_plain"], root / name / "1"
    model = kind(folder, json.loads((folder / "assets" / FILE_NAME).read_bytes()), ROWS)
    transport = httpx.ASGITransport(make_app(model.answer))
    async with httpx.AsyncClient(transport=transport, base_url="http://peer") as client:
        assert (await client.get(peer.health)).status_code == 200
        answered = await client.post(peer.path(task) or "", json=peer.to_body(task, ITEMS[task]))
    assert peer.from_answer(task, answered.json()) == await _service(both, task, name)


async def _service(both: Both, task: Task, name: str) -> list[str]:
    verb, request = {
        "translation": ("translate", {"texts": ITEMS[task]}),
        "sequence": ("predict", {"sequences": ITEMS[task]}),
    }[task]
    body = (await both.rest.post(f"/v1/models/{name}:{verb}", json=request)).json()
    if task == "translation":
        return [item["text"] for item in body["translations"]]
    return [item["heads"]["next_event"]["label"] for item in body["predictions"]]


async def test_requests_are_told_apart(root: Path) -> None:
    """Requests of several lengths joined: each gets its own answers."""
    folder = root / "shop/1"
    model = Events(folder, json.loads((folder / "assets" / FILE_NAME).read_bytes()), ROWS)
    items = ITEMS["sequence"]
    requests = [items[:3], items[3:4], items[4:]]
    assert model.answer_all(requests) == [model.answer(request) for request in requests]
