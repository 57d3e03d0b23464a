"""What became of a request's items, as callers are told: faults in their places, or the whole request's."""

from collections.abc import Iterable, Sequence

from seqserve.service import errors
from seqserve.service.contract.items import FailedItem, Fault, Item
from seqserve.service.core.types import Outcome, Placed, Served
from seqserve.service.errors import SeqserveError


def may_be_gone(outcomes: Iterable[Outcome]) -> bool:
    """Tell whether the backend no longer had the version, or nobody was there to ask."""
    return any(isinstance(o, (errors.VersionNotFound, errors.BackendUnavailable)) for o in outcomes)


def is_gone(outcomes: Iterable[Outcome]) -> bool:
    """Tell whether the backend no longer had the version."""
    return any(isinstance(outcome, errors.VersionNotFound) for outcome in outcomes)


def went_away(served: Served) -> errors.BackendUnavailable:
    """Return what is told of a version that went where the caller has not asked for that one."""
    message = f"version {served.version} of model {served.model!r} went away while it was called"
    return errors.BackendUnavailable(message, retry_after=1.0)


def shown(member: str, placed: Sequence[Placed]) -> tuple[tuple[int, Item], ...]:
    """Return items behind their places, where each failed the fault."""
    return tuple((place, _shown(member, place, outcome)) for place, outcome in placed)


def settled(member: str, outcomes: Sequence[Outcome], is_whole: bool) -> tuple[Item, ...]:
    """Put each fault in its item's place.

    Raises:
        SeqserveError: every item failed, or one did of what `is_whole`; the first one's error, with a
            violation for each.
    """
    faults = [
        outcome.at(member, place)
        for place, outcome in enumerate(outcomes)
        if isinstance(outcome, SeqserveError)
    ]
    if faults and (is_whole or len(faults) == len(outcomes)):
        raise faults[0].among(tuple(violation for fault in faults for violation in fault.violations))
    return tuple(_shown(member, place, outcome) for place, outcome in enumerate(outcomes))


def _shown(member: str, place: int, outcome: Outcome) -> Item:
    if not isinstance(outcome, SeqserveError):
        return outcome
    pointer = (member, place, *outcome.path)
    return FailedItem(Fault(outcome.code.value, outcome.reason, outcome.message, pointer))
