"""Which door an address is of. gRPC's is imported only where it is asked for: it is an extra."""

from collections.abc import Awaitable
from typing import Any, Protocol

from seqserve.client.access import Access
from seqserve.client.asking import Ask

INSTALL = "gRPC is an extra: pip install 'seqserve-client[grpc]'"


class Blocking(Protocol):
    """Sends by blocking."""

    def send(self, ask: Ask, seconds: float | None) -> Any:
        """Return the answer; raises ServiceError."""

    def close(self) -> None:
        """Close the connections; calls of other threads end."""


class Awaiting(Protocol):
    """Sends by awaiting."""

    def send(self, ask: Ask, seconds: float | None) -> Awaitable[Any]:
        """Return the answer; raises ServiceError."""

    def close(self) -> Awaitable[None]:
        """Close the connections."""


class Door(Protocol):
    """A door of a service."""

    def blocking(self) -> Blocking:
        """Return what sends by blocking."""

    def awaiting(self) -> Awaiting:
        """Return what sends by awaiting."""


def door(access: Access) -> Door:
    """Return the door at an address; raises OSError where a file of the access cannot be used."""
    if not access.is_grpc:
        from seqserve.client.rest import Rest

        return Rest(access)
    try:
        from seqserve.client.rpc import Rpc
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return Rpc(access)
