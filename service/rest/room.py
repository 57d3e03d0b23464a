"""Room for REST connections: how many are open, in all and of one address."""

from seqserve.service import errors
from seqserve.service.edge.addresses import Addresses

RETRY_SECONDS = 1.0


class Room:
    """Counts open connections.

    Args:
        most: that may be open at once.
        most_of_one: likewise, of one address; a trusted proxy's are many callers' and have no such limit.
    """

    def __init__(self, most: int, most_of_one: int, addresses: Addresses) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._addresses = addresses
        self._of: dict[str, int] = {}
        self.taken = 0

    def enter(self, peer: str) -> None:
        """Count one more, of a peer's address.

        Raises:
            TooManyConnections: there is no room; it is not counted.
        """
        caller = self._addresses.caller(peer)
        of_one = self._of.get(caller, 0)
        if self.taken >= self._most:
            raise _too_many(
                f"{self.taken} connections are open, all that rest_connections leaves room for",
                "rest_connections",
            )
        if of_one >= self._most_of_one and not self._addresses.is_trusted(peer):
            raise _too_many(
                f"{of_one} connections of this address are open, all that rest_connections_per_address "
                "allows",
                "rest_connections_per_address",
            )
        self._of[caller] = of_one + 1
        self.taken += 1

    def leave(self, peer: str) -> None:
        """Count one less."""
        caller = self._addresses.caller(peer)
        self._of[caller] -= 1
        if not self._of[caller]:
            del self._of[caller]
        self.taken -= 1


def _too_many(what: str, limit: str) -> errors.TooManyConnections:
    message = f"{what}; use one again, or try later"
    return errors.TooManyConnections(message, retry_after=RETRY_SECONDS, limit=limit)
