"""What an address, a key and certificates may be, alike for each client and door."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme

from seqserve.client import AsyncClient, Client, Tls
from tests.client.calling import NAMES, WAYS, awaited, called

pytestmark = pytest.mark.parametrize(("door", "kind"), WAYS, ids=NAMES)


def made(kind: Any, url: str, **options: Any) -> None:
    """Make a client, and close it."""

    async def awaiting() -> None:
        await AsyncClient(url, **options).close()

    if kind is Client:
        Client(url, **options).close()
    else:
        asyncio.run(awaiting())


async def test_a_client_that_is_closed_calls_no_more(door: str, kind: Any) -> None:
    """It says so, whichever it is."""
    async with called(f"{door}://localhost:1", kind) as call:
        await awaited(call.client.close)
        with pytest.raises(RuntimeError, match=r"^the client is closed$"):
            await call("models")


def test_certificates_are_for_addresses_with_tls(door: str, kind: Any, tmp_path: Path) -> None:
    """Elsewhere they would be given for nothing, and the call go in the clear."""
    for tls in (Tls(), Tls(ca=tmp_path)):
        with pytest.raises(ValueError, match=f"'{door}://localhost:1' has no TLS"):
            made(kind, f"{door}://localhost:1", tls=tls)


def test_files_that_are_no_certificates_are_told_at_once(door: str, kind: Any, tmp_path: Path) -> None:
    """A key alone is of nothing; a certificate's file may hold its key."""
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    both, ca, wrong = tmp_path / "both", tmp_path / "ca", tmp_path / "wrong"
    own.private_key_and_cert_chain_pem.write_to_path(str(both))
    authority.cert_pem.write_to_path(str(ca))
    wrong.write_text("no certificate")
    url = f"{door}s://localhost:1"
    made(kind, url, tls=Tls(ca, both))
    for tls in (Tls(wrong), Tls(tmp_path / "absent"), Tls(ca, wrong), Tls(ca, ca), Tls(ca, both, wrong)):
        with pytest.raises(OSError, match=r"."):
            made(kind, url, tls=tls)
    with pytest.raises(ValueError, match="give cert as well"):
        Tls(ca, key=both)


@pytest.mark.parametrize("key", ["secret\n", " secret", "secrét", "sec\0ret"])
def test_a_key_that_no_header_can_have_is_refused(door: str, kind: Any, key: str) -> None:
    """And is not told: a line break is what a file often ends with."""
    with pytest.raises(ValueError, match="a key is printable ASCII") as raised:
        made(kind, f"{door}://localhost:1", key=key)
    assert "sec" not in str(raised.value)


@pytest.mark.parametrize("behind", [":port", ":99999"])
def test_a_port_is_a_number(door: str, kind: Any, behind: str) -> None:
    """Of sixteen bits."""
    with pytest.raises(ValueError, match=f"the address '{door}://localhost{behind}' of a service: Port"):
        made(kind, f"{door}://localhost{behind}")


def test_an_address_may_end_with_a_slash(door: str, kind: Any) -> None:
    """A path of a gRPC door would go for nothing."""
    made(kind, f"{door}://localhost:1/")
    if door == "grpc":
        with pytest.raises(ValueError, match="without a path"):
            made(kind, "grpc://localhost:1/seqserve")
