"""Keys and certificates that change under load: no call fails for it, and the new ones are taken."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from operator import ge
from pathlib import Path

import grpc
import httpx
import pytest
import trustme

from seqserve.service import followed
from seqserve.service.edge.keys import Line, new_key
from tests.edge.fakes import key_line, write_certificate
from tests.edge.service import OK, Doors, by_grpc, by_rest, listed, service, trusting
from tests.edge.test_tls import serial

ROUNDS = 4
Ask = Callable[[], Awaitable[str]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at by every call, not each second."""
    monkeypatch.setattr(followed, "LOOK_SECONDS", 0.0)


class Callers:
    """Some who ask again and again, one after the other each; every one must be answered."""

    def __init__(self, *asks: Ask) -> None:
        self._asks = asks
        self._counts = [0] * len(asks)
        self._answered = asyncio.Condition()
        self._end = False

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """Let them ask; raises what one of them met."""
        async with asyncio.TaskGroup() as group:
            for place in range(len(self._asks)):
                group.create_task(self._call(place))
            yield
            self._end = True

    async def more(self, least: int = 2) -> None:
        """Return when each has been answered some times more."""
        wanted = [count + least for count in self._counts]
        async with self._answered:
            await self._answered.wait_for(lambda: all(map(ge, self._counts, wanted)))

    async def _call(self, place: int) -> None:
        while not self._end:
            assert await self._asks[place]() == OK
            async with self._answered:
                self._counts[place] += 1
                self._answered.notify_all()


async def test_keys_change_under_load(tmp_path: Path) -> None:
    """Others are added, revoked and spoilt beside one that stays: that one is never refused, they are."""
    kept, other = new_key(), new_key()
    mine, theirs = key_line("kept", kept), key_line("other", other)
    path = listed(tmp_path, mine)
    async with service(keys=path) as doors, doors.rest() as rest, doors.channel() as channel:

        def asking(key: str) -> tuple[Ask, Ask]:
            naming = {"Authorization": f"Bearer {key}"}
            return lambda: by_rest(rest, "totals", naming), lambda: by_grpc(channel, "totals", naming)

        callers = Callers(*asking(kept))
        async with callers.calling():
            for _ in range(ROUNDS):
                for lines, wanted in (((mine, theirs), OK), ((mine,), "UNAUTHENTICATED")):
                    listed(tmp_path, *lines)
                    assert [await ask() for ask in asking(other)] == [wanted] * 2
                for spoilt in ("", "{", f"{mine.model_dump_json()}\n" * 2):
                    path.write_text(spoilt)
                    await callers.more()


async def test_certificates_are_renewed_under_load(tmp_path: Path) -> None:
    """Connections that are kept go on, new ones are made all the time: at both doors none ever fails."""
    authority, cert, key = trustme.CA(), tmp_path / "cert", tmp_path / "key"
    write_certificate(authority, cert, key)
    async with service(authority, tls_cert=cert, tls_key=key) as doors:
        async with doors.rest() as rest, doors.channel() as channel:
            kept = lambda: by_rest(rest, "totals", {}), lambda: by_grpc(channel, "totals", {})
            callers = Callers(*kept, *new_connections(doors))
            async with callers.calling():
                for _ in range(ROUNDS):
                    latest = renewed(authority, cert)
                    await callers.more()  # a certificate without its key is not taken
                    (tmp_path / "cert.key").replace(key)
                    await callers.more()
        for port in (doors.started.rest_port, doors.started.grpc_port):
            pem = await asyncio.to_thread(ssl.get_server_certificate, ("localhost", port))
            assert serial(pem.encode()) == serial(latest)


def renewed(authority: trustme.CA, cert: Path) -> bytes:
    """Put a new certificate in place of a file, and leave its key beside it."""
    aside = cert.with_suffix(".new")
    pem = write_certificate(authority, aside, cert.with_suffix(".key"))
    aside.replace(cert)
    return pem


def new_connections(doors: Doors) -> tuple[Ask, Ask]:
    """Return what asks each door, each time by a connection of its own."""

    async def rest() -> str:
        async with doors.rest() as client:
            return await by_rest(client, "totals", {})

    async def rpc() -> str:
        async with doors.channel() as channel:
            return await by_grpc(channel, "totals", {})

    return rest, rpc


async def test_client_certificates_name_their_holders(tmp_path: Path) -> None:
    """The same at both doors: what the keys' file says of the name; a key that comes with it decides."""
    authority, stranger = trustme.CA(), trustme.CA()
    cert, key, ca, other = tmp_path / "cert", tmp_path / "key", tmp_path / "ca", new_key()
    write_certificate(authority, cert, key)
    authority.cert_pem.write_to_path(str(ca))
    lines = (
        Line(name="batch.example", scopes=("predict:totals",)),
        key_line("other", other, "predict:other"),
    )
    path = listed(tmp_path, *lines)
    files = {"tls_cert": cert, "tls_key": key, "tls_client_ca": ca}
    async with service(authority, **files, keys=path) as doors:
        batch = authority.issue_cert("batch.example", "second.example", common_name="third")
        holder = trusting(doors, authority, batch)
        async with holder.rest() as rest, holder.channel() as channel:
            for naming, totals, others in (
                ({}, OK, "PERMISSION_DENIED"),
                ({"X-API-Key": other}, "PERMISSION_DENIED", OK),
                ({"X-API-Key": new_key()}, "UNAUTHENTICATED", "UNAUTHENTICATED"),
            ):
                for model, wanted in (("totals", totals), ("other", others)):
                    assert await by_rest(rest, model, naming) == wanted
                    assert await by_grpc(channel, model, naming) == wanted
        unknown = trusting(doors, authority, authority.issue_cert("unknown.example"))
        async with unknown.rest() as rest, unknown.channel() as channel:
            assert (
                await by_rest(rest, "totals", {}) == await by_grpc(channel, "totals", {}) == "UNAUTHENTICATED"
            )
        for nobody in (doors, trusting(doors, authority, stranger.issue_cert("batch.example"))):
            assert await answered_by_none(nobody)


async def answered_by_none(doors: Doors) -> bool:
    """Tell whether neither door takes the connection."""
    answers = []
    async with doors.rest() as rest, doors.channel() as channel:
        with contextlib.suppress(httpx.TransportError):
            answers.append(await by_rest(rest, "totals", {}))
        answers.append(await by_grpc(channel, "totals", {}))
    return answers == [grpc.StatusCode.UNAVAILABLE.name]


async def test_an_authority_alone_vouches_for_its_callers(tmp_path: Path) -> None:
    """Where no keys' file says what each may do, whoever has its certificate may do everything."""
    authority, cert, key, ca = trustme.CA(), tmp_path / "cert", tmp_path / "key", tmp_path / "ca"
    write_certificate(authority, cert, key)
    authority.cert_pem.write_to_path(str(ca))
    async with service(authority, tls_cert=cert, tls_key=key, tls_client_ca=ca) as doors:
        holder = trusting(doors, authority, authority.issue_cert("any.example"))
        async with holder.rest() as rest, holder.channel() as channel:
            assert await by_rest(rest, "totals", {}) == await by_grpc(channel, "totals", {}) == OK
