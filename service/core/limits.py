"""How much one principal may ask for: requests and cells, a second and at once. A plain state object.

The entrance takes a call's place (`calling`) before anything of it is read; the gateway takes its cells
(`computing`) once they are known and before any waits.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import uniform
from time import perf_counter

from seqserve.service import errors

BURST_SECONDS = 2.0
"""What a principal that was quiet has saved up; one request alone may ask for more."""
MOST_AT_REST = 10_000
"""Principals without an open call that are remembered: where nobody needs a key, each address is one."""
HELD_SECONDS = 10.0
"""How late a refusal is told at most."""
RETRY_SECONDS = 1.0
"""The hint where it is not known when a place will be free."""
SLACK = 1e-9
"""Seconds by which sums of times may be off."""
ANY_NUMBER = 2**63
REFUSALS = (errors.RateLimited, errors.QueueFull, errors.Draining)


@dataclass(frozen=True, slots=True)
class Shares:
    """What each principal may have; the names are those of the settings, less `principal_`.

    Args:
        requests_per_second, cells_per_second: 0: any.
        requests, cells: at once; one request alone may take more cells.
        refusals_per_second: told without delay, beyond a burst of a second's: who asks again at once, on many
            connections, is refused late, and so no oftener than is cheap. 0: any.
    """

    requests_per_second: float = 0.0
    cells_per_second: float = 0.0
    requests: int = ANY_NUMBER
    cells: int = ANY_NUMBER
    refusals_per_second: float = 0.0


@dataclass(slots=True)
class _Account:
    """One principal: what is open, and when its buckets will be full again."""

    requests: int = 0
    cells: int = 0
    requests_full: float = 0.0
    cells_full: float = 0.0
    told: float = -math.inf  # when the last refusal would be, at an even pace

    def rests(self, now: float) -> bool:
        """Tell whether it is as a new one would be."""
        is_full = max(self.requests_full, self.cells_full, self.told + 1.0) <= now
        return is_full and not self.requests and not self.cells

    def hold(self, now: float, rate: float) -> float:
        """Return by how much a refusal is told later, where `rate` a second are not.

        By chance somewhat less, so that those who are told the latest do not all come back together.
        """
        self.told = min(max(self.told, now - 1.0) + 1 / rate, now + HELD_SECONDS)
        return uniform(0.5, 1.0) * max(self.told - now, 0.0)


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

    def calling(self, name: str) -> AbstractContextManager[None]:
        """Take a place for a call of a principal, until the block ends.

        Raises:
            RateLimited: it has as many, or has had as many of late, as it may; nothing is taken.
        """
        return _Calling(self, name)

    def computing(self, name: str, cells: int, paid: int = 0) -> AbstractContextManager[None]:
        """Take a request's cells, until the block ends; a request that is refused in it has cost nothing.

        Args:
            paid: cells of the rate that the request has been charged before, for a version that went away;
                0: none, and it is charged now.

        Raises:
            RateLimited: more are open, or were of late, than go with these; nothing is taken.
        """
        return _Computing(self, name, cells, paid)

    def _call(self, account: _Account) -> None:
        """Take a place of an account; raises RateLimited."""
        shares = self._shares
        if account.requests >= shares.requests:
            taken = f"{account.requests} requests are open"
            raise self._full(account, "principal_requests", shares.requests, taken)
        setting, rate = "principal_requests_per_second", shares.requests_per_second
        account.requests_full = self._paid(account, account.requests_full, 1, rate, setting)
        account.requests += 1

    def _compute(self, account: _Account, cells: int, paid: int) -> None:
        """Take cells of an account, and charge them unless they are paid for; raises RateLimited."""
        shares = self._shares
        if account.cells and account.cells + cells > shares.cells:
            taken = f"{account.cells} cells are open, and this request takes {cells} more"
            raise self._full(account, "principal_cells", shares.cells, taken)
        if not paid:
            setting, rate = "principal_cells_per_second", shares.cells_per_second
            account.cells_full = self._paid(account, account.cells_full, cells, rate, setting)
        account.cells += cells

    def _give_back(self, account: _Account, paid: int) -> None:
        """Charge nothing for what was refused."""
        if rate := self._shares.cells_per_second:
            account.cells_full -= paid / rate

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

    def _paid(self, account: _Account, full: float, amount: int, rate: float, setting: str) -> float:
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
            message = f"{said} that SEQSERVE_{setting.upper()} allows one caller; try again in {over:.3g} s"
            raise self._refusal(account, message, over, setting)
        return now + missing

    def _full(self, account: _Account, setting: str, most: int, taken: str) -> errors.RateLimited:
        message = f"{taken}, and SEQSERVE_{setting.upper()} allows one caller {most} at once"
        return self._refusal(account, f"{message}; wait until some have ended", RETRY_SECONDS, setting)

    def _refusal(
        self, account: _Account, message: str, retry_after: float, setting: str
    ) -> errors.RateLimited:
        error = errors.RateLimited(message, retry_after=retry_after, limit=setting)
        if rate := self._shares.refusals_per_second:
            error.told_after = account.hold(self._clock(), rate)
        return error


class _Calling:
    """One call's place. Each call has some of these contexts; generators would take four times as long."""

    __slots__ = ("_account", "_limits", "_name")

    def __init__(self, limits: Limits, name: str) -> None:
        self._limits = limits
        self._name = name

    def __enter__(self) -> None:
        self._account = self._limits._opened(self._name)
        try:
            self._limits._call(self._account)
        except errors.RateLimited:
            self._limits._left(self._name, self._account)
            raise

    def __exit__(self, *_: object) -> None:
        self._account.requests -= 1
        self._limits._left(self._name, self._account)


class _Computing:
    """One request's cells."""

    __slots__ = ("_account", "_cells", "_limits", "_name", "_paid")

    def __init__(self, limits: Limits, name: str, cells: int, paid: int) -> None:
        self._limits = limits
        self._name = name
        self._cells = cells
        self._paid = paid

    def __enter__(self) -> None:
        self._account = self._limits._opened(self._name)
        try:
            self._limits._compute(self._account, self._cells, self._paid)
        except errors.RateLimited:
            self._limits._give_back(self._account, self._paid)
            self._limits._left(self._name, self._account)
            raise
        self._paid = self._paid or self._cells

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._account.cells -= self._cells
        if kind is not None and issubclass(kind, REFUSALS):
            self._limits._give_back(self._account, self._paid)
        self._limits._left(self._name, self._account)
