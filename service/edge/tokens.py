"""Callers' tokens (JWT, RFC 7519): signed by a key of a file (JWKS), of one issuer, for one audience.

Who bears one is its `sub`; what they may do, its `scope` (RFC 9068): `translate:en-de predict:*`. One without
a scope of this service may do nothing.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import orjson

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge import scopes
from seqserve.service.followed import Followed, read_file

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""By a key's type and curve. None is symmetric: who verifies by such a key can also sign."""
LEAST_RSA_BITS = 2048
LEEWAY_SECONDS = 30
"""How far the clocks of issuer and service may be apart."""
MOST_KEPT = 4096
LONGEST_SUBJECT = 256
CLAIMS = ("exp", "iss", "aud", "sub")


class UnknownKey(jwt.PyJWTError):
    """A token's `kid` is no key's of the set."""


FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired; ask its issuer for a new one"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidIssuerError, "its iss is not the issuer that this service trusts"),
    (jwt.InvalidAudienceError, "its aud does not name this service"),
    (jwt.MissingRequiredClaimError, f"it lacks one of the claims {', '.join(CLAIMS)}"),
    (jwt.InvalidAlgorithmError, "its alg is none that its key is for"),
    (UnknownKey, "its kid is none of the keys of its issuer that this service has"),
    (jwt.InvalidSignatureError, "its signature is not of the key that its kid names"),
)
"""What is said of a token that is refused; of any other fault, that it is no token."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of the issuer's, and the algorithms that it is for."""

    key: Any
    algorithms: tuple[str, ...]


Jwks = Mapping[str | None, SigningKey]
"""By `kid`; None: the only key of a set may lack one."""


class Tokens:
    """Knows who bears a token. Those that were found good are kept, by their hashes, until they end.

    Args:
        now: Unix time, by which kept tokens end.
    """

    def __init__(
        self, jwks: Followed[Jwks], issuer: str, audience: str, now: Callable[[], float] = time.time
    ) -> None:
        self._jwks = jwks
        self._issuer = issuer
        self._audience = audience
        self._now = now
        self._verified_by: Jwks = {}
        self._kept: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def bearer(self, token: str) -> Principal:
        """Return who bears a token.

        Raises:
            Unauthenticated: it is not good, for one of the reasons in FAULTS.
        """
        keys = self._jwks.value()
        if keys is not self._verified_by:  # what a key has signed that is gone is not good any more
            self._kept.clear()
            self._verified_by = keys
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        principal, ends = self._kept.get(digest, (None, 0.0))
        if principal is None or ends <= self._now():
            principal, ends = self._verified(token, keys)
            self._keep(digest, principal, ends)
        return principal

    def _keep(self, digest: bytes, principal: Principal, ends: float) -> None:
        self._kept[digest] = principal, ends
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)

    def _verified(self, token: str, keys: Jwks) -> tuple[Principal, float]:
        try:
            key = _key_of(token, keys)
            claims = jwt.decode(
                token,
                key.key,
                key.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": list(CLAIMS)},
            )
            return _principal(claims), float(claims["exp"]) + LEEWAY_SECONDS
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            known = (said for kind, said in FAULTS if isinstance(error, kind))
            why = next(known, "it is no token that can be verified here")
            raise errors.Unauthenticated(f"the token is not accepted: {why}") from None


def read_jwks(path: Path) -> Jwks:
    """Read the keys of a set (RFC 7517) that sign.

    Raises:
        ValueError: the file is none, has none, or has one that must not be trusted.
    """
    content = read_file(path)
    try:
        entries = orjson.loads(content)["keys"]
        signing = [entry for entry in entries if entry.get("use", "sig") == "sig"]
        keys = {entry.get("kid"): _signing_key(entry) for entry in signing}
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no JWKS: {error!r}") from None
    except (ValueError, jwt.PyJWTError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not keys or len(keys) != len(signing) or (None in keys and len(keys) > 1):
        raise ValueError(f"{path} must have keys that sign, each with a kid of its own")
    return keys


def _signing_key(entry: Mapping[str, Any]) -> SigningKey:
    kind = entry["kty"], entry.get("crv", "")
    fitting = ALGORITHMS.get(kind, ())
    algorithms = tuple(name for name in fitting if name == entry.get("alg", name))
    if not algorithms or "d" in entry:
        names = ", ".join(sorted({name for group in ALGORITHMS.values() for name in group}))
        raise ValueError(f"key {entry.get('kid')!r} of kind {kind} is no public key of {names}")
    key = jwt.PyJWK(dict(entry), algorithms[0]).key
    if kind[0] == "RSA" and key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"key {entry.get('kid')!r} has {key.key_size} bits, fewer than {LEAST_RSA_BITS}")
    return SigningKey(key, algorithms)


def _key_of(token: str, keys: Jwks) -> SigningKey:
    """Return the key that a token says it is signed by; raises where there is none."""
    kid = jwt.get_unverified_header(token).get("kid")
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    if kid not in keys:
        raise UnknownKey
    return keys[kid]


def _principal(claims: Mapping[str, Any]) -> Principal:
    subject, scope = claims["sub"], claims.get("scope", "")
    if not 0 < len(subject) <= LONGEST_SUBJECT:
        raise ValueError("sub is empty or too long")
    return Principal(subject, scopes.parse(scope.split() if isinstance(scope, str) else ()))
