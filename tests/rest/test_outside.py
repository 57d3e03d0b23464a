"""The door seen from a page of another site, from behind a proxy, and from the operators' port."""

import asyncio
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from prometheus_client import CollectorRegistry

from seqserve.service import errors
from seqserve.service.core.limits import Limits, Shares
from seqserve.service.core.types import Principal
from seqserve.service.edge.access_log import AccessLog
from seqserve.service.edge.descriptors import OPS_CONNECTIONS
from seqserve.service.edge.entrance import Entrance
from seqserve.service.edge.recognizer import Credentials, Recognizer
from seqserve.service.main import running
from seqserve.service.metrics import Metrics
from seqserve.service.rest.app import create_app, create_ops_app
from seqserve.service.settings import Settings
from tests.core.fakes import FakeBackend, totals
from tests.edge.fakes import open_entrance

CALL = "/v1/models/totals:predict"
BODY = {"sequences": [{"x": [1, 2]}]}
APP, OTHER = "https://app.example", "https://other.example"


def preflight(origin: str) -> dict[str, str]:
    """Return what a browser asks before it lets a page's script post JSON with a key."""
    wanted = {"Method": "POST", "Headers": "authorization,content-type,x-request-id"}
    return {"Origin": origin, **{f"Access-Control-Request-{name}": value for name, value in wanted.items()}}


@pytest.mark.parametrize(
    ("origins", "allowed", "refused"),
    [
        (APP, [APP], [OTHER, "https://app.example.evil"]),
        (f"{APP}, {OTHER}", [APP, OTHER], []),
        ("*", [APP], []),
    ],
)
async def test_pages_of_the_origins_that_are_named_may_call(
    start: Any, origins: str, allowed: list[str], refused: list[str]
) -> None:
    """Before the call and in it, errors too; and their scripts may read what there is to act on."""
    door = await start(cors_origins=origins)
    for origin in allowed:
        before = await door.client.options(CALL, headers=preflight(origin))
        assert before.status_code == 200
        assert set(re.split(", *", before.headers["access-control-allow-headers"].lower())) >= {
            "authorization",
            "content-type",
            "x-request-id",
        }
        assert "POST" in before.headers["access-control-allow-methods"]
        for body, status in ((BODY, 200), ({}, 400)):
            answer = await door.client.post(CALL, json=body, headers={"Origin": origin})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] in (origin, "*")
            assert "Retry-After" in answer.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in answer.headers
    for origin in refused:
        for answer in (
            await door.client.options(CALL, headers=preflight(origin)),
            await door.client.post(CALL, json=BODY, headers={"Origin": origin}),
        ):
            assert "access-control-allow-origin" not in answer.headers


async def test_without_the_setting_no_page_may_call(start: Any) -> None:
    door = await start()
    before = await door.client.options(CALL, headers=preflight(APP))
    assert (before.status_code, before.headers["allow"]) == (204, "OPTIONS, POST")
    assert not [name for name in before.headers if name.startswith("access-control")]


class Addresses(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href", "spec-url") and value]


@pytest.mark.parametrize("prefix", ["", "/nlp"])
@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_pages_need_nothing_but_this_door(start: Any, prefix: str, page: str) -> None:
    """What they load lies beside them, whatever path a proxy shows them at: stripped by it or left on."""
    door = await start(root_path=prefix)
    shown = await door.client.get(prefix + page)
    assert not re.findall("https?://", shown.text)
    addresses = Addresses()
    addresses.feed(shown.text)
    told = re.findall(r"url: '([^']+)'", shown.text) + addresses.found
    assert len(told) >= 3
    assert any(address.endswith("openapi.json") for address in told)
    for address in told:
        outer = urljoin(f"http://proxy/outer{prefix}{page}", address)
        assert outer.startswith(f"http://proxy/outer{prefix}/")
        loaded = await door.client.get(outer.removeprefix("http://proxy/outer"))
        assert loaded.status_code == 200, address
        assert len(loaded.content) > 1000
        stripped = await door.client.head(outer.removeprefix(f"http://proxy/outer{prefix}"))
        assert stripped.headers["content-length"] == loaded.headers["content-length"]


async def test_a_page_runs_its_own_script_and_no_other(start: Any) -> None:
    """Its policy names the script by its hash; anything else inline is not run."""
    door = await start()
    shown = await door.client.get("/docs")
    policy = shown.headers["content-security-policy"]
    assert policy.count("'sha256-") == shown.text.count("<script>") == 1
    assert "unsafe-inline" not in policy.split("script-src")[1]


async def test_a_prefix_is_read_whether_the_proxy_leaves_it_on_or_not(start: Any) -> None:
    door = await start(root_path="/nlp")
    for path in (CALL, "/nlp" + CALL):
        assert (await door.client.post(path, json=BODY)).status_code == 200
    assert (await door.client.get("/nlpx/healthz")).status_code == 404
    assert (await door.client.get("/nlp/nlp/healthz")).status_code == 404


async def test_operators_have_a_port_of_their_own(start: Any) -> None:
    """Metrics and pages are there alone, health at both, models at the public one alone."""
    door = await start(ops_port=0)
    ops_app = create_ops_app(door.gateway, door.metrics, Settings(ops_port=0), open_entrance())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(ops_app), base_url="http://ops") as ops:

        async def seen(path: str) -> tuple[int, int]:
            return (await door.client.get(path)).status_code, (await ops.get(path)).status_code

        for path in ("/healthz", "/readyz"):
            assert await seen(path) == (200, 200)
        for path in ("/metrics", "/docs", "/redoc", "/openapi.json", "/docs/swagger-ui.css"):
            assert await seen(path) == (404, 200)
        for path in ("/v1/models", "/v1/models/totals"):
            assert await seen(path) == (200, 404)
        assert CALL.replace("totals", "{model}") in (await ops.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize("given", [{}, {"ops_port": 0}])
async def test_the_service_listens_there_where_it_is_told_to(given: dict[str, int]) -> None:
    settings = Settings(rest_port=0, grpc_port=0, **given)
    async with running(settings, FakeBackend(totals)) as service, httpx.AsyncClient() as client:
        assert (service.ops_port is None) == (not given)
        port = service.ops_port or service.rest_port
        for path in ("/healthz", "/metrics", "/docs"):
            assert (await client.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(OPS_CONNECTIONS)]
        others[-1][1].write(b"GET /healthz HTTP/1.1\r\n\r\n")
        answer = await asyncio.wait_for(others[-1][0].readline(), 10)
        assert (b" 503 " in answer) == (service.ops_port is not None)
        for _, writer in others:
            writer.close()


class KnowsNobody(Recognizer):
    """Lets nobody in."""

    def principal(self, credentials: Credentials) -> Principal:
        """Raise Unauthenticated."""
        raise errors.Unauthenticated("a key is wanted")


async def test_probes_pages_and_a_browsers_question_need_no_key(start: Any) -> None:
    """Calls, models and metrics do: nobody is told more than that the service is there, and how to ask it."""
    door = await start()
    entrance = Entrance(KnowsNobody(), Limits(Shares()), AccessLog(), Metrics(CollectorRegistry()))
    app = create_app(door.gateway, door.metrics, Settings(cors_origins=APP), entrance)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://rest") as client:
        for path in ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json", "/docs/swagger-ui.css"):
            assert (await client.get(path)).status_code == 200
        assert (await client.options(CALL, headers=preflight(APP))).status_code == 200
        for method, path in (("GET", "/metrics"), ("GET", "/v1/models"), ("POST", CALL), ("GET", "/none")):
            refused = await client.request(method, path, headers={"Origin": APP})
            assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
            assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
