"""Where a service is, how a client names itself, and how it knows the service."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

SCHEMES = {"http": False, "https": True, "grpc": False, "grpcs": True}
"""Whether each has TLS."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates, as PEM files.

    Args:
        ca: of the authority to trust; None: the system's.
        cert: the client's own, for mutual TLS.
        key: of that; None: it is in the certificate's file.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise ValueError(f"the key {self.key} is of no certificate: give cert as well")

    def context(self) -> ssl.SSLContext:
        """Return what an HTTPS client trusts and shows; raises OSError where a file cannot be used."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def contents(self) -> list[bytes | None]:
        """Return the bytes of authority, key and certificate; raises OSError where one cannot be read."""
        paths = (self.ca, self.key or self.cert, self.cert)
        return [path.read_bytes() if path is not None else None for path in paths]


@dataclass(frozen=True, slots=True)
class Access:
    """An address and how it is called.

    Args:
        url: `http://HOST:PORT`, `https://…`, `grpc://HOST:PORT` or `grpcs://…`.
        key: API key or token; empty: none.
        tls: certificates; None: the system's authorities.
    """

    url: str
    key: str = field(default="", repr=False)
    tls: Tls | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"the address of a service begins with {schemes}, not {self.url!r}")
        if self.tls is not None and not self.has_tls:
            raise ValueError(f"certificates are for https:// and grpcs://, and {self.url!r} has no TLS")
        if not (self.key.isascii() and self.key.isprintable()) or self.key != self.key.strip():
            raise ValueError("a key is printable ASCII, without spaces or line breaks around it")
        self._check_port(parts)

    def _check_port(self, parts: SplitResult) -> None:
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"the address {self.url!r} of a service: {error}") from None
        if self.is_grpc and (parts.path.strip("/") or parts.query):
            raise ValueError(f"the address of a gRPC door is HOST:PORT, without a path: {self.url!r}")

    @property
    def is_grpc(self) -> bool:
        """Whether the door is gRPC's."""
        return self.url.startswith("grpc")

    @property
    def has_tls(self) -> bool:
        """Whether the door has TLS."""
        return SCHEMES[urlsplit(self.url).scheme]

    @property
    def address(self) -> str:
        """HOST:PORT, as gRPC takes it."""
        return urlsplit(self.url).netloc

    @property
    def naming(self) -> dict[str, str]:
        """The header, or metadata, that says who calls."""
        return {"x-api-key": self.key} if self.key else {}
