"""Who calls: from what a call brings to a principal."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge.addresses import Addresses
from seqserve.service.edge.key_file import read_keys
from seqserve.service.edge.keys import Keys
from seqserve.service.edge.tokens import Tokens, read_jwks
from seqserve.service.followed import Followed
from seqserve.service.settings import Settings, naming

Value = TypeVar("Value")
LONGEST = 8192
"""Characters that a key or a token may have."""


class Credentials(NamedTuple):
    """What a call brings to say who makes it. A header that came several times is joined by commas, in order.

    Args:
        address: of the peer, without port; empty where there is none.
        authorization: that header's, or metadata's, value; empty: absent.
        api_key: `X-API-Key`'s.
        forwarded: `Forwarded`'s; believed only of a proxy that is trusted.
        forwarded_for: `X-Forwarded-For`'s, likewise.
        certificate: the name in the client's certificate that TLS has verified; empty: none.
    """

    address: str
    authorization: str = ""
    api_key: str = ""
    forwarded: str = ""
    forwarded_for: str = ""
    certificate: str = ""


class Recognizer:
    """Knows principals by what they bring. Without keys, tokens and certificates, by their address.

    A key or a token that is given decides, whatever certificate comes with it: a bad one is not passed over.

    Args:
        certificates: whether TLS has asked for one of an authority for callers.
    """

    def __init__(
        self,
        keys: Followed[Keys] | None = None,
        tokens: Tokens | None = None,
        *,
        certificates: bool = False,
        addresses: Addresses | None = None,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._certificates = certificates
        self._addresses = addresses or Addresses()
        self._has_secrets = keys is not None or tokens is not None
        self._must_tell = self._has_secrets or certificates

    @classmethod
    def of(cls, settings: Settings) -> "Recognizer":
        """Return the one that the settings ask for; raises SettingsUnusable, naming a file at fault."""
        keys = _followed("keys", settings.keys, read_keys)
        jwks = _followed("jwt_jwks", settings.jwt_jwks, read_jwks)
        return cls(
            keys,
            Tokens(jwks, settings.jwt_issuer, settings.jwt_audience) if jwks is not None else None,
            certificates=settings.tls_client_ca is not None,
            addresses=Addresses(settings.trusted_proxy_networks),
        )

    def principal(self, credentials: Credentials) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: nobody that is known here.
        """
        if not self._must_tell:
            return Principal(self.address(credentials))
        if self._has_secrets and (secret := _secret(credentials)):
            return self._bearer(secret)
        if self._certificates and credentials.certificate:
            return self._holder(credentials.certificate)
        raise errors.Unauthenticated(f"nobody is named: send {self._wanted()}")

    def address(self, credentials: Credentials) -> str:
        """Return the address that a call comes from, past trusted proxies; IPv6 as its network."""
        given = credentials
        return self._addresses.caller(given.address, given.forwarded, given.forwarded_for)

    def _bearer(self, secret: str) -> Principal:
        principal = self._keys.value().bearer(secret) if self._keys is not None else None
        if principal is not None:
            return principal
        if self._tokens is not None and (self._keys is None or secret.count(".") == 2):
            return self._tokens.bearer(secret)
        raise errors.Unauthenticated(f"the API key is not known here: send {self._wanted()}")

    def _holder(self, certificate: str) -> Principal:
        """Return who holds a certificate. Where there are keys, their file says what each may do.

        Where there are tokens alone, it is they that say so, and a certificate without one may do nothing.
        """
        if self._keys is None:
            return Principal(certificate, None if self._tokens is None else frozenset())
        principal = self._keys.value().holder(certificate)
        if principal is None:
            advice = f"add it: seqserve keys add {certificate[:200]} --certificate"
            message = f"the certificate's name {certificate[:200]!r} is not in the file of keys; {advice}"
            raise errors.Unauthenticated(message)
        return principal

    def _wanted(self) -> str:
        if not self._has_secrets:
            return "a client certificate with a name"
        kinds = (("an API key", self._keys), ("a token (JWT)", self._tokens))
        known = " or ".join(name for name, source in kinds if source is not None)
        return f"{known} as Authorization: Bearer, or as X-API-Key (gRPC: as metadata of the same names)"


def _secret(credentials: Credentials) -> str:
    """Return the key or token that is given; empty: none."""
    bearer, key = "", credentials.api_key
    if credentials.authorization:
        scheme, _, rest = credentials.authorization.partition(" ")
        bearer = rest.strip()
        if scheme.lower() != "bearer" or not bearer:
            raise errors.Unauthenticated("Authorization is not of the form: Bearer KEY")
    if bearer and key and bearer != key:
        raise errors.Unauthenticated("Authorization and X-API-Key differ; send one of them")
    if len(bearer or key) > LONGEST:
        raise errors.Unauthenticated(f"a key or token has {len(bearer or key)} characters, over {LONGEST}")
    return bearer or key


def _followed(field: str, path: Path | None, read: Callable[[Path], Value]) -> Followed[Value] | None:
    """Return the file that a setting names; raises SettingsUnusable where it cannot be used."""
    if path is None:
        return None
    with naming(field, path):
        return Followed(field, [path], partial(read, path))
