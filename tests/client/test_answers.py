"""All clients over one service: the same answers and the same errors, and all that the REST door says."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from seqserve.client import Answers, AsyncClient, ServiceError, Translation
from seqserve.service.contract.manifest import FILE_NAME
from seqserve.service.core.golden import first_difference
from tests.answers import prune
from tests.client.calling import WAYS, called, lists, told, url
from tests.doors import HOURS, SHOP, STAMPS, TEXT, WAVE, Both, both_doors, event

pytestmark = [pytest.mark.asyncio(loop_scope="module")]
ROWS: list[tuple[str, str, list[Any], dict[str, Any]]] = [
    ("translate", "en-de", [TEXT, "9:05 AM", "twelve"], {"alignment": True}),
    ("translate", "en-de", [TEXT], {"beam_size": 4, "n_best": 2, "tokens": True}),
    ("translate", "en-de", [TEXT], {"sampling": {"seed": -5, "top_k": 3}, "version": 1}),
    ("translate", "en-de", [TEXT, "", "x" * 300, "two"], {"label": "stable"}),
    ("translate", "en-de", [TEXT, "two"] * 8 + [""], {"max_length": 2}),
    ("translate", "en-de", [""] * 20, {}),
    ("translate", "en-de", [], {}),
    ("translate", "en-de", [TEXT] * 20, {"beam_size": 99}),
    ("translate", "nope", [TEXT], {}),
    ("translate", "bare", [TEXT], {"version": 1}),
    ("predict", "en-de", [SHOP], {}),
    ("predict", "shop", [SHOP] * 20, {"top_k": 3}),
    ("predict", "shop", [SHOP, event("visit", minutes=[-1]), event("nonsense")] * 4, {}),
    ("predict", "shop", [event("visit", minutes=[1e7])], {"heads": ["minutes_to_next"]}),
    ("predict", "shop", [{**SHOP, "minutes": STAMPS}, {"event": ["visit"], "minutes": None}], {}),
    ("predict", "shop", [SHOP], {"heads": ["nope"]}),
    ("predict", "shop", [{**SHOP, "a~/ b": [1, 2]}], {}),
    ("predict", "waves", [WAVE, {"signal": WAVE["signal"] * 7}], {"top_k": 3}),
    ("predict", "steps", [{"minutes": [0, 0.5, 12]}], {"top_k": 2}),
    ("predict", "loads", [HOURS, {"hours": HOURS["hours"] * 9}], {"seed": 5}),
]


@pytest.fixture(scope="module")
def models(root: Path, kinds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with models of several kinds, one of them refused."""
    folder = tmp_path_factory.mktemp("answers")
    for version in (*root.glob("*/1"), *kinds.glob("*/1")):
        shutil.copytree(version, folder / version.parent.name / "1")
    shutil.copytree(root / "en-de" / "1", folder / "bare" / "1")
    (folder / "bare/1/assets" / FILE_NAME).unlink()
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(models: Path) -> AsyncIterator[Both]:
    """A service of them, that takes eight items at once."""
    async with both_doors(models) as both:
        yield both


async def answers(both: Both, method: str, *arguments: Any, **options: Any) -> list[Any]:
    """Return what each client is answered."""
    all_of_them = []
    for door, kind in WAYS:
        async with called(url(both.started, door), kind) as call:
            all_of_them.append(await call(method, *arguments, **options))
    return all_of_them


@pytest.mark.parametrize(("verb", "model", "items", "options"), ROWS)
async def test_each_client_is_answered_alike(
    both: Both, verb: str, model: str, items: list[Any], options: dict[str, Any]
) -> None:
    """By both doors, blocking and awaiting; lists longer than the service takes too."""
    first, *others = await answers(both, verb, model, items, **options)
    differences = [first_difference(told(first), told(other), 1e-5) for other in others]
    assert differences == [None] * 3
    if isinstance(first, Answers):
        assert len(first.items) == len(items)


@pytest.mark.parametrize(("verb", "model", "items", "options"), [row for row in ROWS if len(row[2]) <= 8])
async def test_nothing_of_an_answer_is_lost(
    both: Both, verb: str, model: str, items: list[Any], options: dict[str, Any]
) -> None:
    """Every member of the REST door's answer, or problem, is in the client's."""
    body = {**options, "texts" if verb == "translate" else "sequences": items}
    place = f"/versions/{body.pop('version')}" if "version" in body else ""
    place = f"/labels/{body.pop('label')}" if "label" in body else place
    response = await both.rest.post(f"/v1/models/{model}{place}:{verb}", json=body)
    said = response.json()
    async with called(url(both.started, "http"), AsyncClient) as call:
        answer = await call(verb, model, items, **options)
    if isinstance(answer, ServiceError):
        faults = [(v.pointer, v.message, v.reason) for v in answer.errors]
        assert (answer.code, answer.reason, answer.message) == (said["code"], said["reason"], said["detail"])
        assert faults == [(e["pointer"], e["detail"], e["reason"]) for e in said.get("errors", ())]
        return
    member = "translations" if verb == "translate" else "predictions"
    assert asdict(answer.model) == said["model"]
    wanted = [prune(item) for item in said[member]]
    assert first_difference(wanted, [plain(item) for item in answer.items], 1e-5) is None


def plain(item: Any) -> Any:
    """Return an item in REST's form, without what is empty."""
    if isinstance(item, ServiceError):
        (fault,) = item.errors
        told = {"code": item.code, "reason": item.reason, "message": item.message}
        return {"error": {**told, "pointer": fault.pointer}}
    return prune(lists(asdict(item)))


async def test_faults_have_their_place_in_the_whole_list(both: Both) -> None:
    """However it was cut."""
    texts = ["two"] * 19
    texts[11], texts[18] = "", "x" * 300
    for answer in await answers(both, "translate", "en-de", texts):
        failed = {i: item for i, item in enumerate(answer.items) if not isinstance(item, Translation)}
        assert {i: (e.reason, e.errors[0].pointer) for i, e in failed.items()} == {
            11: ("EMPTY_TEXT", "#/texts/11"),
            18: ("TEXT_TOO_LONG", "#/texts/18"),
        }


async def test_models_are_described_alike(both: Both) -> None:
    """Versions that are refused too, each with its reason; one by name as in the list."""
    first, *others = await answers(both, "models")
    assert others == [first] * 3
    by_name = {model.name: model for model in first}
    assert by_name["bare"].versions[0].reason == "MANIFEST_MISSING"
    assert by_name["shop"].features["minutes"].unit == "minutes"
    assert await answers(both, "model", "shop") == [by_name["shop"]] * 4
    said = (await both.rest.get("/v1/models")).json()["models"]
    assert [prune(lists(asdict(model))) for model in first] == [prune(model) for model in said]
