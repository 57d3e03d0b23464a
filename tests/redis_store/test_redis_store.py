"""Sessions in Redis: compare and set, two gateways over one, TLS and passwords, and a Redis that is away."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from seqserve.service import errors
from seqserve.service.core.sessions.redis_store import RedisStore
from seqserve.service.core.sessions.store import Kept
from tests.edge.fakes import write_certificate
from tests.redis_store.server import PROGRAM, Server, ends, serving
from tests.sessions import PATH, made, visiting

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="needs redis-server, which .ci/run installs"),
]
EVENT: dict[str, Any] = {"event": ["visit"], "minutes": [1]}


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Server]:
    """A Redis without a password."""
    async with serving(tmp_path) as server:
        yield server


async def test_what_is_not_as_it_was_is_not_replaced(redis: Server) -> None:
    """Of many that set at once, from two gateways, one does; each session has an end."""
    stores = [RedisStore(redis.url, 60.0), RedisStore(redis.url, 60.0)]
    assert await stores[0].get("s") is None
    assert not await stores[0].put("s", "a", Kept(1, b"x"), 0)
    assert await stores[0].put("s", "a", Kept(0, b"\x00\xff"), None)
    for number in range(5):
        assert await stores[1].get("s") == Kept(number, b"\x00\xff")
        puts = [stores[n % 2].put("s", "a", Kept(number + 1, b"\x00\xff"), number) for n in range(20)]
        assert sorted(await asyncio.gather(*puts)) == [False] * 19 + [True]
    assert 55 <= (await ends(redis.url))[0] <= 60
    await stores[0].delete("s")
    assert not await stores[1].put("s", "a", Kept(6, b""), 5)
    for store in stores:
        await store.close()


async def test_two_gateways_share_sessions(redis: Server) -> None:
    """What one acknowledged the other has; of two appends at one number one is first."""
    async with visiting(sessions=redis.url) as one, visiting(sessions=redis.url) as other:
        session = await made(one)
        for number in range(6):
            bodies = [
                {"first_event": number, "sequence": {**EVENT, "event": [label]}} for label in ("pay", "visit")
            ]
            answers = await asyncio.gather(
                *(
                    both.rest.post(f"{PATH}/{session}:append", json=body)
                    for both in (one, other)
                    for body in bodies
                )
            )
            by_label = [[answers[at].json(), answers[at + 2].json()] for at in (0, 1)]
            reasons = [
                {a.get("reason", a.get("prediction", {}).get("warnings") == []) for a in two}
                for two in by_label
            ]
            assert sorted(map(str, reasons)) == ["{'EVENT_CONFLICT'}", "{True}"]
            won = by_label[reasons.index({True})]
            assert won[0] == won[1]
        assert (await other.rest.delete(f"{PATH}/{session}")).status_code == 200
        assert (await one.rest.get(f"{PATH}/{session}")).status_code == 404


async def test_a_redis_that_is_away_is_told_and_comes_back(redis: Server) -> None:
    """Predictions go on meanwhile; nothing that was acknowledged is lost."""
    async with visiting(sessions=redis.url) as both:
        session = await made(both)
        body = {"first_event": 0, "sequence": EVENT}
        first = (await both.rest.post(f"{PATH}/{session}:append", json=body)).json()
        await redis.kill()
        refused = await both.rest.post(f"{PATH}/{session}:append", json={**body, "first_event": 1})
        assert (refused.status_code, refused.json()["reason"]) == (503, "SESSIONS_UNAVAILABLE")
        assert refused.headers["retry-after"]
        predicted = await both.rest.post("/v1/models/visits:predict", json={"sequences": [EVENT]})
        assert predicted.status_code == 200
        await redis.start()
        assert (await both.rest.post(f"{PATH}/{session}:append", json=body)).json() == first


async def test_tls_and_passwords(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = tmp_path / "redis.pem", tmp_path / "redis.key", tmp_path / "ca.pem"
    write_certificate(authority, files[0], files[1])
    authority.cert_pem.write_to_path(str(files[2]))
    word = tmp_path / "password"
    word.write_text("open sesame\n")
    async with serving(tmp_path, "--requirepass", "open sesame", tls=files) as server:
        url = f"{server.url}?ssl_ca_certs={files[2]}"
        async with visiting(sessions=url, sessions_password_file=word) as both:
            await made(both)
        wrong = [
            RedisStore(url, 60.0, "wrong"),
            RedisStore(url, 60.0),
            RedisStore(server.url, 60.0, "open sesame"),
            RedisStore(server.url.replace("rediss", "redis"), 60.0, "open sesame"),
        ]
        for store in wrong:
            with pytest.raises(errors.SessionsUnavailable) as caught:
                await store.get("s")
            assert "sesame" not in caught.value.message
            await store.close()
        right = RedisStore(url.replace("://", "://:open%20sesame@"), 60.0)
        assert await right.get("s") is None
        await right.close()
