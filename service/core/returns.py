"""When those who are refused are to come back: as many a second as can be answered. A plain state object.

Each is told the time at which its rows would be done if all who were refused before it came back as they were
told, and were answered one after the other. So a crowd that heeds it makes about one refusal for an answer,
however many it are and whatever they are refused at once. A principal is told no later than it would be if
only its own were before it and all principals shared: another's flood does not send it away for long.
"""

from random import uniform

FIRST = 1.0
"""Seconds after which at the earliest somebody is to come back."""
LAST = 60.0
"""And at the latest: times beyond that are not given."""
SPREAD = 3.0
"""Who has nobody before it comes back after one to so many times the wait in the queue."""
HELD_SECONDS = 10.0
"""How late at most a refusal is told beyond `TOLD` a second."""
TOLD = 200
"""Refusals a second that are told at once, where no more can be answered, beyond a burst of a minute's: those
who heed what they are told never are more."""
MOST_PRINCIPALS = 10_000
"""Those that are remembered: where nobody needs a key, each address is one."""
LOOK_SECONDS = 1.0
"""How often those are forgotten whose times have passed."""


class Returns:
    """The times that have been given, of one model."""

    def __init__(self) -> None:
        self._all = 0.0  # the last time that has been given
        self._own: dict[str, float] = {}  # likewise, of each principal by itself
        self._told = -LAST  # when the last refusal would be, at an even pace
        self._looked = 0.0

    def __len__(self) -> int:
        """Return how many principals are remembered."""
        return len(self._own)

    def give(self, principal: str, seconds: float, wait: float, now: float) -> tuple[float, float]:
        """Return after how many seconds a request is to come again, and by how many this is told later.

        Args:
            seconds: that its rows take the backend; 0: not known.
            wait: seconds of the queue.
        """
        self._look(now)
        least = min(max(wait, FIRST), LAST)
        own = max(self._own.pop(principal, 0.0), now + least) + seconds * (len(self._own) + 1)
        self._own[principal] = own = min(own, now + LAST)
        self._all = min(max(self._all, now + least) + seconds, now + LAST)
        self._told = max(self._told, now - LAST) + min(seconds, 1 / TOLD)
        at = min(own, self._all)
        is_held = self._told > now and at == now + LAST
        after = max(at - now, uniform(least, min(SPREAD * least, LAST)))
        return after, uniform(0.5, 1.0) * HELD_SECONDS if is_held else 0.0

    def _look(self, now: float) -> None:
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._own = {name: at for name, at in self._own.items() if at > now}
        if len(self._own) >= MOST_PRINCIPALS:
            del self._own[next(iter(self._own))]
