"""Certificates: what is refused, and that renewal reaches new connections alone, half of it none."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from prometheus_client import CollectorRegistry

from seqserve.service.edge.tls import Tls, certificate_name, chosen_name
from seqserve.service.followed import LOOK_SECONDS
from tests.core.fakes import Clock
from tests.edge.fakes import write_certificate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The one that everybody here trusts."""
    return trustme.CA()


def serial(pem: bytes) -> str:
    """Return a certificate's number as Python's ssl tells it."""
    from cryptography import x509

    return f"{x509.load_pem_x509_certificate(pem).serial_number:X}"


async def shown(port: int, context: ssl.SSLContext) -> str:
    """Return the number of the certificate that the server shows to a new connection."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    name = (await reader.readline()).decode()
    number = writer.get_extra_info("peercert")["serialNumber"].lstrip("0")
    writer.close()
    await writer.wait_closed()
    return f"{name.strip()} {number}"


async def test_new_connections_get_the_renewed_certificate(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Files change one after the other: whatever is met meanwhile, each connection gets a whole pair."""
    cert, key, ca = tmp_path / "cert", tmp_path / "key", tmp_path / "ca"
    old = write_certificate(authority, cert, key)
    authority.cert_pem.write_to_path(ca)
    clock, registry = Clock(), CollectorRegistry()
    context = Tls(cert, key, ca, registry, clock).ssl_context()
    gauge = "seqserve_tls_certificate_expiry_timestamp_seconds"
    first = registry.get_sample_value(gauge)

    answered: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered.append(certificate_name(writer.get_extra_info("peercert") or {}))
        writer.write(answered[-1].encode() + b"\n")
        writer.close()

    mine = ssl.create_default_context()
    authority.configure_trust(mine)
    authority.issue_cert("caller.example").configure_cert(mine)
    stranger = ssl.create_default_context()
    authority.configure_trust(stranger)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        assert await shown(port, mine) == f"caller.example {serial(old)}"
        renewed = write_certificate(authority, tmp_path / "cert.new", tmp_path / "key.new", days=9)
        (tmp_path / "cert.new").replace(cert)
        for _ in range(3):  # the certificate's key is not there yet
            clock.now += LOOK_SECONDS
            assert await shown(port, mine) == f"caller.example {serial(old)}"
        assert caplog.text.count("stays in force") == 1
        assert str(key) in caplog.text
        (tmp_path / "key.new").replace(key)
        assert await shown(port, mine) == f"caller.example {serial(old)}"  # the second is not over
        clock.now += LOOK_SECONDS
        assert await shown(port, mine) == f"caller.example {serial(renewed)}"
        assert registry.get_sample_value(gauge) != first
        answered.clear()
        with contextlib.suppress(OSError):  # by TLS 1.3 the client hears of it later
            await shown(port, stranger)
        assert not answered


def test_a_scrape_sees_a_renewed_certificate_that_nobody_has_been_shown(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """Else the alert that it ends would stay until somebody connects."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    write_certificate(authority, cert, key, days=30)
    clock, registry = Clock(), CollectorRegistry()
    tls = Tls(cert, key, None, registry, clock)
    gauge = "seqserve_tls_certificate_expiry_timestamp_seconds"
    first = registry.get_sample_value(gauge) or 0.0
    write_certificate(authority, cert, key, days=40)
    clock.now += LOOK_SECONDS
    shown = registry.get_sample_value(gauge)
    assert shown == tls.chain().ends == pytest.approx(first + 10 * 86400, abs=60)


def hostile(folder: Path, authority: trustme.CA) -> Iterator[tuple[str, list[Path]]]:
    """Yield files that are no certificate, key and authority, with what is said of them."""
    cert, key, other, text = (folder / name for name in ("cert", "key", "other", "text"))
    write_certificate(authority, cert, key)
    write_certificate(authority, folder / "cert2", other)
    text.write_text("-----BEGIN CERTIFICATE-----\nnonsense")
    yield "absent cannot be read", [folder / "absent", key, cert]
    yield "no certificate with its key", [cert, other, cert]
    yield "no certificate with its key", [text, key, cert]
    yield "no PEM of certificates", [cert, key, text]


def test_files_that_are_no_certificates(tmp_path: Path, authority: trustme.CA) -> None:
    """Each is named at the start; a key with a passphrase does not ask for it on a terminal."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    for message, paths in hostile(tmp_path, authority):
        with pytest.raises(ValueError, match=message):
            Tls(*paths, CollectorRegistry())
    cert, key = tmp_path / "cert", tmp_path / "key"
    secret = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(ValueError, match="passphrase"):
        Tls(cert, key, None, CollectorRegistry())


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ((["spiffe://a/b"], ["c.example"], ["d"]), "spiffe://a/b"),
        (([], ["c.example", "e.example"], ["d"]), "c.example"),
        (([], [], ["d"]), "d"),
        (([], [], []), ""),
    ],
)
def test_the_name_that_is_chosen(names: tuple[list[str], list[str], list[str]], chosen: str) -> None:
    """One name a certificate, whichever door reads it."""
    assert chosen_name(*names) == chosen


def test_the_log_has_no_key(tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture) -> None:
    """What is told of a bad pair is no part of it."""
    caplog.set_level(logging.DEBUG)
    cert, key = tmp_path / "cert", tmp_path / "key"
    write_certificate(authority, cert, key)
    lines = key.read_text().splitlines()
    key.write_text("\n".join([lines[0], lines[1][::-1], lines[-1]]))
    with pytest.raises(ValueError, match="no certificate") as caught:
        Tls(cert, key, None, CollectorRegistry())
    assert lines[1][::-1] not in str(caught.value) + caplog.text
