"""API keys: lines that hold their hashes, and who bears which. `service.edge.key_file` reads and writes them.

A name may have several keys, so that one can be changed for the next without a gap. A line without a hash
says what the holder of a client certificate of that name may do.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge.scopes import FORM, parse

PREFIX = "seqserve-"
"""What every key begins with, so that scanners of repositories and logs know one."""
RANDOM_BYTES = 32
ID_LENGTH = 12
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@/:+-]{1,128}$")]
Scope = Annotated[str, StringConstraints(pattern=f"^{FORM}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Line(BaseModel):
    """A line of the file, as it stands there in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name
    sha256: Digest | None = None
    scopes: tuple[Scope, ...]
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """The beginning of the hash: names a key without telling it; empty: a certificate's line."""
        return (self.sha256 or "")[:ID_LENGTH]

    @property
    def principal(self) -> Principal:
        """Who bears it, and what it lets them do."""
        return Principal(self.name, parse(self.scopes))


def new_key() -> str:
    """Return a key: 256 random bits, which no one has to stretch before they are hashed."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(key: str) -> str:
    """Return what the file holds of a key."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Keys:
    """The lines of a file, to be asked who bears a key."""

    def __init__(self, lines: Iterable[Line]) -> None:
        """Raises ValueError where a key or a certificate's name is there twice."""
        self._bearers: Mapping[str, tuple[Line, Principal]] = _by_id(lines)
        self._seen: dict[str, tuple[Line, Principal]] = {}
        """By the keys that have come: hashing one again for each call takes longer than all else of it. Only
        keys of the file are kept, so they are no more than its lines."""

    def bearer(self, key: str) -> Principal | None:
        """Return who bears a key; None: it is no key of the file.

        Raises:
            Unauthenticated: it has expired.
        """
        found = self._seen.get(key) or self._found(key)
        if found is None:
            return None
        line, principal = found
        if line.expires is not None and line.expires <= datetime.now(UTC):
            advice = f"ask for a new one: seqserve keys add {line.name}"
            raise errors.Unauthenticated(f"API key {line.id} expired at {line.expires:%FT%TZ}; {advice}")
        return principal

    def _found(self, key: str) -> tuple[Line, Principal] | None:
        # The time that finding takes tells of the hash's beginning, which helps nobody: it cannot be chosen.
        digest = digest_of(key)
        found = self._bearers.get(digest[:ID_LENGTH])
        if found is None or not hmac.compare_digest(found[0].sha256 or "", digest):
            return None
        self._seen[key] = found
        return found

    def holder(self, certificate: str) -> Principal | None:
        """Return who holds the certificate of a name; None: the file has no line for it."""
        found = self._bearers.get(_certificate_id(certificate))
        return None if found is None else found[1]


def _by_id(lines: Iterable[Line]) -> dict[str, tuple[Line, Principal]]:
    found: dict[str, tuple[Line, Principal]] = {}
    for line in lines:
        id = line.id or _certificate_id(line.name)
        if id in found:
            what = f"key {line.id}" if line.id else "certificate"
            raise ValueError(f"{what} of {line.name} is there twice")
        found[id] = line, line.principal
    return found


def _certificate_id(name: str) -> str:
    return f"certificate {name}"  # no hash begins so
