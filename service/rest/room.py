"""Room for REST connections: how many are open, in all and of one address."""

from seqserve.service import errors

RETRY_SECONDS = 1.0


class Room:
    """Counts open connections.

    Args:
        most: that may be open at once.
        most_of_one: likewise, of one address.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._of: dict[str, int] = {}
        self.taken = 0

    def enter(self, address: str) -> None:
        """Count one more.

        Raises:
            TooManyConnections: there is no room; it is not counted.
        """
        of_one = self._of.get(address, 0)
        if self.taken >= self._most:
            raise _too_many(
                f"{self.taken} connections are open, the most that rest_connections leaves room for",
                "rest_connections",
            )
        if of_one >= self._most_of_one:
            raise _too_many(
                f"{of_one} connections of this address are open, the most that rest_connections_per_address "
                f"allows",
                "rest_connections_per_address",
            )
        self._of[address] = of_one + 1
        self.taken += 1

    def leave(self, address: str) -> None:
        """Count one less."""
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]
        self.taken -= 1


def _too_many(what: str, limit: str) -> errors.TooManyConnections:
    message = f"{what}; use one again, or try later"
    return errors.TooManyConnections(message, retry_after=RETRY_SECONDS, limit=limit)
