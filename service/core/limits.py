"""How much one principal may ask for: requests and cells, a second and at once. A plain state object.

The entrance takes a call's place (`calling`) before anything of it is read; the gateway takes its cells
(`computing`) once they are known and before any waits.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from seqserve.service import errors

BURST_SECONDS = 2.0
"""What a principal that was quiet has saved up; one request alone may ask for more."""
MOST_AT_REST = 10_000
"""Principals without an open call that are remembered: where nobody needs a key, each address is one."""
RETRY_SECONDS = 1.0
"""The hint where it is not known when a place will be free."""
SLACK = 1e-9
"""Seconds by which sums of times may be off."""
ANY_NUMBER = 2**63


@dataclass(frozen=True, slots=True)
class Shares:
    """What each principal may have; the names are those of the settings, less `principal_`.

    Args:
        requests_per_second, cells_per_second: 0: any.
        requests, cells: at once; one request alone may take more cells.
    """

    requests_per_second: float = 0.0
    cells_per_second: float = 0.0
    requests: int = ANY_NUMBER
    cells: int = ANY_NUMBER


@dataclass(slots=True)
class _Account:
    """One principal: what is open, and when its buckets will be full again."""

    requests: int = 0
    cells: int = 0
    requests_full: float = 0.0
    cells_full: float = 0.0

    def rests(self, now: float) -> bool:
        """Tell whether it is as a new one would be."""
        return not self.requests and not self.cells and max(self.requests_full, self.cells_full) <= now


class Limits:
    """Keeps every principal to its share.

    Those with something open are as many as the doors let in; of the others the latest are remembered, and
    only while a bucket of theirs is not full.
    """

    def __init__(self, shares: Shares, clock: Callable[[], float] = perf_counter) -> None:
        self._shares = shares
        self._clock = clock
        self._busy: dict[str, _Account] = {}
        self._resting: OrderedDict[str, _Account] = OrderedDict()

    def __len__(self) -> int:
        """Return how many principals are remembered."""
        return len(self._busy) + len(self._resting)

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """Take a place for a call of a principal, until the block ends.

        Raises:
            RateLimited: it has as many, or has had as many of late, as it may; nothing is taken.
        """
        shares, account = self._shares, self._opened(name)
        try:
            if account.requests >= shares.requests:
                raise _full("principal_requests", shares.requests, f"{account.requests} requests are open")
            account.requests_full = self._paid(
                account.requests_full, 1, shares.requests_per_second, "principal_requests_per_second"
            )
            account.requests += 1
            try:
                yield
            finally:
                account.requests -= 1
        finally:
            self._left(name, account)

    @contextmanager
    def computing(self, name: str, cells: int, paid: int = 0) -> Iterator[None]:
        """Take a request's cells, until the block ends; a request that is refused in it has cost nothing.

        Args:
            paid: cells of the rate that the request has been charged before, for a version that went away;
                0: none, and it is charged now.

        Raises:
            RateLimited: more are open, or were of late, than go with these; nothing is taken.
        """
        shares = self._shares
        rate, account = shares.cells_per_second, self._opened(name)
        try:
            if account.cells and account.cells + cells > shares.cells:
                taken = f"{account.cells} cells are open, and this request takes {cells} more"
                raise _full("principal_cells", shares.cells, taken)
            if not paid:
                setting = "principal_cells_per_second"
                account.cells_full = self._paid(account.cells_full, cells, rate, setting)
                paid = cells
            account.cells += cells
            try:
                yield
            finally:
                account.cells -= cells
        except (errors.RateLimited, errors.QueueFull, errors.Draining):
            if rate:
                account.cells_full -= paid / rate
            raise
        finally:
            self._left(name, account)

    def _opened(self, name: str) -> _Account:
        account = self._busy.get(name)
        if account is None:
            account = self._resting.pop(name) if name in self._resting else _Account()
            self._busy[name] = account
        return account

    def _left(self, name: str, account: _Account) -> None:
        """Let an account of which nothing is open any more rest, if its buckets are not full."""
        if account.requests or account.cells:
            return
        del self._busy[name]
        if account.rests(self._clock()):
            return
        self._resting[name] = account
        while len(self._resting) > MOST_AT_REST:
            self._resting.popitem(last=False)

    def _paid(self, full: float, amount: int, rate: float, setting: str) -> float:
        """Return when a bucket is full again once `amount` is taken; raises RateLimited if there is less.

        A bucket that is full pays for any amount, so that a large request only waits for longer.
        """
        if not rate:
            return 0.0
        now = self._clock()
        seconds = amount / rate
        missing = max(full, now) - now + seconds
        over = missing - max(BURST_SECONDS, seconds)
        if over > SLACK:
            noun = "cells" if "cells" in setting else "requests"
            said = f"{amount} {noun} would be more than the {rate:g} a second"
            raise errors.RateLimited(
                f"{said} that SEQSERVE_{setting.upper()} allows one caller; try again in {over:.3g} s",
                retry_after=over,
                limit=setting,
            )
        return now + missing


def _full(setting: str, most: int, taken: str) -> errors.RateLimited:
    message = f"{taken}, and SEQSERVE_{setting.upper()} allows one caller {most} at once"
    return errors.RateLimited(
        f"{message}; wait until some have ended", retry_after=RETRY_SECONDS, limit=setting
    )
