"""TLS of both doors: this service's certificate and the authority of its callers', read again when renewed.

    tls = Tls(cert, key, client_ca, registry)
    tls.ssl_context()      what the REST server listens with
    tls.chain()            what the gRPC server asks for before each handshake

Where there is a `client_ca`, nobody connects without a certificate of that authority, at either door: gRPC
has nothing between asking for one and demanding it.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from cryptography import x509
from prometheus_client import CollectorRegistry

from seqserve.service.followed import Followed, read_file
from seqserve.service.metrics import TlsMetrics
from seqserve.service.settings import Settings, naming


@dataclass(frozen=True, slots=True)
class Chain:
    """The files' PEM, which belong together, and the same as a context.

    Args:
        ends: when the first certificate of the chain ends, in Unix time.
    """

    cert: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext
    ends: float


class Tls:
    """The certificates of both doors. Connections that are open keep the ones that they began with.

    Args:
        cert: PEM of the certificate, and of those between it and its authority.
        key: PEM of its key, without a passphrase.
        client_ca: PEM of the authority of callers' certificates.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None,
        registry: CollectorRegistry,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Read the files; raises ValueError, naming the one that is at fault."""
        paths = [path for path in (cert, key, client_ca) if path is not None]
        self._chain = Followed("the certificates", paths, lambda: _read(cert, key, client_ca), clock)
        # where nobody connects, a scrape alone sees that they were renewed
        TlsMetrics(registry).expiry.set_function(lambda: self.chain().ends)

    @classmethod
    def of(cls, settings: Settings, registry: CollectorRegistry) -> "Tls | None":
        """Return what the settings ask for; None: no TLS. Raises SettingsUnusable, naming the files."""
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        with naming("tls_cert", settings.tls_cert):
            return cls(settings.tls_cert, settings.tls_key, settings.tls_client_ca, registry)

    def chain(self) -> Chain:
        """Return the certificates as they are now; any thread may ask."""
        return self._chain.value()

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context for a server, in which each new connection gets the certificates of its time."""
        context = _Renewed(ssl.PROTOCOL_TLS_SERVER)
        context.chain = self._chain
        return context


class _Renewed(ssl.SSLContext):
    """Hands each new connection to the context of the files as they are then.

    Loading new files into the one that listens would leave it with a certificate and another's key, where the
    second file cannot be used.
    """

    chain: Followed[Chain]

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self.chain.value().context.wrap_bio(*arguments, **options)


def certificate_name(peer: Mapping[str, Any]) -> str:
    """Return a client's name, from what `SSLObject.getpeercert()` tells of its certificate; empty: none."""
    alternatives = peer.get("subjectAltName", ())
    return chosen_name(
        [value for kind, value in alternatives if kind == "URI"],
        [value for kind, value in alternatives if kind == "DNS"],
        [value for part in peer.get("subject", ()) for kind, value in part if kind == "commonName"],
    )


def chosen_name(uris: Sequence[str], hosts: Sequence[str], common_names: Sequence[str]) -> str:
    """Return what a certificate's holder goes by: its first URI (SPIFFE's), else DNS name, else CN."""
    return next(iter((*uris, *hosts, *common_names)), "")


def _read(cert: Path, key: Path, client_ca: Path | None) -> Chain:
    own, secret, authority = read_file(cert), read_file(key), None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_refused)
        ends = min(part.not_valid_after_utc for part in x509.load_pem_x509_certificates(own))
    except (OSError, ValueError) as error:
        raise ValueError(f"{cert} and {key} are no certificate with its key: {error}") from error
    if client_ca is not None:
        authority = read_file(client_ca)
        _demand(context, authority, client_ca)
    return Chain(own, secret, authority, context, ends.timestamp())


def _demand(context: ssl.SSLContext, authority: bytes, path: Path) -> None:
    """Let nobody connect without a certificate of an authority."""
    try:
        context.load_verify_locations(cadata=authority.decode("ascii"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no PEM of certificates: {error}") from error
    context.verify_mode = ssl.CERT_REQUIRED


def _refused() -> str:
    raise ValueError("the key has a passphrase, which nobody is here to give")
