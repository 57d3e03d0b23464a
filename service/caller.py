"""What the command line's own calls read of the environment: who they are of, and whom they trust.

Apart from `service.settings`, whose import takes longer than a call. No key is taken as an argument: those
are seen by everybody on the machine.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CallerSettings:
    """SEQSERVE_API_KEY, SEQSERVE_CA, …: each field below in capitals; an empty one counts as absent.

    Args:
        api_key: the key, or token, to call with.
        api_key_file: a file that holds it, instead.
        ca: PEM of the authority of the service; turns TLS on.
        client_cert: PEM of the caller's certificate, for mutual TLS.
        client_key: PEM of its key.
    """

    api_key: str = field(default="", repr=False)
    api_key_file: Path | None = None
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> "CallerSettings":
        """Return what the environment says."""

        def path(name: str) -> Path | None:
            given = environment.get(f"SEQSERVE_{name}")
            return Path(given) if given else None

        files = (path(name) for name in ("API_KEY_FILE", "CA", "CLIENT_CERT", "CLIENT_KEY"))
        return cls(environment.get("SEQSERVE_API_KEY", ""), *files)
