"""Whether callers may be sent here: enough models could be called once, and the backend can be reached."""

import asyncio
from collections.abc import Collection
from typing import Literal

from seqserve.service import errors
from seqserve.service.backend.base import Backend
from seqserve.service.core.standing import RETRY_SECONDS, ModelStanding, not_ready
from seqserve.service.errors import SeqserveError

GRACE_SECONDS = 10.0
MOST_NAMED = 10


class Readiness:
    """Remembers whether there were enough models, and since when the backend has been out of reach.

    Models that nobody named are those that were found: one of them of which every version is refused is not
    waited for, since that may never change.

    Args:
        needed: which models must have been callable once, `all` or `one` of them. One that is added later,
            or can be called no longer, does not undo it.
        grace: seconds for which the backend may be out of reach.
    """

    def __init__(
        self, backend: Backend, needed: Literal["all", "one"] = "all", grace: float = GRACE_SECONDS
    ) -> None:
        self._backend = backend
        self._enough = all if needed == "all" else any
        self._grace = grace
        self._were_enough = False
        self._lost_at: float | None = None  # on the loop's clock

    def observe(self, models: Collection[ModelStanding]) -> None:
        """Take in how things stand after a look at the models; the outage is timed by these calls."""
        self._seconds_lost()
        wanted = [model for model in models if self._backend.has_named_models or not model.is_refused]
        enough = bool(wanted) and self._enough(model.was_routable for model in wanted)
        self._were_enough = self._were_enough or enough

    def fault(self, models: Collection[ModelStanding], unlisted: str = "") -> SeqserveError | None:
        """Return why callers may not be sent here, naming the models that are not ready; None if they may.

        Args:
            unlisted: why it cannot be seen which models there are, if so.
        """
        outage = self.outage()
        if self._were_enough:
            return outage
        missing = _named([model for model in models if not model.was_routable])
        if not models and unlisted:
            missing = f"{missing}: {unlisted}"
        if outage is None:
            return not_ready(missing)
        return errors.BackendUnavailable(f"{outage.message}; {missing}", retry_after=outage.retry_after)

    def outage(self) -> errors.BackendUnavailable | None:
        """Return the error of a backend that has been out of reach for longer than the grace; else None."""
        lost = self._seconds_lost()
        if lost <= self._grace:
            return None
        message = f"no model server has answered for {lost:.0f} s, and {self._grace:g} s are allowed"
        return errors.BackendUnavailable(message, retry_after=RETRY_SECONDS)

    def _seconds_lost(self) -> float:
        """Return for how long the backend has been out of reach, as far as it was watched."""
        now = asyncio.get_running_loop().time()
        if self._backend.is_reachable:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = now
        return 0.0 if self._lost_at is None else now - self._lost_at


def _named(models: Collection[ModelStanding]) -> str:
    """Say of each model why it is not ready, of the first ones where there are many."""
    if not models:
        return "there is no model"
    faults = [model.fault() for model in sorted(models, key=lambda model: model.name)]
    said = [fault.message for fault in faults[:MOST_NAMED] if fault is not None]
    more = len(faults) - MOST_NAMED
    return "; ".join([*said, f"and {more} more models"] if more > 0 else said)
