"""LibreTranslate's API over the whole service: by its own client, and beside our own door."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from seqserve.service import errors
from seqserve.service.edge.key_file import add
from seqserve.service.edge.keys import new_key
from tests.clients import said_by
from tests.doors import TEXT, Both, Row, both_doors, draining, failing, full, limited, reset, translate
from tests.edge.fakes import key_line

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAIR = {"source": "en", "target": "de"}
SCRIPT = """
from urllib.error import HTTPError
from libretranslatepy import LibreTranslateAPI
client = LibreTranslateAPI(f"http://127.0.0.1:{ports[0]}")
told = {"languages": client.languages(), "text": client.translate(%r, "en", "de")}
refused = {"detect": lambda: client.detect("two"), "pair": lambda: client.translate("two", "de", "en")}
for name, ask in refused.items():
    try:
        ask()
    except HTTPError as error:
        told[name] = [error.code, json.loads(error.read())["error"]]
print(json.dumps(told))
"""
ROWS = [
    translate(),
    translate(texts=[TEXT, "9:05 AM"]),
    translate(beam_size=3, n_best=3),
    translate(texts=[TEXT, "two"], beam_size=2, n_best=2),
    translate("EMPTY_TEXT", texts=[" "]),
    translate("EMPTY_TEXT", texts=[TEXT, ""]),
    translate("TEXT_TOO_LONG", texts=["x" * 201]),
    translate("EMPTY_REQUEST", texts=[]),
    translate("TOO_MANY_ITEMS", texts=["two"] * 9),
    translate("OPTION_OUT_OF_RANGE", beam_size=9, n_best=9),
    translate("QUEUE_FULL", state=full),
    translate("RATE_LIMITED", state=limited),
    translate("DRAINING", state=draining),
    translate("BACKEND_UNAVAILABLE", state=failing(errors.BackendUnavailable("as asked"))),
]


@pytest.mark.slow
async def test_its_own_client_translates(both: Both) -> None:
    """And is told the languages; what is not there is refused in words."""
    told = await said_by(SCRIPT % TEXT, both.started.rest_port)
    answer, _ = await both.by_rest(translate())
    assert told["text"] == answer["translations"][0]["text"]
    assert told["languages"] == [{"code": "en", "name": "en", "targets": ["de"]}]
    assert told["detect"][0] == 400
    assert "name the source" in told["detect"][1]
    assert told["pair"] == [404, "no model translates from 'de' to 'en'; /languages lists all"]


def body_of(row: Row) -> dict[str, Any]:
    """Return what asks the same."""
    texts, further = row.body["texts"], row.body.get("n_best", 1) - 1
    one = texts[0] if len(texts) == 1 else texts
    return {"q": one, **PAIR, **({"alternatives": further} if further else {})}


async def test_it_agrees_with_our_own_door(both: Both) -> None:
    """As JSON and as a form: the same texts, the same reason for what is refused; one bad text fails all."""
    for row in ROWS:
        row.state(both)
        body = body_of(row)
        answers = [await both.rest.post("/translate", json=body)]
        if body["q"]:
            answers.append(await both.rest.post("/translate", data=body))
        ours = await both.by_rest(row)
        reset(both)
        for answer in answers:
            told = answer.json()
            if row.reason is not None:
                assert told["reason"] == row.reason, row
                assert told["request_id"] == answer.headers["x-request-id"]
                continue
            items = ours[0]["translations"]
            texts = [item["text"] for item in items]
            further = [[other["text"] for other in item.get("alternatives", ())] for item in items]
            is_list = isinstance(body["q"], list)
            assert told["translatedText"] == (texts if is_list else texts[0]), row
            assert told.get("alternatives", [[]]) == (further if is_list else further[0]) or not further[0]


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({"json": {"q": TEXT, **PAIR, "format": "html"}}, 400, "UNSUPPORTED"),
        ({"json": {"q": TEXT, "source": "auto", "target": "de"}}, 400, "UNSUPPORTED"),
        ({"json": {"q": TEXT, "source": "en", "target": "nope"}}, 404, "MODEL_NOT_FOUND"),
        ({"json": {"q": TEXT, "source": "en"}}, 400, "MALFORMED_JSON"),
        ({"json": {"q": [TEXT, 2], **PAIR}}, 400, "MALFORMED_JSON"),
        ({"json": {"q": ["x" * 90_000, 2], **PAIR}}, 400, "MALFORMED_JSON"),
        ({"json": {"q": ["x" * 90_000], **PAIR}}, 400, "TEXT_TOO_LONG"),
        ({"json": PAIR}, 400, "MALFORMED_JSON"),
        ({"data": {**PAIR, "q": TEXT, "alternatives": "many"}}, 400, "MALFORMED_JSON"),
        ({"data": {**PAIR, "q": "x" * 300_000}}, 413, "BODY_TOO_LARGE"),
        ({"content": b"q=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400, None),
        ({"content": b"q", "headers": {"Content-Type": "text/plain"}}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
async def test_what_it_refuses(both: Both, sent: dict[str, Any], status: int, reason: str | None) -> None:
    answer = await both.rest.post("/translate", **sent)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason or "MALFORMED_JSON")
    assert answer.json()["error"]


async def test_who_may(root: Path, tmp_path: Path) -> None:
    """A key that may not translate with the model is told of no pair; nobody is told anything."""
    path, all_key, other = tmp_path / "keys", new_key(), new_key()
    add(path, key_line("all", all_key))
    add(path, key_line("other", other, "predict:shop"))
    async with both_doors(root, keys=path) as both:

        async def asked(method: str, place: str, key: str) -> httpx.Response:
            body = {"json": {"q": TEXT, **PAIR}} if method == "POST" else {}
            headers = {"X-API-Key": key} if key else {}
            return await both.rest.request(method, place, headers=headers, **body)

        for place in ("/translate", "/detect", "/languages"):
            method = "GET" if place == "/languages" else "POST"
            refused = await asked(method, place, "")
            assert (refused.status_code, refused.json()["reason"]) == (401, "UNAUTHENTICATED")
            assert refused.json()["error"]
            assert "www-authenticate" in refused.headers
        assert (await asked("GET", "/languages", all_key)).json() != []
        assert (await asked("POST", "/translate", all_key)).status_code == 200
        assert (await asked("GET", "/languages", other)).json() == []
        assert (await asked("POST", "/translate", other)).json()["reason"] == "MODEL_NOT_FOUND"
